r"""Starting points :math:`x^0=z^1` of the iteration, from the measurements alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from deepinv.physics import LinearPhysics


def zero(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=0`, as printed in D2GP Algorithm 1, line 1."""
    return torch.zeros_like(physics.A_adjoint(y))


def adjoint(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=H^\top y`, deepinv's default, and so what the authors' code ran."""
    return physics.A_adjoint(y)


def scaled_adjoint(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=t\,H^\top y` with :math:`t=\|H^\top y\|_2^2/\|HH^\top y\|_2^2`, image by image.

    The first step of steepest descent on :math:`\frac12\|Hx-y\|_2^2` from zero: unlike the
    adjoint itself it does not depend on the units of H. The adjoint again for an H whose Gram is a
    projector.
    """
    image = physics.A_adjoint(y)
    seen = physics.A(image)
    squared = lambda values: values.flatten(1).abs().square().sum(dim=1)  # noqa: E731
    top, bottom = squared(image), squared(seen)
    t = torch.where(bottom > 0, top / torch.where(bottom > 0, bottom, 1), 0)
    return image * t.to(image.dtype).reshape(-1, *[1] * (image.ndim - 1))


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
    "scaled_adjoint": scaled_adjoint,
    "pseudo_inverse": pseudo_inverse,
    "interpolated": interpolated,
}
Start = str | Callable[[torch.Tensor, LinearPhysics], torch.Tensor]


def started(start: Start, y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    """:math:`x^0` by the rule of this name, or by a callable ``start(y, physics)`` of one's own."""
    return start(y, physics) if callable(start) else STARTS[start](y, physics)
