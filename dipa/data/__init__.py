"""Images: photographs and MR slices that work offline, public data sets by name, the user's own
files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from .. import storage
from ..checks import InputError, plain_value, require_choice, require_int, require_path
from ..choices import DATASETS, RESIZES
from . import embedded, folders, mnist
from .sources import SOURCES, Request

SPLITS = ("train", "test")


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) in [0, 1], of two channels in the unit disc, with where they come
    from and their SHA-256.
    """

    images: torch.Tensor
    name: str
    split: str

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the images."""
        return storage.sha256_tensors({"images": self.images})

    def take(self, count: int) -> torch.Tensor:
        """The first ``count`` images; more than there are is refused."""
        count = require_int("count", count, 1)
        if count > len(self.images):
            have = f"at most the {len(self.images)} images of {self.name} {self.split}"
            raise InputError(f"count: got {count}; allowed: {have} at size {self.images.shape[-1]}")
        return self.images[:count]


def load(
    name: str,
    split: str,
    *,
    size: int = 32,
    count: int | None = None,
    resize: str = "bilinear",
    channels: int = 1,
    file: str = "",
) -> ImageSet:
    """The first ``count`` images (all for None) of a split of a data set: (count, channels, size,
    size), float32.

    No data set needs the network; those that are not here are refused with what to put where. Train
    and test never share a photograph, a digit or, where the data say who is who, a person.

    Args:
        name: ``embedded`` (photographs inside scikit-image) and ``embedded-mri`` (slices inside
            nibabel, :mod:`dipa.data.embedded_mri`) are always here; ``mnist``
            (:mod:`dipa.data.mnist`), ``bsds500``, ``celeba``, ``faces``
            (:mod:`dipa.data.pictures`), ``fastmri``, ``mri-npz`` (:mod:`dipa.data.slices`) are read
            from ``DIPA_DATA``. 'dipa data' lists them with how to get them.
        split: ``train`` or ``test``.
        size: side in pixels.
        count: how many; more than there are is refused. Only so many pictures are decoded.
        resize: how digits get from 28 x 28 to ``size`` (MNIST only; all others are resized with
            antialias).
        channels: 1 (grey or magnitude, in [0, 1]), 2 (real and imaginary part; zero imaginary part
            for what is real), 3 (RGB, photographs and faces from files only).
        file: ``fastmri`` and ``mri-npz``: a path, or a name in ``DIPA_DATA/fastmri`` or
            ``DIPA_DATA/mri``; may be empty where there is only one.

    Raises:
        InputError: an argument out of range, data not here (with how to get them) or damaged.
    """
    require_choice("dataset", name, DATASETS)
    require_choice("split", split, SPLITS)
    channels, size = require_int("channels", channels, 1, 3), plain_value(size)
    require_choice("resize", resize, RESIZES)
    require_path("file", file)
    if count is not None:
        count = require_int("count", count, 1)
    images = SOURCES[name].images(Request(split, size, count, channels, resize, file))
    whole = ImageSet(images, name, split)
    return whole if count is None else ImageSet(whole.take(count).contiguous(), name, split)


def lengths(name: str, file: str = "") -> dict[str, int]:
    """How many images each split of a data set has (patches: at 32 x 32); :class:`InputError`
    where it is not here.
    """
    require_choice("dataset", name, DATASETS)
    return {split: SOURCES[name].length(split, file) for split in SPLITS}


def here(name: str) -> list[str]:
    """The names that ``file`` may have for a data set in ``DIPA_DATA``; one empty name where it
    takes none or has none.
    """
    require_choice("dataset", name, DATASETS)
    pattern = SOURCES[name].pattern
    return (
        [path.name for path in folders.listing(*pattern)]
        if pattern and folders.listing(*pattern)
        else [""]
    )


def downloads() -> list[str]:
    """The data sets that :func:`download` can fetch."""
    return [name for name, source in SOURCES.items() if source.download]


def download(name: str) -> None:
    """Fetch a data set from its public source into the cache; refused where it can only be put
    there by hand.
    """
    require_choice("dataset", name, DATASETS)
    fetch = SOURCES[name].download
    if fetch is None:
        raise InputError(f"{name}: no download; {SOURCES[name].get}")
    fetch()


__all__ = [
    "DATASETS",
    "SOURCES",
    "SPLITS",
    "ImageSet",
    "download",
    "downloads",
    "embedded",
    "here",
    "lengths",
    "load",
    "mnist",
]
