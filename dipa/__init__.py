"""Distilled Preconditioned Algorithms: learned preconditioners for plug-and-play reconstruction, over deepinv.

The whole of it in a sentence::

    student = dipa.operators.single_pixel((1, 32, 32), ratio=0.2)
    teacher = dipa.operators.single_pixel((1, 32, 32), ratio=0.7)
    solver = dipa.FISTA(prior=dipa.PnP(dipa.denoisers.load()), iterations=20)
    P = dipa.LinearPreconditioner.identity(student)
    fit = dipa.distill(solver, P, student, teacher, images, losses=dipa.LossWeights(imitation=1.0))
    x_hat = solver(y, student, preconditioner=fit.preconditioner, stepsize=0.4).x
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .preconditioners import Preconditioner
    from .training import Fit

__version__ = "0.3.0"

# Torch takes seconds to import, in which the command line must already answer Ctrl-C: a name is imported when first used.
MODULES = (
    "analysis",
    "checks",
    "data",
    "declared",
    "denoisers",
    "endtoend",
    "files",
    "interop",
    "linalg",
    "losses",
    "metrics",
    "networks",
    "operators",
    "paths",
    "preconditioners",
    "priors",
    "seeding",
    "solvers",
    "training",
)
HOMES = {
    "checks": ("InputError",),
    "interop": ("to_deepinv",),
    "losses": ("LossWeights",),
    "preconditioners": (
        "ConvolutionalSteps",
        "Hessian",
        "Identity",
        "LinearPreconditioner",
        "LinearSteps",
        "NeuralPreconditioner",
        "PointwiseSteps",
        "Polynomial",
        "Preconditioner",
        "ScalarSteps",
        "load",
    ),
    "priors": ("RED", "PnP"),
    "solvers": ("FISTA", "Result"),
    "training": ("Budget", "Fit", "distill", "train_network"),
}
_HOME = {name: home for home, names in HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES, *_HOME})


def save(fit: Fit | Preconditioner, path: str | Path) -> Path:
    """Write a fitted (or plain) preconditioner as safetensors, with the record of what made it; no pickle.

    Read it back with :func:`dipa.load`, which returns the preconditioner and the record.
    """
    from .preconditioners import save as write
    from .training import Fit

    if isinstance(fit, Fit):
        return write(fit.preconditioner, path, fit.record)
    return write(fit, path)


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
