"""Distilled Preconditioned Algorithms: learned preconditioners for plug-and-play reconstruction, over deepinv.

The whole of it in a sentence::

    student = dipa.operators.single_pixel((1, 32, 32), ratio=0.2)
    teacher = dipa.operators.single_pixel((1, 32, 32), ratio=0.7)
    solver = dipa.FISTA(prior=dipa.PnP(dipa.denoisers.load()), iterations=20)
    P = dipa.LinearPreconditioner.identity(student)
    fit = dipa.distill(solver, P, student, teacher, images, losses=dipa.LossWeights(imitation=1.0))
    x_hat = solver(y, student, preconditioner=fit.preconditioner, stepsize=0.4).x
"""

from pathlib import Path

from . import analysis, data, denoisers, endtoend, losses, metrics, networks, operators, preconditioners, solvers
from .checks import InputError
from .interop import to_deepinv
from .losses import LossWeights
from .preconditioners import (
    ConvolutionalSteps,
    Hessian,
    Identity,
    LinearPreconditioner,
    LinearSteps,
    NeuralPreconditioner,
    PointwiseSteps,
    Polynomial,
    Preconditioner,
    ScalarSteps,
    load,
)
from .preconditioners import save as _save
from .priors import RED, PnP
from .solvers import FISTA, Result
from .training import Budget, Fit, distill, train_network

__version__ = "0.3.0"


def save(fit: "Fit | Preconditioner", path: str | Path) -> Path:
    """Write a fitted (or plain) preconditioner as safetensors, with the record of what made it; no pickle.

    Read it back with :func:`dipa.load`, which returns the preconditioner and the record.
    """
    if isinstance(fit, Fit):
        return _save(fit.preconditioner, path, fit.record)
    return _save(fit, path)


__all__ = [
    "FISTA",
    "RED",
    "Budget",
    "ConvolutionalSteps",
    "Fit",
    "Hessian",
    "Identity",
    "InputError",
    "LinearPreconditioner",
    "LinearSteps",
    "LossWeights",
    "NeuralPreconditioner",
    "PnP",
    "PointwiseSteps",
    "Polynomial",
    "Preconditioner",
    "Result",
    "ScalarSteps",
    "analysis",
    "data",
    "denoisers",
    "distill",
    "endtoend",
    "load",
    "losses",
    "metrics",
    "networks",
    "operators",
    "preconditioners",
    "save",
    "solvers",
    "to_deepinv",
    "train_network",
]
