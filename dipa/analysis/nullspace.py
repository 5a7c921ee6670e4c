r"""Null-space audit: does the reconstruction still explain the measurements, and where does its error live?"""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics

from ..operators import Basis


def relative_norm(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Norm of each image of ``part`` over that of ``whole``, (B,)."""
    return part.flatten(1).norm(dim=1) / whole.flatten(1).norm(dim=1).clamp_min(1e-12)


@torch.no_grad()
def audit(x: torch.Tensor, x_true: torch.Tensor, y: torch.Tensor, physics: LinearPhysics, basis: Basis) -> dict[str, float]:
    r"""Means over the batch of three relative numbers.

    ``residual``: :math:`\|H\hat x-y\|/\|y\|`. ``error_range`` and ``error_null``: the error :math:`\hat x-x` split by
    the orthogonal projector :math:`\Pi` on :math:`\mathrm{range}(H^\top)`, each part over :math:`\|x\|`; their squares
    add up to the squared relative error. ``basis`` spans that range. A preconditioned run whose residual stays far
    from zero has left the measurements: the falsification test a public review of D2GP asked for.
    """
    error = x - x_true
    seen = basis.project(error)
    parts = {"residual": relative_norm(physics.A(x) - y, y)}
    parts |= {"error_range": relative_norm(seen, x_true), "error_null": relative_norm(error - seen, x_true)}
    return {name: values.mean().item() for name, values in parts.items()}
