"""One training step beside the straightforward one and beside its floor, interleaved in one run;
and what speed costs in PSNR.

    python benchmarks/training.py [--method n-dipa] [--way straight_through] [--train-steps 20]
    [--json FILE]

step_ratio        the straightforward step (benchmarks/reference.py) over this package's with the
gradient of --way;
                  exact_step_ratio the same with the exact gradient. bf16, teacher cached.
memory_ratio      peak memory of the straightforward step over that of the exact one
(fast_memory_ratio: that of --way). floor_ratio       the exact step over K denoiser passes, forward
and backward to the input, in the same precision;
                  solve_ratio a solve over K denoiser calls.
psnr_difference   test PSNR after --train-steps of --way in bf16 minus that of exact float32
unrolling, both from
                  the same start, on the same batches, at the same learning rate.
Each ratio is the median over the repetitions of two times taken one after the other.
"""

from __future__ import annotations

import argparse
import time

import torch
from common import Setting, finish, interleaved, parser, peak_mib, ratio
from reference import AS_PRINTED, STUDENT_STEP, K, Matrix, Reference

import dipa
from dipa.choices import WAYS
from dipa.training import Differentiation

BATCH = 16
NETWORK = {"features": 128, "blocks": 5, "code_dim": 256}  # the papers' N-DIPA


def start(
    setting: Setting, method: str, precision: str = "bf16", plain: bool = False
) -> torch.nn.Module:
    """A preconditioner as it starts: the identity (``plain``: a dense matrix), or the network."""
    size = tuple(setting.images.shape[1:])
    if method == "n-dipa":
        return dipa.NeuralPreconditioner(
            "convnext", img_size=size, precision=precision, **NETWORK
        ).to(setting.device)
    if plain:
        return Matrix(size[-1] * size[-2]).to(setting.device)
    return dipa.LinearPreconditioner.identity(setting.student, size)


class Step:
    """This package's training step: ``dipa.distill`` on one batch, its second step timed (the
    first one warms up).
    """

    def __init__(
        self, setting: Setting, method: str, way: Differentiation, precision: str = "bf16"
    ):
        self.setting, self.way, self.solver = setting, way, setting.solver(K, precision)
        self.preconditioner = start(setting, method, precision)
        self.times: list[float] = []

    def __call__(self) -> None:
        budget = dipa.Budget(steps=2, batch_size=BATCH, learning_rate=1e-5, schedule="constant")
        marks: list[float] = []
        dipa.distill(
            self.solver,
            self.preconditioner,
            self.setting.student,
            self.setting.teacher,
            self.setting.images[:BATCH],
            losses=dipa.LossWeights(supervised=1.0, imitation=1.0, gradient=1.0),
            budget=budget,
            differentiation=self.way,
            progress=False,
            report=lambda record: marks.append(time.perf_counter()),
            **AS_PRINTED,
        )
        self.times.append(marks[1] - marks[0])


def floor(setting: Setting, precision: str, backward: bool) -> None:
    """K denoiser calls, with or without the backward pass to the input."""
    prior, x = (
        dipa.PnP(setting.denoiser, precision=precision),
        setting.images[:BATCH].clone().requires_grad_(backward),
    )
    with torch.set_grad_enabled(backward):
        for _ in range(K):
            out = prior.denoise(x)
            if backward:
                torch.autograd.grad(out.sum(), x)


