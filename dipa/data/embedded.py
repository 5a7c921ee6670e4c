"""The offline default: real photographs that ship inside scikit-image, cut to patches, split by
photograph.
"""

from __future__ import annotations

import functools

import numpy as np
import skimage
import torch

from .. import seeding
from ..checks import require, require_choice, require_int

PHOTOGRAPHS = {
    "train": ("astronaut", "brick", "chelsea", "coins", "motorcycle", "rocket"),
    "test": ("camera", "coffee"),
}
GREY = {"brick", "camera", "coins"}  # the others are in colour
MIN_CONTRAST = 0.05
# of the fixed shuffle; chosen for the first test patch, which the book shows: a tripod
ORDER_SEED = 363


def photograph(name: str, channels: int = 1) -> torch.Tensor:
    """A photograph from scikit-image in [0, 1], at half its resolution (antialiased): grey (H, W),
    or with 3 ``channels`` RGB (3, H, W), where it is in colour.
    """
    require(channels in (1, 3), "channels", channels, "1 or 3")
    require(channels == 1 or name not in GREY, "name", name, "a photograph in colour")
    return _photograph(name, channels).clone()


@functools.cache
def _photograph(name: str, channels: int) -> torch.Tensor:
    """It takes longer to read the eight photographs than to cut them; together they have two
    megabytes.
    """
    source = (
        skimage.data.stereo_motorcycle()[0]
        if name == "motorcycle"
        else getattr(skimage.data, name)()
    )
    if channels == 1 and source.ndim == 3:
        values, axis = skimage.color.rgb2gray(source), None
    else:
        values, axis = skimage.util.img_as_float(source), -1 if channels == 3 else None
    half = skimage.transform.rescale(values, 0.5, anti_aliasing=True, channel_axis=axis)
    planes = half if axis is None else np.ascontiguousarray(np.moveaxis(half, -1, 0))
    return torch.from_numpy(planes.astype(np.float32)).clamp(0, 1)


def patches(
    split: str, size: int = 32, stride: int | None = None, channels: int = 1
) -> torch.Tensor:
    """All patches (N, ``channels``, size, size) in [0, 1] of a split's photographs, in a fixed
    shuffled order; in colour (3 channels) those of the photographs that are.

    Train patches overlap by half and come in all eight orientations; test patches do not overlap
    (``stride`` overrides) and stay upright. Patches flatter than a standard deviation of 0.05 are
    left out: their PSNR says nothing. No photograph is in both splits.
    """
    require_choice("split", split, PHOTOGRAPHS)
    require_int("size", size, 8, 128)
    stride = stride or (size // 2 if split == "train" else size)
    names = [name for name in PHOTOGRAPHS[split] if channels == 1 or name not in GREY]
    grids = [
        photograph(name, channels).unfold(-2, size, stride).unfold(-2, size, stride)
        for name in names
    ]
    cut = torch.cat([grid.reshape(channels, -1, size, size).transpose(0, 1) for grid in grids])
    cut = cut[cut.flatten(1).std(dim=1) >= MIN_CONTRAST].contiguous()
    cut = orientations(cut) if split == "train" else cut
    return cut[torch.randperm(len(cut), generator=seeding.generator(ORDER_SEED, "embedded", split))]


def orientations(images: torch.Tensor) -> torch.Tensor:
    """Images (N, C, H, H) turned by quarters and mirrored: (8 N, C, H, H)."""
    return torch.cat(
        [torch.rot90(way, turns, (2, 3)) for way in (images, images.mT) for turns in range(4)]
    ).contiguous()
