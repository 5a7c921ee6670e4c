"""What a deepinv operator says about itself: the size of its images, and the numbers it computes with."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .checks import foreign, require, require_img_size


def declared_size(physics: LinearPhysics | None) -> tuple[int, int, int] | None:
    """(C, H, W) as the operator carries it, in ``img_size`` or (deepinv's blurs) ``imsize``; None where it does not."""
    sizes = (getattr(physics, name, None) for name in ("img_size", "imsize"))
    return next((tuple(size) for size in sizes if size is not None and len(size) == 3), None)


def image_size(physics: LinearPhysics, img_size: tuple[int, int, int] | None = None) -> tuple[int, int, int]:
    """(C, H, W) of the images an operator acts on: ``img_size`` where given, else what the operator carries.

    Raises :class:`InputError` where neither says.
    """
    size = declared_size(physics) if img_size is None else img_size
    return require_img_size(() if size is None else size, "(C, H, W) of the images this operator acts on")


def numbers_like(module: nn.Module) -> torch.Tensor:
    """An empty tensor with dtype and device of the first floating-point buffer or parameter, else torch's defaults."""
    held = (*module.buffers(), *module.parameters())
    return next((tensor.new_empty(0) for tensor in held if tensor.is_floating_point()), torch.empty(0))


def require_operator(name: str, physics: object) -> None:
    """Refuse what has no ``A``, ``A_adjoint`` and ``A_adjoint_A`` to call."""
    able = all(callable(getattr(physics, method, None)) for method in ("A", "A_adjoint", "A_adjoint_A"))
    require(able, name, type(physics).__name__, "a deepinv LinearPhysics")


def require_takes(name: str, physics: LinearPhysics, images: torch.Tensor) -> torch.Tensor:
    r"""Refuse an operator that cannot take such images (C, H, W, dtype, device) one by one, or measures in several tensors.

    Returns :math:`H^\top Hx` of the first image.
    """
    require_operator(name, physics)
    what, kind = f"images {tuple(images.shape[1:])}, {images.dtype} on {images.device}", type(physics).__name__
    with torch.no_grad(), foreign(name, what, f"images that this {kind} takes"):
        measured = physics.A(images[:1])
        seen = physics.A_adjoint(measured)
    one = isinstance(measured, torch.Tensor)
    require(one, name, f"{kind} with measurements {type(measured).__name__}", "an operator whose measurements are one tensor")
    real = isinstance(seen, torch.Tensor) and seen.is_floating_point()
    require(real, name, f"{kind} that gives back {getattr(seen, 'dtype', type(seen).__name__)}", "an operator on real images")
    alone = len(measured) == len(seen) == 1
    require(alone, name, f"{kind} made for {max(len(measured), len(seen))} images", "an operator for every image alone")
    require(seen.shape[1:] == images.shape[1:], name, what, f"images {tuple(seen.shape[1:])}, which this {kind} gives back")
    return seen


def require_applies(name: str, physics: LinearPhysics, img_size: tuple[int, int, int]) -> None:
    """As :func:`require_takes`, of images ``img_size`` (C, H, W) in the operator's own dtype."""
    require_takes(name, physics, torch.zeros(1, *img_size).to(numbers_like(physics)))


def require_like(name: str, module: object, images: torch.Tensor, *, autocast: bool = False) -> None:
    """Refuse a network whose parameters have another dtype or device than ``images``; ``autocast`` leaves float64 alone."""
    own = next(module.parameters(), images) if isinstance(module, nn.Module) else images
    same = own.dtype == images.dtype or (autocast and torch.float64 not in (own.dtype, images.dtype))
    allowed = f"{images.dtype} on {images.device}, as the images are"
    require(same and own.device == images.device, name, f"parameters of {own.dtype} on {own.device}", allowed)
