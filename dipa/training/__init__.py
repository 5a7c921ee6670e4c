"""Training: the teacher's targets, distillation, end-to-end networks, the loop they share and its checkpoints."""

from ..settings import Budget, Differentiation, LossWeights
from .checkpoint import load_checkpoint, save_checkpoint
from .distill import Fit, distill
from .network import NetworkFit, train_network
from .teacher import TeacherTargets, teacher_targets

__all__ = [
    "Budget",
    "Differentiation",
    "Fit",
    "LossWeights",
    "NetworkFit",
    "TeacherTargets",
    "distill",
    "load_checkpoint",
    "save_checkpoint",
    "teacher_targets",
    "train_network",
]
