"""Preconditioners of the data-fidelity gradient, all behind ``P(gradient, iterate, k) ->
direction``.
"""

from .base import Identity, Preconditioner, Traits
from .fixed import Hessian, Polynomial
from .fourier import FourierSteps
from .linear import LinearPreconditioner
from .neural import NeuralPreconditioner
from .per_iteration import ConvolutionalSteps, LinearSteps, PointwiseSteps, ScalarSteps

__all__ = [
    "ConvolutionalSteps",
    "FourierSteps",
    "Hessian",
    "Identity",
    "LinearPreconditioner",
    "LinearSteps",
    "NeuralPreconditioner",
    "PointwiseSteps",
    "Polynomial",
    "Preconditioner",
    "ScalarSteps",
    "Traits",
]
