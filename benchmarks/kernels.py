"""Ratios of the two kernels a training step is made of, timed side by side in one interleaved run.

    python benchmarks/kernels.py [--json FILE]

transform: deepinv's butterfly Hadamard over this package's two matrix products, for H^T H of the
single-pixel camera. bf16:      the denoiser's forward and input-backward pass in float32 over the
same under bfloat16 autocast. Each ratio is the median over repetitions of (first / second), the two
timed one after the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import deepinv
import torch
from common import finish, interleaved, parser, ratio

from dipa import operators
from dipa.priors import PnP

BATCH = 16


def beside(
    first: Callable[[], object],
    second: Callable[[], object],
    options: argparse.Namespace,
    *,
    calls: int,
) -> dict:
    """Interleaved timings of ``calls`` calls of two pieces of work and the median of their
    ratios.
    """
    works = {
        "first": lambda: [first() for _ in range(calls)],
        "second": lambda: [second() for _ in range(calls)],
    }
    times = interleaved(works, options.repeats, options.device)
    return {"ratio": ratio(times, "first", "second"), "seconds": times}


def batch_of(size: int, options: argparse.Namespace) -> torch.Tensor:
    """A batch of random images."""
    return torch.rand(BATCH, 1, size, size, generator=torch.Generator().manual_seed(0)).to(
        options.device
    )


def transform(size: int, options: argparse.Namespace) -> dict:
    """deepinv's H^T H over ours, same operator, same batch."""
    x, ours = (
        batch_of(size, options),
        operators.single_pixel((1, size, size), ratio=0.2).to(options.device),
    )
    theirs = deepinv.physics.SinglePixelCamera(
        int(ours.mask.sum()), (1, size, size), ordering="cake_cutting"
    ).to(options.device)
    return beside(
        lambda: theirs.A_adjoint_A(x),
        lambda: ours.A_adjoint_A(x),
        options,
        calls=50 if size <= 32 else 10,
    )


def precision(options: argparse.Namespace, size: int = 32) -> dict:
    """The denoiser's forward and input-backward pass, float32 over bf16 (untrained weights:
    time does not depend on them).
    """
    net = (
        deepinv.models.DnCNN(1, 1, pretrained=None)
        .requires_grad_(False)
        .to(options.device, memory_format=torch.channels_last)
    )
    x = batch_of(size, options).requires_grad_()

    def work(name: str) -> Callable[[], object]:
        prior = PnP(net, precision=name)
        return lambda: torch.autograd.grad(prior.denoise(x).sum(), x)

    return beside(work("float32"), work("bf16"), options, calls=3)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, repeats=7).parse_args()
    result = {f"transform_{size}": transform(size, options) for size in (32, 128)} | {
        "bf16_32": precision(options)
    }
    finish(result, {name: entry["ratio"] for name, entry in result.items()}, options)


if __name__ == "__main__":
    main()
