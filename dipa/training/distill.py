"""The distillation loop: train a preconditioner so that the student's run matches the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
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
    require_kind,
    require_new_file,
    require_path,
)
from ..identity import describe, describe_physics, describe_preconditioner, solve_identity
from ..operators import Basis, range_basis
from ..operators.measure import measure
from ..physics import declared_size, require_takes, warn_range
from ..preconditioners import Preconditioner
from ..settings import Budget, Differentiation, LossWeights
from ..solvers import FISTA, data_gradient
from . import differentiate
from .loop import Fit, Record, Training
from .teacher import TeacherTargets, teacher_targets

NEED_TEACHER = ("imitation", "gradient", "convergence")  # the losses that do


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
    problem = Distillation(
        solver,
        student,
        teacher,
        losses,
        Budget() if budget is None else budget,
        Differentiation() if differentiation is None else differentiation,
        plain_value(stepsize),
        plain_value(teacher_stepsize),
        seed,
    )
    require_kind("preconditioner", preconditioner, nn.Module)
    file = require_new_file("checkpoint", checkpoint)
    folder = None if cache in (None, "") else require_path("cache", cache)
    progress = require_flag("progress", progress)
    problem.check(preconditioner, images)
    warn_range("images", images, student, teacher)
    training = Training.start(
        preconditioner,
        problem.budget,
        name="preconditioner",
        what="P",
        identity=problem.identity(preconditioner, images) if file else {},
        checkpoint=file,
    )
    targets = problem.targets(images, folder, progress)
    run = StudentRun(problem, preconditioner)

    def objective(index: torch.Tensor, step: int) -> tuple[torch.Tensor, Record]:
        y = measure(student, images[index], seed=problem.seed, indices=index)
        return run(images[index], y, targets and targets.of(index), step)

    training.run(
        objective,
        count=len(images),
        seed=problem.seed,
        less_memory=problem.differentiation.less_memory,
        progress=progress,
        report=report,
    )
    record = problem.record(images)
    if targets:
        record["teacher_images"] = {"all": len(targets.indices), "cached": targets.cached}
    record["training_seconds"] = round(training.seconds, 2)
    return Fit(preconditioner, training.history, record)


@dataclass(frozen=True)
class Distillation:
    """What :func:`distill` is asked for, but P, the images and where things are kept: teacher,
    student, how they are compared, and how P is optimised.
    """

    solver: FISTA
    student: LinearPhysics
    teacher: LinearPhysics | None
    losses: LossWeights
    budget: Budget
    differentiation: Differentiation
    stepsize: float | str
    teacher_stepsize: float | str
    seed: int

    def __post_init__(self):
        require_kind("solver", self.solver, FISTA)
        require_kind("losses", self.losses, LossWeights)
        require_kind("budget", self.budget, Budget)
        require_kind("differentiation", self.differentiation, Differentiation)
        object.__setattr__(self, "seed", require_int("seed", self.seed, 0))

    def check(self, preconditioner: nn.Module, images: torch.Tensor) -> None:
        """Refuse what does not go together, before anything is computed."""
        require_images("images", images)
        self._check_teacher()
        trained = any(parameter.requires_grad for parameter in preconditioner.parameters())
        kind = type(preconditioner).__name__
        require(trained, "preconditioner", kind, "one with trainable parameters")
        self._check_operator("student", self.student, images, self.stepsize, preconditioner)
        if self.teacher is not None:
            self._check_operator("teacher", self.teacher, images, self.teacher_stepsize)
        differentiate.check(self.differentiation, preconditioner, self.solver.iterations)

    def _check_teacher(self) -> None:
        allowed = "a separate physics object (deepinv physics hold state)"
        apart = self.student is not self.teacher
        require(apart, "teacher", "the student's own object", allowed)
        wanted = [name for name in NEED_TEACHER if getattr(self.losses, name) > 0]
        allowed = f"a physics object: the losses {', '.join(wanted)} need it"
        require(not wanted or self.teacher is not None, "teacher", None, allowed)

    def _check_operator(
        self,
        name: str,
        physics: LinearPhysics,
        images: torch.Tensor,
        stepsize: float | str,
        preconditioner: nn.Module | None = None,
    ) -> None:
        """Refuse an operator on other images, and stepsizes, dtypes and devices that do not fit."""
        shape = tuple(images.shape[1:])
        size = declared_size(physics) or shape
        require(size == shape, f"{name}.img_size", size, f"that of the images, {shape}")
        self.solver.check(require_takes(name, physics, images), preconditioner)
        self.solver.stepsize(stepsize, physics, shape, images)

    def record(self, images: torch.Tensor) -> dict[str, Any]:
        """What shapes the training, as plain values."""
        return {
            "losses": asdict(self.losses),
            "budget": asdict(self.budget),
            "stepsize": self.stepsize,
            "teacher_stepsize": self.teacher_stepsize,
            "differentiation": asdict(self.differentiation),
            "seed": self.seed,
            "solver": self.solver.describe(),
            "images": len(images),
        }

    def identity(self, preconditioner: nn.Module, images: torch.Tensor) -> Identity:
        """Ties a checkpoint to all that shapes the run, the starting preconditioner included."""
        found = solve_identity(self.solver, self.student, images, self.stepsize, self.seed)
        if self.teacher is not None:
            parts = describe_physics(self.teacher, images)
            found |= {f"teacher's {name}": part for name, part in parts.items()}
        found |= {"images": describe(images)}
        found |= describe_preconditioner(preconditioner, images, self.solver.iterations)
        same = {"solver"} | ({"differentiation"} if self.differentiation.exact else set())
        settings = {name: part for name, part in self.record(images).items() if name not in same}
        return found | {"settings": describe(settings)}

    def targets(
        self, images: torch.Tensor, cache: Path | None, progress: bool
    ) -> TeacherTargets | None:
        """The teacher's targets on the images that training draws; None where no loss needs it."""
        if self.teacher is None or not self.losses.needs_teacher:
            return None
        used = seeding.drawn(len(images), self.budget.batch_size, self.budget.steps, self.seed)
        return teacher_targets(
            self.solver,
            self.teacher,
            images,
            stepsize=self.teacher_stepsize,
            seed=self.seed,
            indices=used,
            cache=cache,
            progress=progress,
        )


