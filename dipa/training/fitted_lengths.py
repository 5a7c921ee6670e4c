"""Step lengths of scaled gradient projection in closed form, iteration by iteration: no network, no
training.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from ..checks import (
    require,
    require_choice,
    require_int,
    require_kind,
    require_number,
    require_path,
    require_same_shape,
)
from ..networks.steps import LENGTHS
from ..physics import lipschitz
from ..solvers import SGP
from ..solvers.fista import first_iterate
from .loop import Fit, Record
from .step_lengths import StepProblem, converged


class FittedLengths(nn.Module):
    """One length, or one for each entry, for every iteration; later ones take the last.

    Args:
        lengths: (K,) or (K, C, H, W).
    """

    def __init__(self, lengths: torch.Tensor):
        super().__init__()
        require(lengths.ndim in (1, 4), "lengths.shape", tuple(lengths.shape), "(K,), (K, C, H, W)")
        self.lengths: torch.Tensor
        self.register_buffer("lengths", lengths)

    def forward(self, x: torch.Tensor, gradient: torch.Tensor, k: int = 1) -> torch.Tensor:
        """:math:`D_k` for images x (B, C, H, W) and k from 1: (B,) or (B, C, H, W)."""
        length = self.lengths[min(k, len(self.lengths)) - 1]
        if length.ndim == 0:
            return length.expand(len(x))
        require_same_shape("x", x[:1], length[None])
        return length.expand(x.shape)


@torch.no_grad()
def fit_lengths(
    solver: SGP,
    physics: LinearPhysics,
    y: torch.Tensor,
    *,
    lengths: str = "image",
    regularization: float = 1e-2,
    iterations: int | None = None,
    target_iterations: int = 1200,
    cache: str | Path | None = None,
) -> Fit:
    r"""Step lengths for ``solver`` by least squares on the iterates of its own run.

    With :math:`x_*` the end of a long FISTA run, iterates :math:`x_k` of N measurements and their
    data gradients :math:`g_k`, the length of iteration k is what brings the gradient steps nearest,

    .. math::
        s_k=\frac{\sum_n\langle g_k,x_k-x_*\rangle}{\sum_n\|g_k\|_2^2},\qquad
        D_{k,j}=\frac{\sum_n g_{k,j}(x_k-x_*)_j+\rho\,m_k\,s_k}{\sum_n g_{k,j}^2+\rho\,m_k},

    one for all entries, or one for each entry j, drawn to the common one where an entry has seen
    little (:math:`m_k` is the mean over j of :math:`\sum_n g_{k,j}^2`); lengths below 0 are 0. The
    next iterate is a step of these lengths and one of 1/L, as
    :func:`~dipa.training.train_steps` makes it.

    Args:
        solver: whose steps these will be; its prior and start.
        physics: the operator; one with parameters for every measurement (N masks) has as many.
        y: measurements (N, ...).
        lengths: ``image`` or ``entry``.
        regularization: :math:`\rho\ge0`, of ``entry``.
        iterations: to fit, >= 1; None for the solver's. Later ones take the last.
        target_iterations: of FISTA to :math:`x_*`, >= 1.
        cache: folder where :math:`x_*` is kept, None for none.

    Returns:
        :class:`Fit` of a :class:`FittedLengths`; its record has ``nmse`` as that of
        :func:`~dipa.training.train_steps`.

    Raises:
        InputError: arguments that do not fit together, measurements that the operator cannot use.

    Source: this project's, as what the networks of arXiv 1902.02449 are compared with.
    """
    require_kind("solver", solver, SGP)
    require_choice("lengths", lengths, LENGTHS)
    regularization = float(require_number("regularization", regularization, 0))
    count = solver.iterations if iterations is None else require_int("iterations", iterations, 1)
    target_iterations = require_int("target_iterations", target_iterations, 1)
    folder = None if cache is None else require_path("cache", cache)
    x = first_iterate(solver.start, y, physics)
    target = converged(solver, target_iterations, y, physics, x, folder)
    norm = lipschitz(physics, tuple(x.shape[1:]), x)
    problem = StepProblem(solver, physics, y, target, norm, seed=0)
    began, found, errors = time.perf_counter(), [], [problem.nmse(x)]
    history: list[Record] = []
    for k in range(count):
        x, gradient = problem.state(x)
        found.append(_fitted(gradient, x - target, lengths, regularization, 1 / norm))
        x = problem.next(FittedLengths(found[-1][None]), x, gradient)
        errors.append(problem.nmse(x))
        history.append({"iteration": k + 1, "nmse": errors[-1]})
    record: dict[str, Any] = {
        "lengths": lengths,
        "iterations": count,
        "measurements": len(y),
        "nmse": errors,
        "training_seconds": round(time.perf_counter() - began, 2),
    }
    return Fit(FittedLengths(torch.stack(found)), history, record)


def _fitted(
    gradient: torch.Tensor, error: torch.Tensor, lengths: str, regularization: float, plain: float
) -> torch.Tensor:
    """One length, or one for each entry (C, H, W); ``plain`` where no gradient says anything."""
    top, bottom = (gradient * error).sum(dim=0), gradient.square().sum(dim=0)
    common = (top.sum() / bottom.sum()) if bottom.sum() > 0 else bottom.new_tensor(plain)
    common = common.clamp_min(0)
    if lengths == "image":
        return common
    weight = regularization * bottom.mean()
    below = bottom + weight
    ratio = (top + weight * common) / torch.where(below > 0, below, 1)
    return torch.where(below > 0, ratio, common).clamp_min(0)
