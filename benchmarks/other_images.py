"""A recorded P on images of other kinds than it was trained on, with and without the safeguard.

    python benchmarks/other_images.py RUN [--count 32] [--json FILE]

RUN is the folder of a finished run that holds its P: of the single-pixel camera on MNIST, or of MRI
on one of the collections of slices (PSNR of the modulus; slices of the others are other images).
Beside P stands the plain solver, by the stepsize of the run, Nesterov's momentum and the whole
prior. A P that was saved before there was a safeguard learns its kind here, from the training
images of its run.
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


SLICES = {  # the collections of DIPA_DATA/mri by what they are
    "brain_t1ce_tcia_btp.npz": "slices of the Brain-Tumor-Progression collection",
    "brain_t1ce_figshare_jpeg256.npz": "slices of the figshare collection, compressed",
    "brain_t1w_studyforrest.npz": "slices of studyforrest, without contrast agent",
}


def kinds(config: experiments.Config, count: int) -> dict[str, torch.Tensor]:
    """Images by what they are; those of the kind that P was trained on come first."""
    return (slices if config.task.kind == "mri" else digits)(config, count)


def slices(config: experiments.Config, count: int) -> dict[str, torch.Tensor]:
    """Test slices, those of the other collections, photographs; the imaginary part is zero."""
    own, size = config.data.file, config.task.size
    options = {"size": size, "count": count, "channels": config.task.channels}
    files = [own, *(file for file in SLICES if file != own)]
    found = {
        SLICES[file]: dipa.data.load("mri-npz", "test", file=file, **options).images
        for file in files
    }
    photographs = dipa.data.load("embedded", "test", size=size, count=count).images
    empty = torch.zeros_like(photographs)
    return found | {
        "the same, mirrored and turned": found[SLICES[own]].rot90(1, (2, 3)).flip(3),
        "photographs": torch.cat([photographs, empty], 1)[:, : config.task.channels],
    }


def digits(config: experiments.Config, count: int) -> dict[str, torch.Tensor]:
    """Test digits, the same changed, and images of other data sets."""
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
        data, task = config.data, config.task
        options = {"size": task.size, "count": TRAINED_ON, "resize": data.resize}
        options |= {"file": data.file, "channels": task.channels}
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
        rows[kind] = {name: quality(r.x, x) for name, r in found.items()}
        rows[kind] |= {"images": len(x), "untrusted": found["as it knows"].untrusted}
        print(kind, rows[kind], flush=True)
    options.run = run.path.name
    worst = min(row["as it knows"] - row["plain"] for row in rows.values())
    finish(
        {"kinds": rows, "long": longer(config, P, student, options.count)},
        {"worst": worst},
        options,
    )


def quality(x: torch.Tensor, x_true: torch.Tensor) -> float:
    """Mean PSNR; of images with an imaginary part that of the modulus."""
    if x.shape[1] == 2:
        x, x_true = dipa.metrics.magnitude(x), dipa.metrics.magnitude(x_true)
    return dipa.metrics.psnr(x, x_true).mean().item()


def longer(config: experiments.Config, P: dipa.Preconditioner, student, count: int) -> dict:
    """PSNR of the test images at K, 2 K and 4 K."""
    x, K = next(iter(kinds(config, count).values())), config.solver.iterations
    solver = replace(make_solver(config.solver, precision="float32"), iterations=LONGER * K)
    options = {"stepsize": config.solver.stepsize, "iterates": True}
    iterates = solver(student(x), student, preconditioner=P, **options).iterates
    ends = (K, 2 * K, LONGER * K)
    return {str(k): quality(iterates[k], x) for k in ends}


if __name__ == "__main__":
    main()
