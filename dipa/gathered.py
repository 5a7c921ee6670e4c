"""Images however they are kept: as one tensor, or batch by batch where they do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .checks import InputError, foreign, require, require_images, shortened
from .memory import require_room

Images: TypeAlias = Any  # a tensor (N, C, H, W), or what images_of takes for one
SAMPLE = 1024  # images that stand for all of a stream


class Streamed(Dataset[torch.Tensor]):
    """Images that stay where they are, for sets larger than memory: what needs all of them reads
    them batch by batch.

    :func:`~dipa.training.distill` reads the batch of each step (and runs the teacher on it then:
    its targets are not kept), and :meth:`~dipa.preconditioners.LinearPreconditioner.ridge` goes
    through all of them once. Other functions put them together, as any ``Dataset``.

    Args:
        dataset: of a known length, whose items are images (C, H, W) of one size and dtype, or
            tuples whose first part is one (a ``Dataset`` of torchvision's or deepinv's, a list, a
            memory-mapped array).
        device: where the batches go.

    Raises:
        InputError: no length, no items or one that is no image; later, when it is read, an image of
            another size or dtype than the first, or with numbers that are not finite.
    """

    def __init__(self, dataset: Any, device: torch.device | str = "cpu"):
        sized = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        kind = type(dataset).__name__
        allowed = "one with a length, whose items can be asked for by number"
        require(sized, "dataset", kind, allowed)
        with foreign("dataset", kind, allowed):
            count = len(dataset)
        require(count > 0, "dataset", "no items", "at least one image")
        with foreign("device", shortened(repr(device), 60), "a device of torch, such as 'cpu'"):
            self.device = torch.device(device)
        self.dataset = dataset
        first = self._item(0)
        self.shape, self.dtype = (count, *first.shape), first.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> torch.Tensor:
        """The image (C, H, W) of a number; the images (B, C, H, W) of a slice or a tensor of
        numbers.
        """
        if isinstance(index, slice):
            index = torch.arange(len(self))[index]
        if not isinstance(index, torch.Tensor):
            return self._item(int(index)).to(self.device)
        items = [self._checked(int(number)) for number in index.flatten()]
        return torch.stack(items).to(self.device)

    def split(self, count: int) -> Iterator[torch.Tensor]:
        """All images, ``count`` at a time."""
        for number in range(0, len(self), count):
            yield self[number : number + count]

    def sample(self, numbers: torch.Tensor | None = None) -> torch.Tensor:
        """At most 1,024 of the images, or of those with these numbers, evenly apart: what checks
        and records look at.
        """
        asked = torch.arange(len(self)) if numbers is None else numbers
        return self[asked[:: -(-len(asked) // SAMPLE)]]

    def _item(self, number: int) -> torch.Tensor:
        with foreign("dataset", f"item {number}", "an image that can be read"):
            item = self.dataset[number]
        image = item[0] if isinstance(item, (tuple, list)) and item else item
        batch = _batch("dataset", number, image)
        require(len(batch) == 1, "dataset", f"item {number} of {len(batch)} images", "one image")
        return batch[0]

    def _checked(self, number: int) -> torch.Tensor:
        image = self._item(number)
        got, wanted = (tuple(image.shape), image.dtype), (self.shape[1:], self.dtype)
        require(got == wanted, f"dataset: item {number}", got, f"{wanted}, as the first")
        require_images(f"dataset: item {number}", image[None])
        return image


def stream_or_images(name: str, images: Any) -> Any:
    """A stream as it is; anything else by :func:`images_of`."""
    return images if isinstance(images, Streamed) else images_of(name, images)


def sample_of(images: Any, numbers: torch.Tensor | None = None) -> Any:
    """What stands for all images, or for those with these numbers, where they need not be looked
    at one by one: a sample of a stream, all of a tensor.
    """
    if isinstance(images, Streamed):
        return images.sample(numbers)
    return images if numbers is None else images[numbers]


def images_of(name: str, images: Any) -> Any:
    """Images (N, C, H, W) as a tensor, from whatever holds them; what holds none is given back as
    it is, for the door to refuse.

    A tensor is itself; an :class:`~dipa.data.ImageSet` its images. An array of numpy is a tensor of
    its numbers, in torch's default dtype where they are float64 and that is another. Of a list, a
    ``Dataset`` or a ``DataLoader`` the items are images (C, H, W) or batches of them, or tuples
    whose first part is one, as deepinv's and torchvision's; they are put together once.

    Raises:
        InputError: items that are no images, or of several sizes; more of them than fit in memory.
    """
    held = getattr(images, "images", None)
    if isinstance(held, torch.Tensor):
        return held
    if isinstance(images, np.ndarray):
        return _tensor(images)
    if isinstance(images, (list, tuple, Dataset, DataLoader)) and not _numbers(images):
        return _together(name, images)
    return images


def _numbers(images: Any) -> bool:
    """Whether a list is one of numbers, nested or not: no images."""
    return isinstance(images, (list, tuple)) and not (
        images and isinstance(images[0], (torch.Tensor, np.ndarray, tuple))
    )


def _together(name: str, images: Any) -> torch.Tensor:
    batches: list[torch.Tensor] = []
    for number, item in enumerate(_items(images)):
        batch = _batch(name, number, item)
        if not batches:
            count = len(images) if hasattr(images, "__len__") else 1
            kept = f"{count:,} items (dipa.data.Streamed leaves them where they are)"
            require_room(name, kept, (count, *batch.shape), batch)
        first = batches[0] if batches else batch
        same = batch.shape[1:] == first.shape[1:] and batch.dtype == first.dtype
        got = f"item {number} of {tuple(batch.shape[1:])}, {batch.dtype}"
        require(same, name, got, f"images {tuple(first.shape[1:])}, {first.dtype}, as the first")
        batches.append(batch)
    require(len(batches) > 0, name, "no items", "at least one image")
    return torch.cat(batches)


def _items(images: Any) -> Iterator[Any]:
    if isinstance(images, Iterable):
        yield from images
        return
    for number in range(len(images)):
        yield images[number]


def _batch(name: str, number: int, item: Any) -> torch.Tensor:
    image = item[0] if isinstance(item, (tuple, list)) and item else item
    image = _tensor(image) if isinstance(image, np.ndarray) else image
    if not isinstance(image, torch.Tensor) or image.ndim not in (3, 4):
        got = tuple(image.shape) if isinstance(image, torch.Tensor) else type(image).__name__
        raise InputError(
            f"{name}: item {number}: got {got}; allowed: a tensor (C, H, W) or (B, C, H, W)"
        )
    return image if image.ndim == 4 else image[None]


def _tensor(array: np.ndarray) -> Any:
    try:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
    except TypeError:  # of objects or texts
        return array
    return tensor.to(torch.get_default_dtype()) if tensor.dtype == torch.float64 else tensor
