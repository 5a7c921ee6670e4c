"""From what a file holds to square images of one size: cropping, padding, normalising,
resizing, channels.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch.nn import functional

Array = TypeVar("Array", torch.Tensor, np.ndarray)
PERCENTILE = 99.5  # of a slice's magnitudes: what becomes 1


def centre_square(images: Array) -> Array:
    """The centred square of images (..., H, W): (..., S, S) with S = min(H, W)."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[..., top : top + side, left : left + side]


def pad_square(images: torch.Tensor) -> torch.Tensor:
    """Images (..., H, W) with zeros added evenly along the shorter axis: (..., S, S), S =
    max(H, W). Nothing is cut.
    """
    height, width = images.shape[-2:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return functional.pad(images, (left, side - width - left, top, side - height - top))


def resized(images: torch.Tensor, size: int) -> torch.Tensor:
    """Square images (N, C, S, S) as (N, C, size, size): bilinear with antialias, unchanged where S
    = size.

    An average of pixels, so that a range such as [0, 1] is kept.
    """
    if images.shape[-1] == size:
        return images.contiguous()
    return functional.interpolate(
        images, (size, size), mode="bilinear", antialias=True, align_corners=False
    )


def normalised(slices: torch.Tensor) -> torch.Tensor:
    """Slices (N, H, W), real and non-negative or complex, each divided by its own level, magnitudes
    cut at 1.

    The level is the 99.5th percentile of a slice's magnitudes (nearest rank; the largest magnitude
    where that percentile is 0). Magnitudes end in [0, 1], phases stay. A blank slice stays blank.
    """
    magnitudes = slices.abs().flatten(1)
    rank = max(round(magnitudes.shape[1] * PERCENTILE / 100), 1)
    level, largest = magnitudes.kthvalue(rank, dim=1).values, magnitudes.amax(dim=1)
    level = torch.where(level > 0, level, largest).clamp_min(torch.finfo(magnitudes.dtype).tiny)
    scaled = slices / level[:, None, None]
    return scaled / scaled.abs().clamp_min(1)


def with_channels(images: torch.Tensor, channels: int) -> torch.Tensor:
    """Grey images (N, 1, H, W), real or complex, as ``channels`` real planes.

    1: the image, or the magnitude of a complex one. 2: real and imaginary part, the latter zero for
    real images. Images that have ``channels`` planes already are returned as they are.
    """
    if images.is_complex():
        return images.abs() if channels == 1 else torch.cat([images.real, images.imag], dim=1)
    if channels == 2 and images.shape[1] == 1:
        return torch.cat([images, torch.zeros_like(images)], dim=1)
    return images
