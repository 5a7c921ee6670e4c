"""What a training's bits depend on: the same run again, with another number of threads, with
another precision.

    python benchmarks/determinism.py [--json FILE]

again             whether a second run with the same number of threads gives the same bits.
threads_*         relative distance of the trained P of a run with so many threads to that of one
thread, and of its
                  test images.
"""

from __future__ import annotations

import os

import torch
from common import Setting, finish, parser
from reference import AS_PRINTED, STUDENT_STEP, K

import dipa


def run(setting: Setting, threads: int, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    """P after a short training, and the reconstructed test images."""
    torch.set_num_threads(threads)
    solver = setting.solver(K, precision)
    P = dipa.LinearPreconditioner.ridge(setting.student, setting.images, stepsize=STUDENT_STEP)
    budget = dipa.Budget(steps=6, batch_size=8, learning_rate=1e-4, schedule="constant")
    arguments = {
        "losses": dipa.LossWeights(supervised=1.0, imitation=1.0),
        "budget": budget,
        "progress": False,
    }
    dipa.distill(
        solver,
        P,
        setting.student,
        setting.teacher,
        setting.images,
        **arguments,
        **AS_PRINTED,
    )
    with torch.no_grad():
        x = solver(
            setting.student.A(setting.test),
            setting.student,
            preconditioner=P,
            stepsize=STUDENT_STEP,
        ).x
    return P.matrix.detach().clone(), x


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative distance of a to b."""
    return ((a - b).norm() / b.norm()).item()


def main() -> None:
    """Measure and print."""
    options = parser(__doc__).parse_args()
    setting = Setting.make(options, count=32, test=16)
    counts = sorted({1, 2, os.cpu_count() or 1})
    result, headline = {}, {}
    for precision in ("float32", "bf16"):
        found = {count: run(setting, count, precision) for count in counts}
        again = {count: run(setting, count, precision) for count in counts}
        same = {count: all(map(torch.equal, found[count], again[count])) for count in counts}
        result[precision] = {
            count: {
                "again": same[count],
                "P": distance(P, found[1][0]),
                "images": distance(x, found[1][1]),
            }
            for count, (P, x) in found.items()
        }
        headline[f"again_{precision}"] = all(same.values())
        headline |= {
            f"threads_{count}_{precision}": result[precision][count]["images"]
            for count in counts[1:]
        }
    finish({"runs": result}, headline, options)


if __name__ == "__main__":
    main()
