"""Images: embedded photographs that work offline, and public datasets by name, checked by checksum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from .. import files
from ..checks import InputError, require_choice, require_int
from . import embedded, mnist

DATASETS = ("embedded", "mnist")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) in [0, 1] with where they come from and their SHA-256."""

    images: torch.Tensor
    name: str
    split: str

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the images."""
        return files.sha256_tensors({"images": self.images})

    def take(self, count: int) -> torch.Tensor:
        """The first ``count`` images; more than there are is refused."""
        require_int("count", count, 1)
        if count > len(self.images):
            have = f"at most the {len(self.images)} images of {self.name} {self.split}"
            raise InputError(f"count: got {count}; allowed: {have} at size {self.images.shape[-1]}")
        return self.images[:count]


def load(name: str, split: str, *, size: int = 32, count: int | None = None, resize: str = "bilinear") -> ImageSet:
    """The first ``count`` images (all for None) of a split of a data set, ``size`` x ``size``.

    Args:
        name: ``embedded`` (photographs inside scikit-image, offline) or ``mnist`` (see :mod:`dipa.data.mnist`).
        split: ``train`` or ``test``; no photograph or digit is in both.
        size: side in pixels.
        count: how many; more than there are is refused.
        resize: how digits get from 28 x 28 to ``size`` (MNIST only).
    """
    require_choice("dataset", name, DATASETS)
    require_choice("split", split, SPLITS)
    if count is not None:
        require_int("count", count, 1)
    images = embedded.patches(split, size) if name == "embedded" else mnist.digits(split, size, resize, count)
    whole = ImageSet(images, name, split)
    return whole if count is None else ImageSet(whole.take(count).contiguous(), name, split)


__all__ = ["DATASETS", "SPLITS", "ImageSet", "embedded", "load", "mnist"]
