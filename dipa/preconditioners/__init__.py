"""Preconditioners of the data-fidelity gradient, all behind ``P(gradient, iterate, k) ->
direction``.
"""

from .base import Identity, Preconditioner, Traits
from .combined import CombinedSteps
from .composed import ComposedPreconditioner
from .fixed import Hessian, Polynomial
from .fourier import FourierSteps
from .linear import LinearPreconditioner
from .neural import NeuralPreconditioner
from .nystrom import Nystrom
from .per_iteration import ConvolutionalSteps, LinearSteps, PointwiseSteps, ScalarSteps

__all__ = [
    "ConvolutionalSteps",
    "CombinedSteps",
    "ComposedPreconditioner",
    "FourierSteps",
    "Hessian",
    "Identity",
    "LinearPreconditioner",
    "LinearSteps",
    "NeuralPreconditioner",
    "Nystrom",
    "PointwiseSteps",
    "Polynomial",
    "Preconditioner",
    "ScalarSteps",
    "Traits",
]
