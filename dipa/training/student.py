"""The student's run on one batch, and what the terms of the loss compare of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .. import losses, metrics
from ..checks import InputError
from ..operators import Basis, range_basis
from ..operators.measure import measure
from ..settings import Phase
from ..solvers import data_gradient
from ..solvers.loop import State, Stop, run
from ..solvers.proximal import ProximalGradient, acting, started
from . import differentiate
from .loop import Record
from .teacher import TeacherTargets

if TYPE_CHECKING:
    from .distillation import Distillation


class StudentRun:
    """The student's run on one batch as a phase of training says, and its weighted loss with the
    terms; what stays from batch to batch is kept.
    """

    def __init__(self, problem: Distillation, phase: Phase, preconditioner: nn.Module):
        self.problem, self.phase, self.trained = problem, phase, preconditioner
        self.length = phase.length(problem.solver.iterations)
        shorter = replace(problem.solver, iterations=self.length)
        self.solver = differentiate.differentiated(phase.differentiation, shorter)
        self._look_at(problem.pairs.students[0], problem.pairs.teacher(0))

    def _look_at(self, student: LinearPhysics, teacher: LinearPhysics | None) -> None:
        self.student, self.teacher = student, teacher
        self.preconditioner = acting(self.trained, student)
        single = self.length == 1  # of one call nothing is saved by computing it again
        way, P = self.phase.differentiation, self.preconditioner
        self.called = P if single else differentiate.called(way, P)
        self.basis: Basis | None = None

    def __call__(
        self,
        x: torch.Tensor,
        index: torch.Tensor,
        targets: TeacherTargets | None,
        step: int,
    ) -> tuple[torch.Tensor, Record]:
        """The mean weighted loss of images ``x`` with the numbers ``index``, and its terms."""
        if not self.problem.pairs.fixed:
            pairs = self.problem.pairs
            self._look_at(pairs.student(step, index), pairs.teacher(step))
        y = measure(self.student, x, seed=self.problem.seed, indices=index)
        self.at = f"at training step {step + 1} the student"
        compared = list(
            self._along(x, y, index, targets) if self.phase.along else self._end(x, y, targets)
        )
        weights = self.phase.losses.active()
        means = {
            name: torch.stack([term(batch).mean() for batch in compared]).mean()
            for name, term in losses.TERMS.items()
            if name in weights
        }
        total = cast(torch.Tensor, sum(weights[name] * mean for name, mean in means.items()))
        psnr = metrics.psnr(compared[-1].x_hat.detach(), x).mean().item()
        return total, {name: mean.item() for name, mean in means.items()} | {"psnr": psnr}

    def _end(
        self, x: torch.Tensor, y: torch.Tensor, targets: TeacherTargets | None
    ) -> Iterator[SolvedBatch]:
        """What the whole run ends in."""
        result = self.solver(
            y,
            self.student,
            preconditioner=self.called,
            stepsize=self.problem.stepsize,
            backward=self.phase.differentiation.backward,
        )
        self._require_finite(result.status, result.message)
        yield SolvedBatch(self, result.x, x, y, targets)

    def _along(
        self, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor, targets: TeacherTargets | None
    ) -> Iterator[Compared]:
        """What every stretch ends in; no gradient passes from one to the one before."""
        imitated = self.phase.teacher_iterates and self.phase.losses.imitation > 0
        iterates = self._teacher_iterates(x, index) if imitated else None
        start = started(self.solver.start, y, self.student)
        scheme = _Stretches(
            self.solver.scheme(y, self.student, start, self.called, self.problem.stepsize),
            self.phase,
            self.length,
        )
        stretch = self.phase.stretch or self.length
        for end in range(stretch, self.length + 1, stretch):
            ended: list[State] = []
            result = run(scheme, Stop(end), observe=[ended.append])
            self._require_finite(result.status, result.message)
            state = ended[-1]
            whole = None if targets is None else targets.x
            teacher_x = whole if iterates is None else iterates[state.k]
            yield Compared(self, state, x, y, teacher_x)
            scheme.state = State(state.k, state.x.detach(), state.previous.detach())

    def _teacher_iterates(self, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The teacher's iterates on the batch, (iterations + 1, B, C, H, W)."""
        assert self.teacher is not None  # Distillation.check
        seed, stepsize = self.problem.seed, self.problem.teacher_stepsize
        y = measure(self.teacher, x, seed=seed, indices=index, stream="teacher noise")
        solver = replace(self.problem.solver, iterations=self.length)
        with torch.no_grad():
            result = solver(y, self.teacher, stepsize=stepsize, iterates=True)
        if result.status == "diverged":
            raise InputError(f"teacher_stepsize: got {stepsize!r}; the teacher {result.message}")
        return cast(torch.Tensor, result.iterates)

    def _require_finite(self, status: str, message: str) -> None:
        if status == "diverged":
            raise InputError(f"stepsize or learning_rate: {self.at} {message}")


