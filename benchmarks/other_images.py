"""A recorded P on images of other kinds than it was trained on, with and without the safeguard.

    python benchmarks/other_images.py RUN [--count 32] [--json FILE]

RUN is the folder of a finished single-pixel run on MNIST that holds its P. Beside P stands the
plain solver, by the stepsize of the run, Nesterov's momentum and the whole prior. A P that was
saved before there was a safeguard learns its kind here, from the training images of its run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from common import finish, parser

import dipa
from dipa import experiments
from dipa.experiments.problem import make_solver, operators
from dipa.preconditioners import trust

TRAINED_ON = 4096  # training images that P learns its kind from, where it does not know it
LONGER = 4  # the longest run, in K


def kinds(config: experiments.Config, count: int) -> dict[str, torch.Tensor]:
    """Images by what they are: test digits, the same changed, and of other data sets."""
    task, data = config.task, config.data
    size = {"size": task.size, "count": count}
    digits = dipa.data.load(data.name, "test", resize=data.resize, **size).images
    changed = {
        "digits": digits,
        "digits, rotated": digits.rot90(1, (2, 3)),
        "digits, thicker": F.max_pool2d(digits, 3, 1, 1),
        "digits, thinner": -F.max_pool2d(-digits, 3, 1, 1),
        "digits, shifted by 4 pixels": digits.roll((4, 4), (2, 3)),
        "digits, negatives": 1 - digits,
    }
    photographs = dipa.data.load("embedded", "test", **size).images
    faces = dipa.data.load("faces", "test", size=task.size, count=min(count, 24)).images
    return changed | {"photographs": photographs, "faces": faces}


def known(P: dipa.Preconditioner, config: experiments.Config, student) -> dipa.Preconditioner:
    """P, which knows its kind."""
    if "trust" not in P.setting:
        data, size = config.data, config.task.size
        options = {"size": size, "count": TRAINED_ON, "resize": data.resize}
        images = dipa.data.load(data.name, "train", **options).images
        P.setting |= trust.measured(P, student, images, float(config.solver.stepsize))
    return P


def ways(config: experiments.Config, P: dipa.Preconditioner) -> Mapping[str, tuple]:
    """Solver and preconditioner by name."""
    solver = make_solver(config.solver, precision="float32")
    plain = replace(solver, momentum="nesterov", prior_decay=0.0)
    return {
        "plain": (plain, None),
        "always": (replace(solver, safeguard=False), P),
        "as it knows": (solver, P),
    }


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    made = parser(__doc__)
    made.add_argument("run", help="the folder of a finished run that holds its P")
    made.add_argument("--count", type=int, default=32, help="images of each kind (default 32)")
    options = made.parse_args()
    run = experiments.Run(Path(options.run))
    config = run.config
    student, _ = operators(config)
    P = known(run.preconditioner(), config, student)
    rows = {}
    for kind, x in kinds(config, options.count).items():
        found = {
            name: solver(student(x), student, preconditioner=P, stepsize=config.solver.stepsize)
            for name, (solver, P) in ways(config, P).items()
        }
        rows[kind] = {name: dipa.metrics.psnr(r.x, x).mean().item() for name, r in found.items()}
        rows[kind] |= {"images": len(x), "untrusted": found["as it knows"].untrusted}
        print(kind, rows[kind], flush=True)
    options.run = run.path.name
    worst = min(row["as it knows"] - row["plain"] for row in rows.values())
    finish(
        {"kinds": rows, "long": longer(config, P, student, options.count)},
        {"worst": worst},
        options,
    )


def longer(config: experiments.Config, P: dipa.Preconditioner, student, count: int) -> dict:
    """PSNR of the test digits at K, 2 K and 4 K."""
    x, K = kinds(config, count)["digits"], config.solver.iterations
    solver = replace(make_solver(config.solver, precision="float32"), iterations=LONGER * K)
    options = {"stepsize": config.solver.stepsize, "iterates": True}
    iterates = solver(student(x), student, preconditioner=P, **options).iterates
    ends = (K, 2 * K, LONGER * K)
    return {str(k): dipa.metrics.psnr(iterates[k], x).mean().item() for k in ends}


if __name__ == "__main__":
    main()
