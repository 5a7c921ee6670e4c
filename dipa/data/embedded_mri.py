"""The offline MR images: axial echo-planar slices of a head that ship inside nibabel."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from ..checks import InputError, require_choice, require_int
from .embedded import orientations
from .pixels import normalised, resized
from .splits import shuffled

SIDE = 96  # of the square cut from the 128 x 96 slices; the head spans 68 x 90 of it
# 6, 7, 16, 17: in neither split
SLICES = {"train": (*range(6), *range(18, 24)), "test": tuple(range(8, 16))}
# side of a window -> stride
WINDOWS = {"train": {96: 96, 80: 16, 64: 16}, "test": {96: 96, 64: 32}}


@functools.lru_cache(maxsize=1)
def volume() -> torch.Tensor:
    """The 24 axial slices (24, 96, 96) from foot to head, front up, each normalised to [0, 1] by
    its 99.5th percentile.

    They are the first of the two time points of ``example4d.nii.gz`` (128 x 96 x 24, 2 x 2 x 2.2
    mm, int16, one head, background set to 0 by its authors), which nibabel has for its own tests.
    """
    import nibabel

    path = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    if not path.is_file():
        raise InputError(
            f"embedded-mri: {path.name} is not in this nibabel; pip install "
            f"--force-reinstall nibabel"
        )
    image: Any = nibabel.load(path)  # annotated as one that may hold no numbers
    array = image.dataobj[..., 0].astype("float32")
    slices = torch.rot90(torch.from_numpy(array), 1, (0, 1)).movedim(-1, 0)
    margin = (slices.shape[2] - SIDE) // 2
    return normalised(slices[:, :, margin : margin + SIDE]).contiguous()


def images(split: str, size: int = 50) -> torch.Tensor:
    """Magnitude images (N, 1, size, size) in [0, 1] of a split, resized with antialias.

    Whole slices (96 x 96) and windows of them, as far as they are no smaller than ``size``: nothing
    is magnified. Train: slices 0 to 5 and 18 to 23, windows of 80 and 64 at a stride of 16, all
    eight orientations (1,344 images up to size 64), in a fixed shuffled order. Test: slices 8 to 15
    upright, whole ones first, then the four overlapping windows of 64 of each (40 images up to size
    64, 8 above). Two slices (4.4 mm) on each side of the test block are in neither split, so no
    pixel is in both; but it is one head, one sequence and one session: a stand-in that works
    offline, not a benchmark.
    """
    require_choice("split", split, SLICES)
    require_int("size", size, 8, SIDE)
    whole = volume()[list(SLICES[split])]
    sides = {side: stride for side, stride in WINDOWS[split].items() if side >= size}
    cut = torch.cat(
        [resized(_windows(whole, side, stride), size) for side, stride in sides.items()]
    )
    if split == "test":
        return cut
    turned = orientations(cut)
    return turned[shuffled(range(len(turned)), "embedded-mri", split)]


def _windows(slices: torch.Tensor, side: int, stride: int) -> torch.Tensor:
    return slices.unfold(1, side, stride).unfold(2, side, stride).reshape(-1, 1, side, side)
