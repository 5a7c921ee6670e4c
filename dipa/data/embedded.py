"""The offline default: real photographs that ship inside scikit-image, cut to patches, split by
photograph.
"""

from __future__ import annotations

import functools

import numpy as np
import skimage
import torch

from .. import seeding
from ..checks import require_choice, require_int

PHOTOGRAPHS = {
    "train": ("astronaut", "brick", "chelsea", "coins", "motorcycle", "rocket"),
    "test": ("camera", "coffee"),
}
MIN_CONTRAST = 0.05
# of the fixed shuffle; chosen for the first test patch, which the book shows: a tripod
ORDER_SEED = 363


def photograph(name: str) -> torch.Tensor:
    """A grey photograph (H, W) in [0, 1] from scikit-image, at half its resolution
    (antialiased).
    """
    return _photograph(name).clone()


@functools.cache
def _photograph(name: str) -> torch.Tensor:
    """It takes longer to read the eight photographs than to cut them; together they have two
    megabytes.
    """
    source = (
        skimage.data.stereo_motorcycle()[0]
        if name == "motorcycle"
        else getattr(skimage.data, name)()
    )
    grey = skimage.color.rgb2gray(source) if source.ndim == 3 else skimage.util.img_as_float(source)
    return torch.from_numpy(
        skimage.transform.rescale(grey, 0.5, anti_aliasing=True).astype(np.float32)
    ).clamp(0, 1)


def patches(split: str, size: int = 32, stride: int | None = None) -> torch.Tensor:
    """All patches (N, 1, size, size) in [0, 1] of a split's photographs, in a fixed shuffled order.

    Train patches overlap by half and come in all eight orientations; test patches do not overlap
    (``stride`` overrides) and stay upright. Patches flatter than a standard deviation of 0.05 are
    left out: their PSNR says nothing. No photograph is in both splits.
    """
    require_choice("split", split, PHOTOGRAPHS)
    require_int("size", size, 8, 128)
    stride = stride or (size // 2 if split == "train" else size)
    grids = [
        photograph(name).unfold(0, size, stride).unfold(1, size, stride)
        for name in PHOTOGRAPHS[split]
    ]
    cut = torch.cat([grid.reshape(-1, 1, size, size) for grid in grids])
    cut = cut[cut.flatten(1).std(dim=1) >= MIN_CONTRAST].contiguous()
    cut = orientations(cut) if split == "train" else cut
    return cut[torch.randperm(len(cut), generator=seeding.generator(ORDER_SEED, "embedded", split))]


def orientations(images: torch.Tensor) -> torch.Tensor:
    """Images (N, C, H, H) turned by quarters and mirrored: (8 N, C, H, H)."""
    return torch.cat(
        [torch.rot90(way, turns, (2, 3)) for way in (images, images.mT) for turns in range(4)]
    ).contiguous()
