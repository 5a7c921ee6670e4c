"""The distillation loop: train a preconditioner so that the student's run matches the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .. import losses, metrics, seeding
from ..cache import Identity
from ..checks import (
    InputError,
    plain_value,
    require,
    require_flag,
    require_images,
    require_int,
    require_new_file,
    require_path,
)
from ..identity import describe, describe_physics, describe_preconditioner
from ..operators import Basis, range_basis
from ..operators.measure import measure
from ..physics import declared_size, require_takes, warn_range
from ..preconditioners import Preconditioner
from ..settings import Budget, Differentiation, LossWeights
from ..solvers import FISTA, data_gradient
from . import differentiate
from .loop import Fit, Record, Training
from .teacher import TeacherTargets, solve_identity, teacher_targets


def distill(
    solver: FISTA,
    preconditioner: Preconditioner,
    student: LinearPhysics,
    teacher: LinearPhysics | None,
    images: torch.Tensor,
    *,
    losses: LossWeights,
    budget: Budget | None = None,
    stepsize: float | str = 0.4,
    teacher_stepsize: float | str = 0.7,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    cache: str | Path | None = None,
    differentiation: Differentiation | None = None,
    progress: bool = True,
    report: Callable[[Record], None] | None = None,
) -> Fit:
    r"""Train ``preconditioner`` in place so that the student's reconstruction and gradient match
    the teacher's.

    .. math::
        \min_P\ \mathbb{E}_x\,\big[\lambda_S L_S+\lambda_I L_I+\lambda_G L_G
        +\lambda_R R+\dots\big],\qquad
        \hat x_s=\mathrm{FISTA}(P,H_s,H_sx,\alpha_s),\quad
        \hat x_t=\mathrm{FISTA}(I,H_t,H_tx,\alpha_t)

    The teacher runs once per image (its result does not depend on P). P may have any number of
    trainable and frozen parameters and may change with the iteration; the losses on directions
    (gradient, convergence, row space) take it at k = K.

    Args:
        solver: what teacher and student both run.
        preconditioner: P, trained in place, whatever its form; frozen parameters stay as they are.
        student: :math:`H_s`, the operator of the real system.
        teacher: :math:`H_t`, on the same image space; a separate object; None where no loss needs
            it.
        images: clean images (N, C, H, W) in [0, 1] ([-1, 1] for real and imaginary parts); another
            range is one warning.
        losses: weights of the terms.
        budget: steps, optimiser, schedule.
        stepsize: :math:`\alpha_s` (0.4 in the papers); ``teacher_stepsize`` is :math:`\alpha_t`
            (0.7).
        seed: of the order of images and of the measurement noise.
        checkpoint: a file to save to and resume from; a resumed run ends in the same tensors as an
            uninterrupted one (same machine, versions and thread count). Removed by nobody but the
            caller.
        cache: folder of cached teacher targets, None for no cache. Not used where some part of the
            solver cannot be described, such as a denoiser that is a plain function; resuming a
            checkpoint then warns.
        differentiation: how the gradient of a solve is computed and what is kept for it: the whole
            run by default, see :class:`~dipa.training.Differentiation`.
        progress: show a bar with loss, PSNR and time left.
        report: called with each history record (step, loss, its terms, psnr, learning rate,
            gradient norm).

    Raises:
        InputError: arguments that do not fit together; a student that diverges; a loss, gradient or
            updated P that is not finite. Training stops with the step and the cause, and the
            checkpoint stays as last saved: after a step, at most ``checkpoint_every`` back, with
            finite loss, gradient and P. A finite P may still be one from which the next student run
            diverges; starting again from that checkpoint then ends the same way.

    Source: D2GP Algorithm 2; DIPA Eq. (6)-(13).
    """
    budget = Budget() if budget is None else budget
    differentiation = Differentiation() if differentiation is None else differentiation
    for name, value, kind in (
        ("solver", solver, FISTA),
        ("preconditioner", preconditioner, nn.Module),
        ("losses", losses, LossWeights),
        ("budget", budget, Budget),
        ("differentiation", differentiation, Differentiation),
    ):
        require(isinstance(value, kind), name, value, f"a {kind.__name__}")
    checkpoint, progress = (
        require_new_file("checkpoint", checkpoint),
        require_flag("progress", progress),
    )
    cache = (
        None
        if cache is None or (isinstance(cache, str) and not cache)
        else require_path("cache", cache)
    )
    _check(student, teacher, images, losses)
    stepsize, teacher_stepsize, seed = (
        plain_value(stepsize),
        plain_value(teacher_stepsize),
        require_int("seed", seed, 0),
    )
    _check_numbers(solver, preconditioner, student, teacher, images, stepsize, teacher_stepsize)
    differentiate.check(differentiation, preconditioner, solver.iterations)
    warn_range("images", images, student, teacher)
    made = {
        "losses": asdict(losses),
        "budget": asdict(budget),
        "stepsize": stepsize,
        "teacher_stepsize": teacher_stepsize,
    }
    made |= {
        "differentiation": asdict(differentiation),
        "seed": seed,
        "solver": solver.describe(),
        "images": len(images),
    }
    identity = (
        _identity(solver, preconditioner, student, teacher, images, made) if checkpoint else {}
    )
    training = Training.start(
        preconditioner,
        budget,
        name="preconditioner",
        what="P",
        identity=identity,
        checkpoint=checkpoint,
    )
    targets = None
    if losses.needs_teacher:
        used = seeding.drawn(len(images), budget.batch_size, budget.steps, seed)
        targets = teacher_targets(
            solver,
            teacher,
            images,
            stepsize=teacher_stepsize,
            seed=seed,
            indices=used,
            cache=cache,
            progress=progress,
        )
        made["teacher_images"] = {"all": len(used), "cached": targets.cached}
    run = _Run(solver, preconditioner, student, teacher, losses, stepsize, differentiation)

    def objective(index: torch.Tensor, step: int) -> tuple[torch.Tensor, Record]:
        y = measure(student, images[index], seed=seed, indices=index)
        return run(images[index], y, targets and targets.of(index), step)

    training.run(
        objective,
        count=len(images),
        seed=seed,
        leaner=differentiation.leaner,
        progress=progress,
        report=report,
    )
    made["training_seconds"] = round(training.seconds, 2)
    return Fit(preconditioner, training.history, made)


class _Run:
    """The student's run on one batch and its weighted loss, with the terms; what stays from
    batch to batch is kept.
    """

    def __init__(
        self,
        solver,
        preconditioner,
        student,
        teacher,
        weights: LossWeights,
        stepsize: float | str,
        plan: Differentiation,
    ):
        self.solver, self.preconditioner = (
            differentiate.differentiated(plan, solver),
            preconditioner,
        )
        self.direction, self.backward = differentiate.called(plan, preconditioner), plan.backward
        self.student, self.teacher = student, teacher
        self.weights, self.stepsize = weights, stepsize
        self.basis: Basis | None = None

    def __call__(
        self, x, y, targets: TeacherTargets | None, step: int
    ) -> tuple[torch.Tensor, Record]:
        result = self.solver(
            y,
            self.student,
            preconditioner=self.direction,
            stepsize=self.stepsize,
            backward=self.backward,
        )
        if result.status != "completed":
            raise InputError(
                f"stepsize or learning_rate: at training step {step + 1} the student "
                f"{result.message}"
            )
        terms = self._on_images(result.x, x, y, targets) | self._on_directions(
            result.x, x, y, targets
        )
        means = {name: term.mean() for name, term in terms.items()}
        total = sum(getattr(self.weights, name) * mean for name, mean in means.items())
        psnr = metrics.psnr(result.x.detach(), x).mean().item()
        return total, {name: mean.item() for name, mean in means.items()} | {"psnr": psnr}

    def _on_images(self, x_hat, x, y, targets: TeacherTargets | None) -> dict[str, torch.Tensor]:
        terms = {}
        if self.weights.supervised:
            terms["supervised"] = losses.supervised(x_hat, x)
        if self.weights.imitation:
            assert targets is not None  # losses.needs_teacher
            terms["imitation"] = losses.imitation(x_hat, targets.x)
        if self.weights.data_fidelity:
            terms["data_fidelity"] = losses.data_fidelity(self.student.A(x_hat), y)
        return terms

    def _on_directions(
        self, x_hat, x, y, targets: TeacherTargets | None
    ) -> dict[str, torch.Tensor]:
        terms, weights, k = {}, self.weights, self.solver.iterations
        if weights.gradient or weights.row_space:
            direction = self.preconditioner(data_gradient(self.student, y, x_hat), x_hat, k)
            if weights.gradient:
                assert targets is not None  # losses.needs_teacher
                terms["gradient"] = losses.gradient_cosine(direction, targets.gradient)
            if weights.row_space:
                self.basis = self.basis or range_basis(self.student, tuple(x.shape[1:]))
                terms["row_space"] = losses.row_space(direction, self.basis.project)
        if weights.convergence:
            update = self.preconditioner(self.student.A_adjoint_A(x), x, k)
            terms["convergence"] = losses.convergence(update, self.teacher.A_adjoint_A(x))
        return terms


def _check(student, teacher, images, weights: LossWeights) -> None:
    require_images("images", images)
    require(
        student is not teacher,
        "teacher",
        "the student's own object",
        "a separate physics object (deepinv physics hold state)",
    )
    wanted = [
        name for name in ("imitation", "gradient", "convergence") if getattr(weights, name) > 0
    ]
    require(
        not wanted or teacher is not None,
        "teacher",
        None,
        f"a physics object: the losses {', '.join(wanted)} need it",
    )
    for name, physics in (("student", student), ("teacher", teacher)):
        size = declared_size(physics) or tuple(images.shape[1:])
        require(
            size == tuple(images.shape[1:]),
            f"{name}.img_size",
            size,
            f"that of the images, {tuple(images.shape[1:])}",
        )


def _check_numbers(
    solver: FISTA, preconditioner, student, teacher, images, stepsize, teacher_stepsize
) -> None:
    """Refuse stepsizes, and dtypes and devices that do not go together, before anything is
    computed with them.
    """
    trained = any(parameter.requires_grad for parameter in preconditioner.parameters())
    require(
        trained, "preconditioner", type(preconditioner).__name__, "one with trainable parameters"
    )
    solver.check(require_takes("student", student, images), preconditioner)
    solver.stepsize(stepsize, student, tuple(images.shape[1:]), images)
    if teacher is not None:
        solver.check(require_takes("teacher", teacher, images))
        solver.stepsize(teacher_stepsize, teacher, tuple(images.shape[1:]), images)


def _identity(
    solver: FISTA, preconditioner, student, teacher, images: torch.Tensor, made: dict[str, Any]
) -> Identity:
    """Ties a checkpoint to everything that shapes the run, the starting preconditioner included."""
    found = solve_identity(solver, student, images, made["stepsize"], made["seed"])
    if teacher is not None:
        found |= {
            f"teacher's {name}": part for name, part in describe_physics(teacher, images).items()
        }
    found |= {"images": describe(images)} | describe_preconditioner(
        preconditioner, images, solver.iterations
    )
    same = {"solver"} | (
        {"differentiation"} if Differentiation(**made["differentiation"]).exact else set()
    )
    return found | {
        "settings": describe({name: value for name, value in made.items() if name not in same})
    }
