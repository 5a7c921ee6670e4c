"""Images however they are kept, as one tensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from .checks import InputError, require
from .memory import require_room

Images: TypeAlias = Any  # a tensor (N, C, H, W), or what images_of takes for one


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
            require_room(name, f"{count:,} items", (count, *batch.shape), batch)
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