@dataclass
class _Stretches:
    """The student's scheme from where the last stretch ended. What is compared before the prior
    needs no gradient through it, and none of its images where the run ends.
    """

    scheme: ProximalGradient
    phase: Phase
    length: int

    def __post_init__(self):
        self.state = self.scheme.init()

    def init(self) -> State:
        """The beginning of the stretch."""
        return self.state

    def step(self, state: State) -> State:
        """One iteration."""
        k, stretch = state.k + 1, self.phase.stretch or self.length
        if not self.phase.before_prior or k % stretch:
            return self.scheme.step(state)
        prior_step = _none if k == self.length else torch.no_grad()(self.scheme.prior_step)
        return replace(self.scheme, prior_step=prior_step).step(state)


def _none(z: torch.Tensor, direction: torch.Tensor, stepsize: Any) -> torch.Tensor:
    """What a prior would be given."""
    return z - stepsize * direction


class SolvedBatch:
    """What the terms of the loss may compare on one batch, computed when first asked for.

    Attributes:
        k: the iterations that were run.
        x_hat: the student's images.
        x: the clean images.
        y: their measurements.
        teacher_x: the teacher's images; None where no term needs them.
    """

    def __init__(
        self,
        run: StudentRun,
        x_hat: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        targets: TeacherTargets | None,
    ):
        self.run, self.k, self.x_hat, self.x, self.y = run, run.length, x_hat, x, y
        self.targets, self.teacher_x = targets, targets and targets.x

    @property
    def measured(self) -> torch.Tensor:
        r""":math:`H_s\hat x`."""
        return self.run.student.A(self.x_hat)

    @cached_property
    def direction(self) -> torch.Tensor:
        r""":math:`P(\nabla g_s(\hat x),\hat x,k)`."""
        gradient = data_gradient(self.run.student, self.y, self.x_hat)
        return self.run.preconditioner(gradient, self.x_hat, self.k)

    @property
    def teacher_gradient(self) -> torch.Tensor:
        r""":math:`\nabla g_t(\hat x_t)`."""
        assert self.targets is not None  # Distillation.targets
        return self.targets.gradient

    @property
    def update(self) -> torch.Tensor:
        r""":math:`P H_s^\top H_s x` at k."""
        return self.run.preconditioner(self.run.student.A_adjoint_A(self.x), self.x, self.k)

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


class Compared(SolvedBatch):
    """The same of an iteration on the way, before or after the prior: the direction is the one it
    took, the teacher's gradient that at the same point.
    """

    def __init__(
        self,
        run: StudentRun,
        state: State,
        x: torch.Tensor,
        y: torch.Tensor,
        teacher_x: torch.Tensor | None,
    ):
        z, direction = cast(torch.Tensor, state.z), cast(torch.Tensor, state.direction)
        given = _none(z, direction, state.stepsize) if run.phase.before_prior else state.x
        super().__init__(run, given, x, y, None)
        self.k, self.teacher_x, self.z = state.k, teacher_x, z
        self.__dict__["direction"] = direction

    @property
    def teacher_gradient(self) -> torch.Tensor:
        r""":math:`H_t^\top H_t(z^k-x)`."""
        assert self.run.teacher is not None  # Distillation.check
        return self.run.teacher.A_adjoint_A(self.z.detach() - self.x)
