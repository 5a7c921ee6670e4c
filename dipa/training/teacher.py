"""The teacher runs once: its reconstructions and gradients are computed, cached by a hash of all that shapes them, reused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import nn
from tqdm import tqdm

from .. import files, seeding
from ..checks import InputError
from ..operators.measure import measure
from ..solvers import FISTA, data_gradient
from . import parallel


@dataclass(frozen=True)
class TeacherTargets:
    r"""For each image: the teacher's output :math:`\hat x_t` and its data gradient :math:`\nabla g_t(\hat x_t)`, (N, C, H, W)."""

    x: torch.Tensor
    gradient: torch.Tensor


def cache_directory() -> Path:
    """Where teacher targets are kept: ``DIPA_CACHE``, else ``~/.cache/dipa``."""
    return Path(os.environ.get("DIPA_CACHE") or Path.home() / ".cache" / "dipa")


def teacher_key(solver: FISTA, physics: LinearPhysics, images: torch.Tensor, stepsize: float, seed: int) -> str:
    """Hash of what shapes the targets: images, operator, denoiser weights, solver, stepsize, noise seed.

    A denoiser that is not a network enters by its name alone: see :func:`cacheable`.
    """
    parts = problem_parts(physics, images, seed) | {"solver": solver.describe(), "stepsize": stepsize}
    denoiser = getattr(solver.prior, "denoiser", solver.prior)
    name = getattr(denoiser, "__qualname__", type(denoiser).__qualname__)
    parts["denoiser"] = [name, files.sha256_tensors(_weights(denoiser))]
    return files.sha256_json(parts)


def problem_parts(physics: LinearPhysics, images: torch.Tensor, seed: int) -> dict[str, Any]:
    """What shapes the measurements of ``images``, hashed: the images, the operator, its noise, the seed, torch's version."""
    parts: dict[str, Any] = {"seed": seed, "torch": torch.__version__, "images": files.sha256_tensors({"images": images})}
    probe = torch.randn((1, *images.shape[1:]), generator=seeding.generator(0, "probe")).to(images)
    parts["physics"] = files.sha256_tensors({"A": physics.A(probe), "A_adjoint": physics.A_adjoint(physics.A(probe))})
    noise = getattr(physics, "noise_model", None)
    levels = noise.state_dict() if isinstance(noise, nn.Module) else {}
    levels = {name: level for name, level in levels.items() if "random_state" not in name}
    return parts | {"noise": [type(noise).__qualname__, files.sha256_tensors(levels)]}


def cacheable(solver: FISTA) -> bool:
    """Whether :func:`teacher_key` tells the prior from any other: it describes itself and its denoiser has weights."""
    return callable(getattr(solver.prior, "describe", None)) and bool(_weights(getattr(solver.prior, "denoiser", None)))


def _weights(denoiser: object) -> dict[str, torch.Tensor]:
    return denoiser.state_dict() if isinstance(denoiser, nn.Module) else {}


@torch.no_grad()
def teacher_targets(
    solver: FISTA,
    physics: LinearPhysics,
    images: torch.Tensor,
    *,
    stepsize: float,
    seed: int = 0,
    batch_size: int = 64,
    cache: str | Path | None = None,
    progress: bool = True,
) -> TeacherTargets:
    """Run the teacher on every image, or read what an earlier run with the same key left in the folder ``cache``.

    None is no cache; nor is a file read or written for a prior that is not :func:`cacheable`. Several processes share
    the images out.
    """
    path = None
    if cache and cacheable(solver):
        path = Path(cache) / f"teacher-{teacher_key(solver, physics, images, stepsize, seed)[:32]}.safetensors"
    if path and all(parallel.gather(path.is_file())):
        tensors, _ = files.read_tensors(path)
        return TeacherTargets(tensors["x"].to(images.device), tensors["gradient"].to(images.device))
    with parallel.together():
        mine = _run(solver, physics, images, stepsize, seed, batch_size, progress)
    batches = [batch for part in parallel.gather(mine) for batch in part]
    targets = TeacherTargets(*(torch.cat(found).to(images.device) for found in zip(*batches, strict=True)))
    if path and parallel.rank() == 0:
        files.write_tensors(path, {"x": targets.x, "gradient": targets.gradient}, {"images": len(images)})
    return targets


def _run(
    solver: FISTA, physics: LinearPhysics, images: torch.Tensor, stepsize: float, seed: int, batch_size: int, progress: bool
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The teacher's output and gradient on each batch of this process's share of the images, on the processor."""
    found = []
    batches = parallel.batches(len(images), batch_size)
    for index in tqdm(batches, desc="running the teacher", unit="batch", disable=not progress or parallel.rank() > 0):
        y = measure(physics, images[index], seed=seed, indices=index, stream="teacher noise")
        result = solver(y, physics, stepsize=stepsize)
        if result.status != "completed":
            raise InputError(f"teacher_stepsize: got {stepsize!r}; the teacher {result.message}")
        found.append((result.x.cpu(), data_gradient(physics, y, result.x).cpu()))
    return found
