"""How time and memory of one training step grow with image side, iterations and batch, and the
fitted exponents.

    python benchmarks/scaling.py [--json FILE]

N-DIPA (64 features, 3 blocks; 2 iterations where the side varies) for sides 32 to 512, K 5 to 80,
batches 1 to 64; L-DIPA (low rank) for sides 32 to 128. time_* and memory_* are the slopes of
log-log fits; time over the number of pixels, so 1 is linear. Sides are powers of two: the
single-pixel camera needs them.
"""

from __future__ import annotations

import argparse

import torch
from common import Setting, exponent, finish, parser, peak_mib, seconds
from reference import STUDENT_STEP

import dipa
from dipa.training import Differentiation
from dipa.training.differentiate import called, differentiated

SIDES, ITERATIONS, BATCHES = (32, 64, 128, 256, 512), (5, 10, 20, 40, 80), (1, 4, 16, 64)
PLAN = Differentiation()


def preconditioner(setting: Setting, method: str, side: int) -> torch.nn.Module:
    """What is trained, at its start."""
    if method == "l-dipa":
        return dipa.LinearPreconditioner.identity(setting.student, (1, side, side))
    options = {"features": 64, "blocks": 3, "start": "random", "precision": "bf16"}
    return dipa.NeuralPreconditioner("convnext", img_size=(1, side, side), **options).to(
        setting.device
    )


def cost(
    options: argparse.Namespace, method: str, side: int, iterations: int, batch: int
) -> dict[str, float]:
    """Seconds (the better of two, after a first) and peak MiB of one forward and backward pass."""
    setting = Setting.make(options, size=side, count=batch, test=1)
    P = preconditioner(setting, method, side)
    solver, physics, x = (
        differentiated(PLAN, setting.solver(iterations, "bf16")),
        setting.student,
        setting.images,
    )
    parameters = list(P.parameters())

    def step() -> None:
        x_hat = solver(
            physics.A(x),
            physics,
            preconditioner=called(PLAN, P),
            stepsize=STUDENT_STEP,
            backward=PLAN.backward,
        ).x
        torch.autograd.grad(
            dipa.losses.supervised(x_hat, x).mean(), [p for p in parameters if p.requires_grad]
        )

    peak = peak_mib(step, options.device)
    return {
        "seconds": min(seconds(step, options.device) for _ in range(options.repeats)),
        "peak_mib": peak,
    }


def main() -> None:
    """Measure and print."""
    options = parser(__doc__, repeats=2).parse_args()
    series = {
        "n_dipa_side": [(side, cost(options, "n-dipa", side, 2, 1)) for side in SIDES],
        "n_dipa_iterations": [(k, cost(options, "n-dipa", 32, k, 4)) for k in ITERATIONS],
        "n_dipa_batch": [(batch, cost(options, "n-dipa", 32, 5, batch)) for batch in BATCHES],
        "l_dipa_side": [(side, cost(options, "l-dipa", side, 2, 4)) for side in SIDES[:3]],
        "l_dipa_iterations": [(k, cost(options, "l-dipa", 32, k, 4)) for k in ITERATIONS],
        "l_dipa_batch": [(batch, cost(options, "l-dipa", 32, 5, batch)) for batch in BATCHES],
    }
    headline = {}
    for name, points in series.items():
        sizes = [size**2 if name.endswith("side") else size for size, _ in points]
        headline |= {
            f"{what}_{name}": exponent(sizes, [found[key] for _, found in points])
            for what, key in (("time", "seconds"), ("memory", "peak_mib"))
        }
    finish(
        {
            "series": {
                name: [{"size": size, **found} for size, found in points]
                for name, points in series.items()
            }
        },
        headline,
        options,
    )


if __name__ == "__main__":
    main()
