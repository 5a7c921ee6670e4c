"""Distilled Preconditioned Algorithms: learned preconditioners for plug-and-play reconstruction,
over deepinv.

The whole of it in a sentence::

    student = dipa.operators.single_pixel((1, 32, 32), ratio=0.2)
    teacher = dipa.operators.single_pixel((1, 32, 32), ratio=0.7)
    solver = dipa.FISTA(prior=dipa.PnP(dipa.denoisers.load()), iterations=20)
    P = dipa.LinearPreconditioner.identity(student)
    fit = dipa.distill(solver, P, student, teacher, images, losses=dipa.LossWeights(imitation=1.0))
    x_hat = solver(y, student, preconditioner=fit).x
"""

from __future__ import annotations

from .lazy import lazy

__version__ = "0.3.0"

# Torch takes seconds to import, in which the command line must already answer Ctrl-C: a name is
# imported when first used.
MODULES = (
    "analysis",
    "checks",
    "choices",
    "comparison",
    "data",
    "physics",
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
    "settings",
    "solvers",
    "storage",
    "trained",
    "training",
)
HOMES = {
    "analysis": ("Inspection", "inspect"),
    "checks": ("InputError",),
    "comparison": ("Comparison", "compare"),
    "interop": ("to_deepinv",),
    "preconditioners": (
        "CombinedSteps",
        "ComposedPreconditioner",
        "ConvolutionalSteps",
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
    ),
    "priors": ("RED", "PnP", "Prox"),
    "settings": ("Budget", "LossWeights", "Phase", "Variations"),
    "solvers": ("FISTA", "Result"),
    "trained": ("load", "save"),
    "training": ("Fit", "distill", "fit_steps", "train_network"),
}
__getattr__, __dir__ = lazy(__name__, MODULES, HOMES)


__all__ = [
    "FISTA",
    "RED",
    "Budget",
    "CombinedSteps",
    "Comparison",
    "ComposedPreconditioner",
    "ConvolutionalSteps",
    "Fit",
    "FourierSteps",
    "Hessian",
    "Identity",
    "InputError",
    "Inspection",
    "LinearPreconditioner",
    "LinearSteps",
    "LossWeights",
    "NeuralPreconditioner",
    "Nystrom",
    "Phase",
    "PnP",
    "PointwiseSteps",
    "Polynomial",
    "Preconditioner",
    "Prox",
    "Result",
    "ScalarSteps",
    "Variations",
    "analysis",
    "compare",
    "data",
    "denoisers",
    "distill",
    "endtoend",
    "fit_steps",
    "inspect",
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