def psnr_after(
    setting: Setting, options: argparse.Namespace, way: Differentiation, precision: str
) -> float:
    """Test PSNR after a short training of L-DIPA from the closed form, or of N-DIPA from the
    identity; tested in float32.
    """
    if options.method == "n-dipa":
        P, rate = start(setting, options.method, precision), 1e-3
    else:
        closed_form = dipa.data.load(options.data, "train", size=32).images.to(setting.device)
        P, rate = (
            dipa.LinearPreconditioner.ridge(setting.student, closed_form, stepsize=STUDENT_STEP),
            4e-4,
        )
    budget = dipa.Budget(
        steps=options.train_steps, batch_size=BATCH, learning_rate=rate, schedule="cosine"
    )
    arguments = {
        "losses": dipa.LossWeights(supervised=1.0),
        "budget": budget,
        "differentiation": way,
        "progress": False,
    }
    dipa.distill(
        setting.solver(K, precision),
        P,
        setting.student,
        None,
        setting.images,
        **arguments,
        **AS_PRINTED,
    )
    if options.method == "n-dipa":
        P.precision = "float32"
    with torch.no_grad():
        y = setting.student.A(setting.test)
        x = setting.solver(K, "float32")(
            y, setting.student, preconditioner=P, stepsize=STUDENT_STEP
        ).x
    return dipa.metrics.psnr(x, setting.test).mean().item()


def measure_times(
    setting: Setting, options: argparse.Namespace, ways: dict[str, Differentiation]
) -> dict[str, list[float]]:
    """Raw seconds of the reference, of our ways, and of the floors."""
    reference = Reference(setting, start(setting, options.method, "float32", plain=True))
    steps = {name: Step(setting, options.method, way) for name, way in ways.items()}
    y = setting.student.A(setting.images[:BATCH])
    solver = setting.solver(K, "bf16")

    def solve() -> None:
        with torch.no_grad():
            solver(y, setting.student, preconditioner=start_of_solve, stepsize=STUDENT_STEP)

    start_of_solve = start(setting, "l-dipa")
    works = {"reference": lambda: reference.step(setting.images[:BATCH]), **steps}
    works |= {
        "floor": lambda: floor(setting, "bf16", True),
        "solve": solve,
        "calls": lambda: floor(setting, "bf16", False),
    }
    times = interleaved(works, options.repeats, setting.device)
    return times | {name: step.times[-options.repeats :] for name, step in steps.items()}


def measure_memory(
    setting: Setting, options: argparse.Namespace, ways: dict[str, Differentiation]
) -> dict[str, float]:
    """Peak memory of one step, the reference first."""
    reference = Reference(setting, start(setting, options.method, "float32", plain=True))
    steps = {"reference": lambda: reference.step(setting.images[:BATCH])}
    steps |= {name: Step(setting, options.method, way) for name, way in ways.items()}
    return {name: peak_mib(step, setting.device) for name, step in steps.items()}


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument(
        "--method", default="l-dipa", choices=("l-dipa", "n-dipa"), help="default l-dipa"
    )
    made.add_argument(
        "--way",
        default="straight_through",
        choices=WAYS,
        help="the fast way (default straight_through)",
    )
    made.add_argument(
        "--tail",
        type=int,
        default=5,
        help="iterations that truncated and restart differentiate (default 5)",
    )
    made.add_argument(
        "--train-steps",
        type=int,
        default=20,
        help="steps of the two trainings compared (default 20)",
    )
    options = made.parse_args()
    setting = Setting.make(options, count=512)
    ways = {"exact": Differentiation(), "fast": Differentiation(options.way, options.tail)}
    times = measure_times(setting, options, ways)
    memory = measure_memory(setting, options, ways)
    exact = psnr_after(setting, options, Differentiation("unrolled"), "float32")
    found = {"exact_float32": exact} | {
        name: psnr_after(setting, options, way, "bf16") for name, way in ways.items()
    }
    headline = {
        "step_ratio": ratio(times, "reference", "fast"),
        "exact_step_ratio": ratio(times, "reference", "exact"),
        "memory_ratio": memory["reference"] / memory["exact"],
        "fast_memory_ratio": memory["reference"] / memory["fast"],
        "floor_ratio": ratio(times, "exact", "floor"),
        "solve_ratio": ratio(times, "solve", "calls"),
        "psnr_difference": found["fast"] - exact,
        "psnr_lost": exact - found["fast"],
        "exact_psnr_difference": found["exact"] - exact,
    }
    finish({"seconds": times, "peak_mib": memory, "psnr": found}, headline, options)


if __name__ == "__main__":
    main()
