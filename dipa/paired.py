"""Operators with parameters of their own for every image, such as a batch of masks: the first
image belongs to the first mask, and so on.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from deepinv.physics.noise import NoiseModel
from torch import nn

from .adjoint import Measurements
from .checks import FOREIGN
from .remembered import tensors_of

Change = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def applied(physics: LinearPhysics, image: torch.Tensor) -> tuple[Measurements, torch.Tensor]:
    r""":math:`Hx` and :math:`H^\top Hx` of one image (1, C, H, W), by each of the parameters of an
    operator that has some for N images: some of deepinv's take one image then, some N alone.
    """
    try:
        measured = physics.A(image)
        return measured, physics.A_adjoint(measured)
    except FOREIGN:
        held = {len(tensor) for tensor in tensors_of(physics) if tensor.ndim > 0}
        for count in sorted(held - {0, 1}):
            with contextlib.suppress(*FOREIGN):
                measured = physics.A(image.expand(count, *image.shape[1:]))
                return measured, physics.A_adjoint(measured)
        raise


def noise_rows(physics: LinearPhysics) -> int:
    """For how many images the noise has levels of their own, one number a row; 1 for none."""
    rows = [
        len(tensor)
        for noise in _noise_models(physics)
        for tensor in tensors_of(noise)
        if tensor.is_floating_point() and tensor.ndim > 0 and tensor.numel() == len(tensor)
    ]
    return max(rows, default=1)


def of_images(
    physics: LinearPhysics, index: torch.Tensor, count: int, *, noise_alone: bool = False
) -> LinearPhysics:
    """The operator of the images with the numbers ``index`` (B,), of one that has parameters for
    ``count`` images.

    Its tensors with ``count`` rows are those of these images, its noise's too, or those of its
    ``noise_alone``; whatever else it holds is shared with ``physics``, which stays as it is.
    """

    def chosen(tensor: torch.Tensor) -> torch.Tensor:
        rows = tensor.ndim > 0 and len(tensor) == count
        return tensor[index.to(tensor.device)] if rows else tensor

    return _with(physics, chosen, noise_alone)


def apart(physics: LinearPhysics) -> LinearPhysics:
    """An operator whose parameters can be set without those of ``physics``, with which it shares
    its tensors.
    """
    return _with(physics, lambda tensor: tensor)


def _noise_models(held: Any) -> list[NoiseModel]:
    """Those of an operator, and of the operators that it is made of, in lists too."""
    if isinstance(held, NoiseModel):
        return [held]
    plain = vars(held).values() if isinstance(held, nn.Module) else ()
    parts = held if type(held) in (list, tuple) else [p for p in plain if type(p) is list]
    parts = [*parts, *held.children()] if isinstance(held, nn.Module) else parts
    return [noise for part in parts for noise in _noise_models(part)]


def _with(held: Any, change: Change, noise_alone: bool = False) -> Any:
    """A copy of a module, or of a list of them, in which every tensor, or every one of its noise
    models alone, is what ``change`` makes of it.
    """
    if isinstance(held, torch.Tensor):
        return held if noise_alone else change(held)
    if type(held) in (list, tuple):
        return type(held)(_with(part, change, noise_alone) for part in held)
    if not isinstance(held, nn.Module):
        return held
    noise_alone = noise_alone and not isinstance(held, NoiseModel)
    twin = copy.copy(held)
    twin.__dict__ = {name: _with(value, change, noise_alone) for name, value in vars(held).items()}
    for kind in ("_buffers", "_parameters", "_modules"):
        parts = getattr(held, kind).items()
        twin.__dict__[kind] = {name: _with(part, change, noise_alone) for name, part in parts}
    return twin
