"""Training: the teacher's targets, distillation, end-to-end networks, step lengths, the loop they
share and its checkpoints.
"""

from ..settings import Budget, Differentiation, LossWeights, Phase, Variations
from .checkpoint import load_checkpoint, save_checkpoint
from .closed_form import fit_steps
from .distill import distill
from .equilibrium import train_equilibrium
from .fitted_lengths import FittedLengths, fit_lengths
from .loop import Fit
from .network import train_network
from .ridge import fit_ridge
from .step_lengths import train_steps
from .teacher import TeacherTargets, teacher_targets

__all__ = [
    "Budget",
    "Differentiation",
    "Fit",
    "FittedLengths",
    "LossWeights",
    "Phase",
    "TeacherTargets",
    "Variations",
    "distill",
    "fit_lengths",
    "fit_ridge",
    "fit_steps",
    "load_checkpoint",
    "save_checkpoint",
    "teacher_targets",
    "train_equilibrium",
    "train_network",
    "train_steps",
]
