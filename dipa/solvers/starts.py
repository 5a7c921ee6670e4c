r"""Starting points :math:`x^0=z^1` of the iteration, from the measurements alone."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics


def zero(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=0`, as printed in D2GP Algorithm 1, line 1."""
    return torch.zeros_like(physics.A_adjoint(y))


def adjoint(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=H^\top y`, deepinv's default, and so what the authors' code ran."""
    return physics.A_adjoint(y)


def pseudo_inverse(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=H^\dagger y`, by the operator's own method (the adjoint again for a
    projector).
    """
    return physics.A_dagger(y)


def interpolated(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=H^\top y \oslash H^\top H\mathbf 1`: the adjoint normalised by what it makes of a
    constant image.

    Normalised convolution for super-resolution; the adjoint itself where constants are measured
    exactly. Pixels whose weight falls below one thousandth of the largest are left at the adjoint's
    value.
    """
    image = physics.A_adjoint(y)
    weight = physics.A_adjoint(physics.A(torch.ones_like(image)))
    return image / torch.where(weight > 1e-3 * weight.max(), weight, torch.ones_like(weight))


STARTS = {
    "zero": zero,
    "adjoint": adjoint,
    "pseudo_inverse": pseudo_inverse,
    "interpolated": interpolated,
}
