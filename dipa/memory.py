"""Memory: what is free, what does not fit, and work in parts where it does not."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import torch

from .checks import InputError, is_out_of_memory, require


def free_memory(place: torch.device) -> int:
    """Bytes that are free on a GPU, or in the system (what it could give without swapping)."""
    if place.type == "cuda":
        return torch.cuda.mem_get_info(place)[0]
    return psutil.virtual_memory().available


def in_words(count: int) -> str:
    """Bytes with a unit, such as 4 MiB."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count >= 1024**power:
            return f"{count / 1024**power:.3g} {unit}"
    return f"{count} B"


def require_room(name: str, value: Any, shape: tuple[int, ...], like: torch.Tensor) -> None:
    """Refuse the argument ``name`` = ``value`` that asks for an array of ``shape``, of numbers
    like those of ``like``, larger than what is free where ``like`` is.
    """
    taken, free = math.prod(shape) * like.element_size(), free_memory(like.device)
    sides = " x ".join(f"{side:,}" for side in shape)
    allowed = f"what fits: {sides} numbers take {in_words(taken)}, {in_words(free)} are free"
    require(taken <= free, name, value, allowed)


def peak_memory_mib(device: torch.device) -> int | None:
    """The most memory that tensors of this process have held on a GPU so far, in MiB; None for
    other devices.
    """
    return torch.cuda.max_memory_allocated(device) >> 20 if device.type == "cuda" else None


@contextlib.contextmanager
def named_shortage(device: torch.device, what: str, advice: str) -> Iterator[None]:
    """A stretch in which too little memory is an :class:`InputError` that says where and for
    ``what``, with the ``advice``.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"device: {device} has too little memory for {what}; {advice}") from error


def in_parts(
    compute: Callable[[torch.Tensor], Any], index: torch.Tensor, device: torch.device, what: str
) -> list[Any]:
    """``[compute(index)]``; where memory is too little for so many images the same of its halves,
    and so on.

    Raises :class:`InputError` where it is too little for one image.
    """
    alone = len(index) == 1
    with (
        named_shortage(device, f"one image when {what}", "a smaller size fits")
        if alone
        else contextlib.nullcontext()
    ):
        try:
            return [compute(index)]
        except (RuntimeError, MemoryError) as error:
            if alone or not is_out_of_memory(error):
                raise
    release(device)
    return [
        part for half in index.tensor_split(2) for part in in_parts(compute, half, device, what)
    ]


def release(device: torch.device) -> None:
    """Give memory that no tensor uses any more back to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
