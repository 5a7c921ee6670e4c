"""Randomness is an argument: every draw comes from a local generator derived from (seed, names of
its use).

A resumed run therefore draws exactly what an uninterrupted one would, whatever ran in between.
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, *stream: object) -> int:
    """A 63-bit seed for the stream named by ``stream`` (a purpose, a step, an image index...)."""
    text = "/".join(str(part) for part in (seed, *stream))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *stream: object, device: str | torch.device = "cpu") -> torch.Generator:
    """A fresh generator for one stream of one seed."""
    return torch.Generator(device=device).manual_seed(derive(seed, *stream))


def batch_indices(count: int, batch_size: int, step: int, seed: int) -> torch.Tensor:
    """Indices of batch ``step`` (from 0) of a stream of epochs, each a fresh seeded permutation.

    A batch may straddle two epochs, so every batch is full, also when ``batch_size > count``.
    """
    first, last = step * batch_size, (step + 1) * batch_size
    epochs = range(first // count, (last - 1) // count + 1)
    order = torch.cat(
        [torch.randperm(count, generator=generator(seed, "epoch", e)) for e in epochs]
    )
    return order[first - epochs[0] * count : last - epochs[0] * count]


def drawn(count: int, batch_size: int, steps: int, seed: int) -> torch.Tensor:
    """The numbers that the first ``steps`` batches of :func:`batch_indices` draw, each once, in
    increasing order.
    """
    if steps * batch_size >= count:
        return torch.arange(count)
    return torch.cat(
        [batch_indices(count, batch_size, step, seed) for step in range(steps)]
    ).unique()
