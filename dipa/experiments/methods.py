"""The preconditioner or network of each method, made or trained as a configuration says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from .. import cache, endtoend
from ..preconditioners import (
    ConvolutionalSteps,
    Hessian,
    LinearPreconditioner,
    LinearSteps,
    NeuralPreconditioner,
    PointwiseSteps,
    Polynomial,
    Preconditioner,
    ScalarSteps,
)
from ..training import Fit, NetworkFit, distill, train_network
from .config import END_TO_END
from .problem import Problem


def make(problem: Problem, checkpoint: Path | None, *, progress: bool, report: Callable | None = None) -> Fit | NetworkFit | None:
    """What the configured method tests: None (baseline), fixed, closed form, or trained (resumed from ``checkpoint``)."""
    config = problem.config
    if config.method == "baseline":
        return None
    common = {"seed": config.seed, "checkpoint": checkpoint, "progress": progress, "report": report}
    images = problem.train.images[: config.data.train_count]
    if config.method in END_TO_END:
        network = endtoend.build(config.method, **_network_size(problem)).to(problem.device)
        return train_network(network, problem.student, images, budget=config.training, **common)
    start = MAKERS[config.method](problem).to(problem.device)
    if not config.trained:
        return Fit(start, [], {"training_seconds": 0.0})
    solver = config.solver
    options = {"losses": config.losses, "budget": config.training, "cache": cache.directory()}
    options |= {
        "stepsize": solver.stepsize,
        "teacher_stepsize": solver.teacher_stepsize,
        "differentiation": config.differentiation,
    }
    fit = distill(problem.solver, start, problem.student, problem.teacher, images, **options, **common)
    if isinstance(start, NeuralPreconditioner):
        start.precision = "float32"  # trained in the configured precision, tested and kept in float32
    return fit


def _ridge(problem: Problem) -> LinearPreconditioner:
    config, start = problem.config, problem.config.preconditioner
    alpha = problem.solver.stepsize(config.solver.stepsize, problem.student, problem.img_size)
    options = {"regularization": start.regularization, "null_weight": start.null_weight, "complement": start.complement}
    options |= {"form": start.form, "planes": start.planes}
    images = problem.train.take(config.data.ridge_count)
    return LinearPreconditioner.ridge(problem.student, images, stepsize=alpha, **options)


def _linear(problem: Problem) -> LinearPreconditioner:
    start = problem.config.preconditioner
    if start.start == "ridge":
        return _ridge(problem)
    options = {"form": start.form, "planes": start.planes, "complement": start.complement}
    return LinearPreconditioner.identity(problem.student, problem.img_size, **options)


def _hessian(problem: Problem) -> Hessian:
    damping = problem.config.preconditioner.damping * problem.student.norm_sq
    return Hessian(problem.student, problem.img_size, regularization=damping)


def _polynomial(problem: Problem) -> Polynomial:
    chosen = problem.config.preconditioner
    return getattr(Polynomial, chosen.polynomial)(problem.student, degree=chosen.degree)


def _scalar(problem: Problem) -> ScalarSteps:
    return ScalarSteps(problem.config.solver.iterations)


def _convolutional(problem: Problem) -> ConvolutionalSteps:
    return ConvolutionalSteps(problem.config.solver.iterations)


def _pointwise(problem: Problem) -> PointwiseSteps:
    return PointwiseSteps(problem.config.solver.iterations, (1, *problem.img_size[1:]))


def _full_linear(problem: Problem) -> LinearSteps:
    return LinearSteps(problem.config.solver.iterations, _linear(problem))


def _neural(problem: Problem) -> NeuralPreconditioner:
    network = problem.config.network
    precision = "bf16" if problem.precision == "bf16" else "float32"  # fp16 would need its loss scaled
    size = {"features": network.features, "blocks": network.blocks, "code": network.code, "code_dim": network.code_dim}
    options = {"start": network.start, "precision": precision, "seed": problem.config.seed}
    return NeuralPreconditioner(network.backbone, img_size=problem.img_size, **size, **options)


def _network_size(problem: Problem) -> dict:
    network, config = problem.config.network, problem.config
    size = {"features": network.features, "blocks": network.blocks, "start": config.solver.start}
    return {"img_size": problem.img_size, "seed": config.seed} | size


MAKERS: dict[str, Callable[[Problem], Preconditioner | nn.Module]] = {
    "ridge": _ridge,
    "hessian": _hessian,
    "polynomial": _polynomial,
    "scalar": _scalar,
    "convolutional": _convolutional,
    "pointwise": _pointwise,
    "full-linear": _full_linear,
    "l-dipa": _linear,
    "n-dipa": _neural,
}
