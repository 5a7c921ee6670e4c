"""What a deepinv operator says about itself: the size of its images, and the numbers it computes with."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .checks import require


def declared_size(physics: LinearPhysics | None) -> tuple[int, int, int] | None:
    """(C, H, W) as the operator carries it, in ``img_size`` or (deepinv's blurs) ``imsize``; None where it does not."""
    sizes = (getattr(physics, name, None) for name in ("img_size", "imsize"))
    return next((tuple(size) for size in sizes if size is not None and len(size) == 3), None)


def image_size(physics: LinearPhysics, img_size: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
    """(C, H, W) of the images an operator acts on: ``img_size`` where given, else what the operator carries.

    Raises :class:`InputError` where neither says.
    """
    size = tuple(img_size or declared_size(physics) or ())
    require(len(size) == 3, "img_size", size, "(C, H, W) of the images this operator acts on")
    return size


def numbers_like(module: nn.Module) -> torch.Tensor:
    """An empty tensor with dtype and device of the first floating-point buffer or parameter, else torch's defaults."""
    held = (*module.buffers(), *module.parameters())
    return next((tensor.new_empty(0) for tensor in held if tensor.is_floating_point()), torch.empty(0))
