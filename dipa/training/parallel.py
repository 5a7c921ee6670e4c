"""One training on several processes: each takes its share of every batch; what they find is
averaged.

``torchrun --nproc-per-node 2 -m dipa.cli run ...`` starts the processes; every function here does
nothing in a single one.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from ..checks import InputError, require
from ..device import able, own_gpu

ADVICE = "as torchrun sets it; unset WORLD_SIZE to run alone"
# how long one process waits for another, which may be testing or loading data
PATIENCE = datetime.timedelta(hours=6)


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started, and leave them at the end; alone, nothing happens.

    gloo on processors, nccl where every process has a GPU of its own. Raises :class:`InputError`
    where the variables that torchrun sets are there in part, or not what it sets, and where the
    processes do not find each other.
    """
    processes = _environment("WORLD_SIZE", 1) if "WORLD_SIZE" in os.environ else 1
    if processes == 1:
        yield
        return
    _environment("RANK", 0, processes - 1)
    beside = _environment("LOCAL_WORLD_SIZE", 1, processes)
    _environment("MASTER_PORT", 1, 65535)
    require(
        os.environ.get("MASTER_ADDR"),
        "MASTER_ADDR",
        os.environ.get("MASTER_ADDR"),
        f"a host name, {ADVICE}",
    )
    _environment("LOCAL_RANK", 0, beside - 1)
    gpu = own_gpu()
    if gpu is not None:
        torch.cuda.set_device(gpu)
    try:
        dist.init_process_group("gloo" if gpu is None else "cpu:gloo,cuda:nccl", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise InputError(
            f"MASTER_ADDR, MASTER_PORT: no meeting of {processes} processes at {place} ({error})"
        ) from error
    try:
        yield
    finally:
        dist.destroy_process_group()


def _environment(name: str, low: int, high: int = 2**31) -> int:
    """The integer that torchrun puts into the variable ``name``."""
    text = os.environ.get(name)
    whole = (
        text is not None
        and text.isascii()
        and text.isdigit()
        and len(text) < 20
        and low <= int(text) <= high
    )
    require(whole, name, text, f"an integer in [{low}, {high}], {ADVICE}")
    return int(os.environ[name])


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if size() > 1 else 0


def share(items: torch.Tensor) -> torch.Tensor:
    """This process's part of ``items`` (N,): consecutive, sizes differ by at most one."""
    return items.tensor_split(size())[rank()]


def batches(items: torch.Tensor, batch_size: int) -> list[torch.Tensor]:
    """This process's share of the batches of ``items`` (N,), the same batches for any number of
    processes; may be none.
    """
    whole = items.split(batch_size)
    return [whole[i] for i in share(torch.arange(len(whole)))]


def average(tensors: list[torch.Tensor], weight: float) -> None:
    r"""Replace tensors by :math:`\sum_r w_r t_r` over the processes, in place; the weights add
    up to 1.
    """
    if size() == 1 or not tensors:
        return
    # gloo and nccl know no mps
    flat = able(torch.cat([tensor.flatten() for tensor in tensors]) * weight)
    dist.all_reduce(flat)
    for tensor, part in zip(
        tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True
    ):
        tensor.copy_(part.reshape(tensor.shape))


def gather(value: Any) -> list[Any]:
    """What every process passes, by rank, on all of them; plain values and tensors on the
    processor.
    """
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value)
    return values


@contextmanager
def together() -> Iterator[None]:
    """A stretch in which bad input found by one process stops them all with the same error, and
    none waits in vain.
    """
    error = None
    try:
        yield
    except InputError as fault:
        if size() == 1:
            raise
        error = fault
    messages = [text for text in gather(error and str(error)) if text]
    if error is not None:
        raise error
    if messages:
        raise InputError(messages[0])


def wait() -> None:
    """Until every process is here."""
    if size() > 1:
        dist.barrier()
