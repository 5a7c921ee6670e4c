"""The student's run on one batch, and what the terms of the loss compare of it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import nn

from .. import losses, metrics
from ..checks import InputError
from ..operators import Basis, range_basis
from ..solvers import data_gradient
from . import differentiate
from .loop import Record
from .teacher import TeacherTargets

if TYPE_CHECKING:
    from .distill import Distillation


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
