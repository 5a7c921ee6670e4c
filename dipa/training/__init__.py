"""Training: the teacher's targets, the distillation loop and its checkpoints."""

from ..losses import LossWeights
from .checkpoint import load_checkpoint, save_checkpoint
from .distill import Budget, Fit, distill
from .teacher import TeacherTargets, teacher_targets

__all__ = ["Budget", "Fit", "LossWeights", "TeacherTargets", "distill", "load_checkpoint", "save_checkpoint", "teacher_targets"]
