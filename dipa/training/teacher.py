"""The teacher runs once for each image that training uses; its reconstructions and gradients
are cached batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from deepinv.physics import LinearPhysics
from tqdm import tqdm

from .. import memory
from ..cache import Cache, Entry
from ..checks import InputError
from ..identity import describe, solve_identity
from ..operators.measure import measure
from ..solvers import FISTA, data_gradient
from . import parallel


@dataclass(frozen=True)
class TeacherTargets:
    r"""The teacher's output :math:`\hat x_t` and its data gradient :math:`\nabla g_t(\hat x_t)` for
    some images.

    Attributes:
        x: outputs (M, C, H, W).
        gradient: data gradients (M, C, H, W).
        indices: which images these are (M,), in increasing order.
        cached: how many of the images were read from the cache.
    """

    x: torch.Tensor
    gradient: torch.Tensor
    indices: torch.Tensor
    cached: int = 0

    def of(self, images: torch.Tensor, step: int = 0) -> TeacherTargets:
        """The targets of the images with these numbers (B,), in their order."""
        rows = torch.searchsorted(self.indices, images)
        return TeacherTargets(self.x[rows], self.gradient[rows], images)


@dataclass(frozen=True)
class TargetsOnDemand:
    """Targets that are computed when a step asks for them, and not kept: of several teachers, and
    of images that do not fit in memory.

    Attributes:
        solver: what runs.
        teacher: the operator of a step.
        images: where the images are read, by their numbers.
        stepsize: of the teacher.
        seed: of the measurement noise.
    """

    solver: FISTA
    teacher: Callable[[int], LinearPhysics | None]
    images: Any
    stepsize: float | str
    seed: int

    @torch.no_grad()
    def of(self, images: torch.Tensor, step: int) -> TeacherTargets:
        """The targets of the images with these numbers (B,) by the teacher of ``step``."""
        physics = cast(LinearPhysics, self.teacher(step))
        solved, _ = _solve(self.solver, physics, self.images, self.stepsize, self.seed, images)
        here = {name: part.to(self.images.device) for name, part in solved.items()}
        return TeacherTargets(here["x"], here["gradient"], images)


@torch.no_grad()
def teacher_targets(
    solver: FISTA,
    physics: LinearPhysics,
    images: torch.Tensor,
    *,
    stepsize: float | str,
    seed: int = 0,
    indices: torch.Tensor | None = None,
    batch_size: int = 64,
    cache: str | Path | None = None,
    progress: bool = True,
) -> TeacherTargets:
    """Run the teacher on images, or read what an earlier run of the same problem left in the folder
    ``cache``.

    Finished batches are kept there at once: a run that is killed goes on after the last of them.
    None is no cache; nor is a file read or written for a solver of which some part cannot be
    described (:mod:`dipa.identity`). Several processes share the batches out.

    Args:
        solver: what runs.
        physics: the teacher's operator.
        images: clean images (N, C, H, W).
        stepsize: of the teacher.
        seed: of the measurement noise.
        indices: the numbers of the images to run on, in increasing order; None for all.
        batch_size: images at once.
        cache: the folder.
        progress: show a bar.

    Raises:
        InputError: a teacher that diverges.
    """
    wanted = torch.arange(len(images)) if indices is None else indices
    kept = Cache(
        cache, "teacher", solve_identity(solver, physics, images, stepsize, seed) if cache else {}
    )
    mine, read = [], 0

    def batch(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal read
        named = {"images": describe([images[index], index])} if cache else {}
        before = kept.hits
        tensors, _ = kept(named, lambda: _solve(solver, physics, images, stepsize, seed, index))
        read += len(index) * (kept.hits - before)
        return tensors["x"], tensors["gradient"]

    hidden = not progress or parallel.rank() > 0
    with parallel.together():
        for index in tqdm(
            parallel.batches(wanted, batch_size),
            desc="running the teacher",
            unit="batch",
            disable=hidden,
        ):
            mine += memory.in_parts(batch, index, images.device, "running the teacher")
    batches = [batch for part in parallel.gather(mine) for batch in part]
    x, gradient = (torch.cat(parts).to(images.device) for parts in zip(*batches, strict=True))
    return TeacherTargets(x, gradient, wanted, sum(parallel.gather(read)))


def _solve(
    solver: FISTA,
    physics: LinearPhysics,
    images: torch.Tensor,
    stepsize: float | str,
    seed: int,
    index: torch.Tensor,
) -> Entry:
    """The teacher's output and gradient on one batch, on the processor."""
    y = measure(physics, images[index], seed=seed, indices=index, stream="teacher noise")
    result = solver(y, physics, stepsize=stepsize)
    if result.status == "diverged":
        raise InputError(f"teacher_stepsize: got {stepsize!r}; the teacher {result.message}")
    return {"x": result.x.cpu(), "gradient": data_gradient(physics, y, result.x).cpu()}, {}
