"""Time to quality: image-steps and seconds until a preconditioner has gained so many decibels over
the baseline, two ways side by side.

    python benchmarks/quality.py [--method n-dipa] [--steps 300] [--json FILE]

The straightforward way (benchmarks/reference.py: identity, every loss with weight 1, learning rate
1e-5, of the network 1e-3) and this package's: L-DIPA from the closed form, straight-through
gradients, bf16, cosine schedule; N-DIPA behind the closed form, trained on the first iteration
alone and run with a prior whose share decays. Seconds count training and what must be computed
before it (the closed form), not the tests in between; test PSNR in float32 on the same images.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from common import Setting, finish, parser
from reference import AS_PRINTED, STUDENT_STEP, K, Matrix, Reference

import dipa
from dipa import seeding
from dipa.reports import paper_gain
from dipa.training import Differentiation, Phase

BATCH, RATE = 16, 4e-4
NETWORK = {"features": 64, "blocks": 3, "scaling": "none"}  # the straightforward one's ConvNeXt
BEHIND = {"features": 12, "blocks": 3, "scaling": "image"}  # the U-Net behind the closed form
ALONE = {"momentum": "none", "prior_decay": 1.0}  # the solver of what is trained on one iteration
PAPER = round(paper_gain("l-dipa-supervised", "DIPA Table 2"), 1)
GAINS = (2.0, 4.0, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, 9.0, 10.0, PAPER)


class Course:
    """Points (image-steps, seconds, test PSNR) of a training; the clock stands still during the
    tests.
    """

    def __init__(self, setting: Setting, every: int, **solver: Any):
        self.setting, self.every, self.points, self.solver = setting, every, [], solver
        self.y = setting.student.A(setting.test)
        self.seconds, self.since = 0.0, time.perf_counter()

    def note(self, step: int, P: Callable) -> None:
        """Test P after ``step`` steps, where it is due."""
        if step % self.every:
            return
        self.seconds += time.perf_counter() - self.since
        self.points.append(
            (step * BATCH, round(self.seconds), psnr(self.setting, self.y, P, **self.solver))
        )
        self.since = time.perf_counter()


@torch.no_grad()
def psnr(setting: Setting, y: torch.Tensor, P: Callable | None, **solver: Any) -> float:
    """Mean PSNR of the test images in float32."""
    solve = setting.solver(K, "float32", **solver)
    x = solve(y, setting.student, preconditioner=P, stepsize=STUDENT_STEP).x
    return dipa.metrics.psnr(x, setting.test).mean().item()


def straightforward(setting: Setting, method: str, steps: int, every: int) -> list[tuple]:
    """The course of the reference."""
    size, course = tuple(setting.images.shape[1:]), Course(setting, every)
    matrix: torch.nn.Module = Matrix(setting.images[0].numel())
    rate = {"learning_rate": 1e-5}
    if method == "n-dipa":
        matrix = dipa.NeuralPreconditioner("convnext", img_size=size, **NETWORK)
        rate = {"learning_rate": 1e-3}
    reference = Reference(setting, matrix.to(setting.device), **rate)
    for step in range(steps):
        reference.step(setting.images[seeding.batch_indices(len(setting.images), BATCH, step, 0)])
        course.note(step + 1, matrix)
    return course.points


def ours(setting: Setting, closed_form: torch.Tensor, steps: int, every: int) -> list[tuple]:
    """The course of this package, with the closed form as point 0."""
    course = Course(setting, every)
    P = dipa.LinearPreconditioner.ridge(setting.student, closed_form, stepsize=STUDENT_STEP)
    course.note(0, P)
    dipa.distill(
        setting.solver(K, "bf16"),
        P,
        setting.student,
        None,
        setting.images,
        losses=dipa.LossWeights(supervised=1.0),
        budget=dipa.Budget(steps=steps, batch_size=BATCH, learning_rate=RATE, schedule="cosine"),
        differentiation=Differentiation("straight_through"),
        progress=False,
        report=lambda record: course.note(record["step"], P),
        **AS_PRINTED,
    )
    return course.points


def one_iteration(
    setting: Setting, closed_form: torch.Tensor, steps: int, every: int
) -> list[tuple]:
    """The course of this package's N-DIPA, with the closed form as point 0."""
    course, options = Course(setting, every, **ALONE), {"stepsize": STUDENT_STEP}
    first = dipa.LinearPreconditioner.ridge(
        setting.student, closed_form, null_weight=1.0, **options
    )
    size = tuple(setting.images.shape[1:])
    second = dipa.NeuralPreconditioner("unet", img_size=size, **BEHIND).to(setting.device)
    P = dipa.ComposedPreconditioner(first.requires_grad_(False), second)
    course.note(0, P)
    budget = dipa.Budget(steps=steps, batch_size=BATCH, learning_rate=1e-3, schedule="one_cycle")
    dipa.distill(
        setting.solver(K, "float32", **ALONE),
        P,
        setting.student,
        None,
        closed_form,
        phases=[Phase(budget, iterations=1, before_prior=True)],
        validation=0,
        progress=False,
        report=lambda record: course.note(record["step"], P),
        **options,
    )
    return course.points


def first(points: list[tuple], baseline: float, gain: float) -> tuple[int, float] | None:
    """Image-steps and seconds of the first point that gains so much."""
    return next(
        ((steps, seconds) for steps, seconds, value in points if value - baseline >= gain), None
    )


def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument(
        "--steps", type=int, default=300, help="steps of this package's training (default 300)"
    )
    made.add_argument(
        "--reference-steps",
        type=int,
        default=60,
        help="steps of the straightforward one (default 60)",
    )
    made.add_argument("--method", default="l-dipa", choices=("l-dipa", "n-dipa"))
    made.add_argument("--every", type=int, default=20, help="steps between two tests (default 20)")
    options = made.parse_args()
    setting = Setting.make(options, count=2400)
    closed_form = dipa.data.load(
        options.data, "train", size=32, count=50_000 if options.data == "mnist" else None
    ).images.to(options.device)
    baseline = psnr(setting, setting.student.A(setting.test), None)
    courses = {
        "straightforward": straightforward(
            setting, options.method, options.reference_steps, options.every
        ),
        "ours": {"l-dipa": ours, "n-dipa": one_iteration}[options.method](
            setting, closed_form, options.steps, options.every
        ),
    }
    reached = {
        name: {str(gain): first(points, baseline, gain) for gain in GAINS}
        for name, points in courses.items()
    }
    headline = {"baseline": baseline} | {
        f"gain_{name}": points[-1][2] - baseline for name, points in courses.items()
    }
    finish({"courses": courses, "reached": reached}, headline, options)


if __name__ == "__main__":
    main()