class StudentRun:
    """The student's run on one batch and its weighted loss, with the terms; what stays from batch
    to batch is kept.
    """

    def __init__(self, problem: Distillation, preconditioner: nn.Module):
        self.student, self.teacher = problem.student, problem.teacher
        self.weights, self.stepsize = problem.losses, problem.stepsize
        self.preconditioner, self.backward = preconditioner, problem.differentiation.backward
        self.solver = differentiate.differentiated(problem.differentiation, problem.solver)
        self.called = differentiate.called(problem.differentiation, preconditioner)
        self.basis: Basis | None = None

    def __call__(
        self, x: torch.Tensor, y: torch.Tensor, targets: TeacherTargets | None, step: int
    ) -> tuple[torch.Tensor, Record]:
        """The mean weighted loss of images ``x``, measured as ``y``, and its terms."""
        result = self.solver(
            y,
            self.student,
            preconditioner=self.called,
            stepsize=self.stepsize,
            backward=self.backward,
        )
        if result.status == "diverged":
            at = f"at training step {step + 1} the student"
            raise InputError(f"stepsize or learning_rate: {at} {result.message}")
        solved = SolvedBatch(self, result.x, x, y, targets)
        wanted = [name for name in losses.TERMS if getattr(self.weights, name)]
        means = {name: losses.TERMS[name](solved).mean() for name in wanted}
        total = sum(getattr(self.weights, name) * mean for name, mean in means.items())
        psnr = metrics.psnr(result.x.detach(), x).mean().item()
        return total, {name: mean.item() for name, mean in means.items()} | {"psnr": psnr}


class SolvedBatch:
    """What the terms of the loss may compare on one batch, computed when first asked for.

    Attributes:
        x_hat: the student's reconstructions.
        x: the clean images.
        y: their measurements.
        targets: the teacher's reconstructions and gradients; None where no term needs them.
    """

    def __init__(
        self,
        run: StudentRun,
        x_hat: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        targets: TeacherTargets | None,
    ):
        self.run, self.x_hat, self.x, self.y, self.targets = run, x_hat, x, y, targets

    @property
    def measured(self) -> torch.Tensor:
        r""":math:`H_s\hat x`."""
        return self.run.student.A(self.x_hat)

    @cached_property
    def direction(self) -> torch.Tensor:
        r""":math:`P(\nabla g_s(\hat x),\hat x,K)`."""
        gradient = data_gradient(self.run.student, self.y, self.x_hat)
        return self.run.preconditioner(gradient, self.x_hat, self.run.solver.iterations)

    @property
    def update(self) -> torch.Tensor:
        r""":math:`P H_s^\top H_s x` at k = K."""
        seen = self.run.student.A_adjoint_A(self.x)
        return self.run.preconditioner(seen, self.x, self.run.solver.iterations)

    @property
    def teacher_update(self) -> torch.Tensor:
        r""":math:`H_t^\top H_t x`."""
        assert self.run.teacher is not None  # Distillation.check
        return self.run.teacher.A_adjoint_A(self.x)

    def project(self, images: torch.Tensor) -> torch.Tensor:
        r"""The part of images in :math:`\mathrm{range}(H_s^\top)`."""
        if self.run.basis is None:
            self.run.basis = range_basis(self.run.student, tuple(self.x.shape[1:]))
        return self.run.basis.project(images)
