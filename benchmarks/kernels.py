"""Ratios of the two kernels a training step is made of, timed side by side in one interleaved run.

    python benchmarks/kernels.py [--json FILE]

transform: deepinv's butterfly Hadamard over this package's two matrix products, for H^T H of the single-pixel camera.
bf16:      the denoiser's forward and input-backward pass in float32 over the same under bfloat16 autocast.
Each ratio is the median over repetitions of (first / second), the two timed one after the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import deepinv
import torch

from dipa import files, operators
from dipa.experiments.results import provenance
from dipa.priors import PnP


def seconds(work: Callable[[], object], calls: int) -> float:
    """Mean time of one call."""
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return (time.perf_counter() - began) / calls


def ratio(first: Callable[[], object], second: Callable[[], object], *, calls: int, repeats: int = 7) -> dict:
    """Interleaved timings of two pieces of work and the median of their ratios."""
    first(), second()
    pairs = [(seconds(first, calls), seconds(second, calls)) for _ in range(repeats)]
    return {"ratio": statistics.median(a / b for a, b in pairs), "seconds": pairs}


def transform(size: int, batch: int = 16) -> dict:
    """deepinv's H^T H over ours, same operator, same batch."""
    x = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0))
    ours = operators.single_pixel((1, size, size), ratio=0.2)
    theirs = deepinv.physics.SinglePixelCamera(int(ours.mask.sum()), (1, size, size), ordering="cake_cutting")
    return ratio(lambda: theirs.A_adjoint_A(x), lambda: ours.A_adjoint_A(x), calls=50 if size <= 32 else 10)


def precision(size: int = 32, batch: int = 16) -> dict:
    """The denoiser's forward and input-backward pass, float32 over bf16 (untrained weights: time does not depend on them)."""
    net = deepinv.models.DnCNN(1, 1, pretrained=None).requires_grad_(False).to(memory_format=torch.channels_last)
    x = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def work(name: str) -> Callable[[], object]:
        prior = PnP(net, precision=name)
        return lambda: torch.autograd.grad(prior.denoise(x).sum(), x)

    return ratio(work("float32"), work("bf16"), calls=3)


def main() -> None:
    """Measure, print the ratios, and write everything where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="the file to write ratios, raw times and provenance to")
    options = parser.parse_args()
    result = {f"transform_{size}": transform(size) for size in (32, 128)} | {"bf16_32": precision()}
    print(json.dumps({name: round(entry["ratio"], 2) for name, entry in result.items()}))
    if options.json:
        files.write_json(options.json, result | {"manifest": provenance()})


if __name__ == "__main__":
    main()
