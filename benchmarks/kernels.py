"""Ratios of the two kernels a training step is made of, timed side by side in one interleaved run.

    python benchmarks/kernels.py [--json FILE]

transform: deepinv's butterfly Hadamard over this package's two matrix products, for H^T H of the single-pixel camera.
bf16:      the denoiser's forward and input-backward pass in float32 over the same under bfloat16 autocast.
Each ratio is the median over repetitions of (first / second), the two timed one after the other.
"""

from __future__ import annotations

from collections.abc import Callable

import deepinv
import torch
from common import finish, interleaved, parser, ratio

from dipa import operators
from dipa.priors import PnP


def beside(first: Callable[[], object], second: Callable[[], object], *, calls: int, repeats: int = 7) -> dict:
    """Interleaved timings of ``calls`` calls of two pieces of work and the median of their ratios."""
    works = {"first": lambda: [first() for _ in range(calls)], "second": lambda: [second() for _ in range(calls)]}
    times = interleaved(works, repeats)
    return {"ratio": ratio(times, "first", "second"), "seconds": times}


def transform(size: int, batch: int = 16) -> dict:
    """deepinv's H^T H over ours, same operator, same batch."""
    x = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0))
    ours = operators.single_pixel((1, size, size), ratio=0.2)
    theirs = deepinv.physics.SinglePixelCamera(int(ours.mask.sum()), (1, size, size), ordering="cake_cutting")
    return beside(lambda: theirs.A_adjoint_A(x), lambda: ours.A_adjoint_A(x), calls=50 if size <= 32 else 10)


def precision(size: int = 32, batch: int = 16) -> dict:
    """The denoiser's forward and input-backward pass, float32 over bf16 (untrained weights: time does not depend on them)."""
    net = deepinv.models.DnCNN(1, 1, pretrained=None).requires_grad_(False).to(memory_format=torch.channels_last)
    x = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def work(name: str) -> Callable[[], object]:
        prior = PnP(net, precision=name)
        return lambda: torch.autograd.grad(prior.denoise(x).sum(), x)

    return beside(work("float32"), work("bf16"), calls=3)


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    result = {f"transform_{size}": transform(size) for size in (32, 128)} | {"bf16_32": precision()}
    finish(result, {name: entry["ratio"] for name, entry in result.items()}, options)


if __name__ == "__main__":
    main()
