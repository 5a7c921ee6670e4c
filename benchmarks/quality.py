"""Time to quality: image-steps and seconds until L-DIPA has gained so many decibels over the
baseline, two ways side by side.

    python benchmarks/quality.py [--steps 300] [--reference-steps 60] [--json FILE]

The straightforward way (benchmarks/reference.py: identity, learning rate 1e-5, every loss with
weight 1) and this package's (closed-form start, straight-through gradients, bf16, cosine schedule).
Seconds count training and what must be computed before it (the closed form), not the tests in
between; test PSNR in float32 on the same images.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from common import Setting, finish, parser
from reference import AS_PRINTED, STUDENT_STEP, K, Matrix, Reference

import dipa
from dipa import seeding
from dipa.reports import paper_gain
from dipa.training import Differentiation

BATCH, RATE = 16, 4e-4
PAPER = round(paper_gain("l-dipa-supervised", "DIPA Table 2"), 1)
GAINS = (2.0, 4.0, 5.0, 5.5, 6.0, 6.5, 7.0, 8.0, PAPER)


class Course:
    """Points (image-steps, seconds, test PSNR) of a training; the clock stands still during the
    tests.
    """

    def __init__(self, setting: Setting, every: int):
        self.setting, self.every, self.points = setting, every, []
        self.y = setting.student.A(setting.test)
        self.seconds, self.since = 0.0, time.perf_counter()

    def note(self, step: int, P: Callable) -> None:
        """Test P after ``step`` steps, where it is due."""
        if step % self.every:
            return
        self.seconds += time.perf_counter() - self.since
        self.points.append((step * BATCH, round(self.seconds), psnr(self.setting, self.y, P)))
        self.since = time.perf_counter()


@torch.no_grad()
def psnr(setting: Setting, y: torch.Tensor, P: Callable | None) -> float:
    """Mean PSNR of the test images in float32."""
    x = setting.solver(K, "float32")(y, setting.student, preconditioner=P, stepsize=STUDENT_STEP).x
    return dipa.metrics.psnr(x, setting.test).mean().item()


def straightforward(setting: Setting, steps: int, every: int) -> list[tuple]:
    """The course of the reference."""
    matrix = Matrix(setting.images[0].numel()).to(setting.device)
    reference, course = Reference(setting, matrix), Course(setting, every)
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
    made.add_argument("--every", type=int, default=20, help="steps between two tests (default 20)")
    options = made.parse_args()
    setting = Setting.make(options, count=2400)
    closed_form = dipa.data.load(
        options.data, "train", size=32, count=50_000 if options.data == "mnist" else None
    ).images.to(options.device)
    baseline = psnr(setting, setting.student.A(setting.test), None)
    courses = {
        "straightforward": straightforward(setting, options.reference_steps, options.every),
        "ours": ours(setting, closed_form, options.steps, options.every),
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
