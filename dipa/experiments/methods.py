"""What a run may test, one record per method. To add a preconditioner: its module, a record here, a
preset.

What needs torch is imported when a method is made: records alone are read by the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from torch import nn

    from ..preconditioners import LinearPreconditioner, Preconditioner
    from ..training import Fit
    from .problem import Problem

    Make = Callable[[Problem], nn.Module | None]
    Train = Callable[..., Fit]


@dataclass(frozen=True)
class Method:
    """How what a method tests is made and trained, and which settings decide its numbers.

    Attributes:
        make: the preconditioner or network of a problem before any training; None for no
            preconditioner.
        train: ``train(problem, tested, **options)`` optimises it, or fits it in closed form; None
            where nothing is.
        sections: the sections of a configuration that it reads, beside task, data, solver,
            variations and those of training.
        network: whether it reconstructs images from measurements itself, in the place of the
            solver.
        closed_form: whether it always makes the closed form, from ``data.ridge_count`` images.
    """

    make: Make
    train: Train | None = None
    sections: tuple[str, ...] = ()
    network: bool = False
    closed_form: bool = False

    @property
    def optimises(self) -> bool:
        """Whether training steps are taken, with the losses and the budget of a configuration."""
        return self.train not in (None, _in_closed_form)

    def fit(
        self,
        problem: Problem,
        checkpoint: Path | None,
        *,
        progress: bool,
        report: Callable | None = None,
    ) -> Fit:
        """What is tested, made or trained (resumed from ``checkpoint``) as the configuration of
        ``problem`` says.
        """
        from ..training import Fit

        tested = self.make(problem)
        if tested is None or self.train is None:
            return Fit(tested and tested.to(problem.device), [], {"training_seconds": 0.0})
        options = {
            "seed": problem.config.seed,
            "checkpoint": checkpoint,
            "progress": progress,
            "report": report,
        }
        return self.train(problem, tested.to(problem.device), **options)


# --- training -------------------------------------------------------------------------------------


def _distil(problem: Problem, preconditioner: Any, **options: Any) -> Fit:
    from .. import cache
    from ..training import distill

    config = problem.config
    fit = distill(
        problem.solver,
        preconditioner,
        problem.student,
        problem.teacher,
        problem.train.images[: config.data.train_count],
        phases=config.plan,
        variations=config.variations,
        stepsize=config.solver.stepsize,
        teacher_stepsize=config.solver.teacher_stepsize,
        validation=0,  # as in the papers: nothing is held out
        cache=cache.directory(),
        **options,
    )
    for part in preconditioner.modules():
        if hasattr(part, "precision"):
            # trained in the configured precision, tested and kept in float32
            part.precision = "float32"
    return fit


def _in_closed_form(problem: Problem, preconditioner: Any, *, seed: int, **options: Any) -> Fit:
    from ..training import fit_steps

    config = problem.config
    return fit_steps(
        preconditioner,
        problem.solver,
        problem.student,
        problem.train.take(config.data.ridge_count).to(problem.device),
        stepsize=cast(float, config.solver.stepsize),
        regularization=REGULARIZATIONS,
        seed=seed,
    )


def _train_network(problem: Problem, network: nn.Module, **options: Any) -> Fit:
    from ..training import train_network

    images = problem.train.images[: problem.config.data.train_count]
    return train_network(
        network,
        problem.student,
        images,
        budget=problem.config.training,
        variations=problem.config.variations,
        **options,
    )


# --- making ---------------------------------------------------------------------------------------


def _nothing(problem: Problem) -> None:
    return None


def _ridge(problem: Problem) -> LinearPreconditioner:
    from ..preconditioners import LinearPreconditioner

    config, chosen = problem.config, problem.config.preconditioner
    stepsize = problem.solver.stepsize(config.solver.stepsize, problem.student, problem.img_size)
    return LinearPreconditioner.ridge(
        problem.student,
        problem.train.take(config.data.ridge_count),
        stepsize=cast(float, stepsize),  # no search, by the configuration
        regularization=chosen.regularization,
        null_weight=chosen.null_weight,
        complement=chosen.complement,
        form=chosen.form,
        planes=chosen.planes,
        variations=config.variations,
        seed=config.seed,
    )


def _linear(problem: Problem) -> LinearPreconditioner:
    from ..preconditioners import LinearPreconditioner

    chosen = problem.config.preconditioner
    if chosen.start == "ridge":
        return _ridge(problem)
    return LinearPreconditioner.identity(
        problem.student,
        problem.img_size,
        form=chosen.form,
        planes=chosen.planes,
        complement=chosen.complement,
    )


def _hessian(problem: Problem) -> Preconditioner:
    from ..physics import lipschitz
    from ..preconditioners import Hessian

    damping = problem.config.preconditioner.damping * lipschitz(problem.student, problem.img_size)
    return Hessian(problem.student, problem.img_size, regularization=damping)


def _polynomial(problem: Problem) -> Preconditioner:
    from ..preconditioners import Polynomial

    chosen = problem.config.preconditioner
    return getattr(Polynomial, chosen.polynomial)(
        problem.student, degree=chosen.degree, img_size=problem.img_size
    )


def _scalar(problem: Problem) -> Preconditioner:
    from ..preconditioners import ScalarSteps

    return ScalarSteps(problem.config.solver.iterations)


def _convolutional(problem: Problem) -> Preconditioner:
    from ..preconditioners import ConvolutionalSteps

    return ConvolutionalSteps(problem.config.solver.iterations)


def _pointwise(problem: Problem) -> Preconditioner:
    from ..preconditioners import PointwiseSteps

    return PointwiseSteps(problem.config.solver.iterations, (1, *problem.img_size[1:]))


def _full_linear(problem: Problem) -> Preconditioner:
    from ..preconditioners import LinearSteps

    return LinearSteps(problem.config.solver.iterations, _linear(problem))


def _one_linear(problem: Problem) -> Preconditioner:
    from ..preconditioners import LinearSteps

    return LinearSteps(1, _linear(problem))


def _neural(problem: Problem) -> Preconditioner:
    from ..preconditioners import NeuralPreconditioner

    chosen = problem.config.network
    return NeuralPreconditioner(
        chosen.backbone,
        img_size=problem.img_size,
        features=chosen.features,
        blocks=chosen.blocks,
        code=chosen.code,
        code_dim=chosen.code_dim,
        start=chosen.start,
        scaling=chosen.scaling,
        # fp16 would need its loss scaled
        precision="bf16" if problem.precision == "bf16" else "float32",
        seed=problem.config.seed,
    )


def _composed(problem: Problem) -> Preconditioner:
    from ..preconditioners import ComposedPreconditioner

    return ComposedPreconditioner(_ridge(problem).requires_grad_(False), _neural(problem))


def _end_to_end(problem: Problem) -> nn.Module:
    from .. import endtoend

    config, chosen = problem.config, problem.config.network
    size = {"features": chosen.features, "blocks": chosen.blocks, "start": config.solver.start}
    return endtoend.build(config.method, problem.img_size, seed=config.seed, **size)


FORM, NETWORK = ("preconditioner",), ("network",)
REGULARIZATIONS = (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0)  # of steps in closed form, to choose among
METHODS = {
    "baseline": Method(_nothing),
    "ridge": Method(_ridge, sections=FORM, closed_form=True),
    "hessian": Method(_hessian),
    "polynomial": Method(_polynomial),
    "scalar": Method(_scalar, _distil),
    "convolutional": Method(_convolutional, _distil),
    "pointwise": Method(_pointwise, _distil),
    "full-linear": Method(_full_linear, _distil, FORM),
    "scalar-fitted": Method(_scalar, _in_closed_form, closed_form=True),
    "convolutional-fitted": Method(_convolutional, _in_closed_form, closed_form=True),
    "pointwise-fitted": Method(_pointwise, _in_closed_form, closed_form=True),
    "full-linear-fitted": Method(_full_linear, _in_closed_form, FORM, closed_form=True),
    "linear-fitted": Method(_one_linear, _in_closed_form, FORM, closed_form=True),
    "l-dipa": Method(_linear, _distil, FORM),
    "n-dipa": Method(_neural, _distil, NETWORK),
    "composed": Method(_composed, _distil, (*FORM, *NETWORK), closed_form=True),
    "fista-net": Method(_end_to_end, _train_network, NETWORK, network=True),
    "e2e-varnet": Method(_end_to_end, _train_network, NETWORK, network=True),
    "restormer": Method(_end_to_end, _train_network, NETWORK, network=True),
    "u-net": Method(_end_to_end, _train_network, NETWORK, network=True),
}
