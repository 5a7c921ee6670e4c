"""The straightforward way to train, with deepinv alone: what the ratios of the benchmarks are
ratios to.
"""

from __future__ import annotations

import deepinv
import torch
from common import Setting
from torch import nn

K, STUDENT_STEP, TEACHER_STEP, SIGMA = 20, 0.4, 0.7, 2 / 255
# of dipa.distill, as the papers train: no image is held out
AS_PRINTED = {"stepsize": STUDENT_STEP, "teacher_stepsize": TEACHER_STEP, "validation": 0}


class Matrix(nn.Module):
    """P, a dense n x n matrix that starts as the identity."""

    def __init__(self, pixels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(pixels))

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        return (gradient.flatten(1) @ self.weight.T).reshape(gradient.shape)


class Preconditioned(deepinv.optim.L2):
    """The data fidelity whose gradient in iteration k is P(H^T(Hx - y), x, k)."""

    def __init__(self, preconditioner: nn.Module, k: int):
        super().__init__()
        self.preconditioner, self.k = preconditioner, k

    def grad(self, x, y, physics, *args, **kwargs):
        return self.preconditioner(super().grad(x, y, physics, *args, **kwargs), x, self.k)


class Reference:
    """deepinv's FISTA unrolled under automatic differentiation, float32, the teacher run again
    for every batch, Adam.
    """

    def __init__(
        self,
        setting: Setting,
        preconditioner: nn.Module,
        iterations: int = K,
        learning_rate: float = 1e-5,
    ):
        prior, common = (
            deepinv.optim.PnP(setting.denoiser),
            {"sigma_denoiser": SIGMA, "max_iter": iterations, "early_stop": False},
        )
        fidelities = [Preconditioned(preconditioner, k) for k in range(1, iterations + 1)]
        self.setting, self.preconditioner, self.iterations = setting, preconditioner, iterations
        self.student = deepinv.optim.FISTA(
            data_fidelity=fidelities,
            prior=prior,
            stepsize=STUDENT_STEP,
            unfold=True,
            trainable_params=[],
            **common,
        ).to(setting.device)
        self.teacher = deepinv.optim.FISTA(
            data_fidelity=deepinv.optim.L2(), prior=prior, stepsize=TEACHER_STEP, **common
        )
        self.optimizer = torch.optim.Adam(preconditioner.parameters(), lr=learning_rate)

    def step(self, x: torch.Tensor) -> float:
        """One training step on the images x: the three losses of D2GP Eq. (3) with weight 1;
        returns the loss.
        """
        physics, teacher = self.setting.student, self.setting.teacher
        y, y_t = physics.A(x), teacher.A(x)
        with torch.no_grad():
            x_t = self.teacher(y_t, teacher)
            g_t = teacher.A_adjoint(teacher.A(x_t) - y_t)
        x_s = self.student(y, physics)
        direction = self.preconditioner(physics.A_adjoint(physics.A(x_s) - y), x_s, self.iterations)
        cosine = torch.cosine_similarity(direction.flatten(1), g_t.flatten(1))
        loss = ((x_s - x).square() + (x_s - x_t).square()).flatten(1).sum(1) + (1 - cosine).square()
        self.optimizer.zero_grad()
        loss.mean().backward()
        self.optimizer.step()
        return loss.mean().item()
