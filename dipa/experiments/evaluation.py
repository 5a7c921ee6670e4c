"""Baseline, student and teacher on the test images: metrics, curves over the iterations, audit, a
few images.

Solved in float32 whatever the training precision. What does not depend on the trained part
(baseline and teacher) is kept in the cache folder under a hash of all that shapes it, so that the
rows of a table compute it once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deepinv.physics import LinearPhysics
from tqdm import tqdm

from .. import memory, metrics
from ..analysis import audit, falsification
from ..cache import Cache, Entry, directory
from ..identity import describe, describe_code, solve_identity
from ..operators import Basis, range_basis
from ..operators.measure import measure
from ..solvers import FISTA, Result
from ..solvers.setting import another_setting
from ..training import parallel
from . import replay
from .problem import Problem

EXAMPLES = 8
LARGE = 64  # side above which half as many images are kept, and the iterates of the student alone
TEST_BATCH = 64
# numbers and images of the falsification test; its length in K
AUDIT_NUMBERS, AUDIT_IMAGES, AUDIT_LENGTH = 20_000, (2, 8), 3

Reconstruct = Callable[[torch.Tensor, torch.Tensor, bool], Result]


@dataclass(frozen=True)
class Solved:
    """The test images reconstructed: images, measurements, status, mean curves, iterates of the
    first image, and for how many images P was left out.
    """

    x: torch.Tensor
    y: torch.Tensor
    status: str
    curve: dict[str, list[float]]
    iterates: torch.Tensor | None
    untrusted: int


@dataclass(frozen=True)
class Kept:
    """Where finished batches are kept until the whole run is: ``shared`` with other runs, and the
    run's folder (``here``).

    ``cached`` counts, for each role, the batches that were read instead of computed.
    """

    shared: Path | None = None
    here: Path | None = None
    cached: dict[str, list[int]] = field(default_factory=dict)

    def count(self, role: str, cache: Cache) -> None:
        """Note what ``cache`` did for ``role``: batches read, batches in all."""
        read_now, computed = (
            sum(parallel.gather(number)) for number in (cache.hits, cache.computed)
        )
        read, whole = self.cached.get(role, (0, 0))
        self.cached[role] = [read + read_now, whole + read_now + computed]


@torch.no_grad()
@another_setting()
def evaluate(
    problem: Problem, trained: Any, *, kept: Kept | None = None, progress: bool = True
) -> tuple[dict, dict, dict]:
    """Metrics of each role, arrays of a few images, and what it takes to solve the run again
    (:mod:`.replay`).

    ``trained`` is a preconditioner, a network, or None: baseline.
    """
    kept = Kept(directory()) if kept is None else kept
    config, x_true = problem.config, problem.test.images
    report: dict[str, Any] = {}
    images: dict[str, torch.Tensor] = {}
    large = x_true.shape[-1] > LARGE
    shown = EXAMPLES // 2 if large else EXAMPLES
    examples = {"truth": _array(x_true[:shown])}
    bases = {
        name: range_basis(physics, problem.img_size)
        for name, physics in _operators(problem).items()
    }
    for role in (
        ("baseline", "student", "teacher") if trained is not None else ("baseline", "teacher")
    ):
        solved = _role(problem, role, trained, kept, progress)
        operator, images[role] = "teacher" if role == "teacher" else "student", solved.x
        report[role] = _numbers(solved, x_true, _operators(problem)[operator], bases[operator])
        examples[role] = _array(solved.x[:shown])
        if solved.iterates is not None and (role == "student" or not large):
            examples[f"{role}_iterates"] = _array(solved.iterates).astype("float16")
    if trained is not None and not config.recipe.network:
        report["student"]["falsification"] = _falsification(problem, trained, bases["student"])
    report.setdefault("student", report["baseline"])
    if config.shifts:
        report["shifts"] = {
            name: _shift(problem.shifted(name), trained, kept, progress) for name in config.shifts
        }
    return report, examples, replay.record(problem, trained, images)


def _shift(problem: Problem, trained: Any, kept: Kept, progress: bool) -> dict[str, dict]:
    """PSNR, SSIM and audit of baseline and student under a shifted task or solver."""
    basis = range_basis(problem.student, problem.img_size)
    numbers = {}
    for role in ("baseline", "student"):
        measured = _numbers(
            _role(problem, role, trained, kept, progress),
            problem.test.images,
            problem.student,
            basis,
        )
        numbers[role] = {name: value for name, value in measured.items() if name != "curve"}
    return numbers


def _falsification(problem: Problem, preconditioner: Any, basis: Basis) -> dict[str, Any]:
    """The falsification test on the first images, over three times the trained number of
    iterations.
    """
    fewest, most = AUDIT_IMAGES
    x_true = problem.test.images
    x_true = x_true[: min(most, max(fewest, AUDIT_NUMBERS // x_true[0].numel()))]
    solver, settings = problem.test_solver(), problem.config.solver
    y = measure(problem.student, x_true, seed=problem.config.seed, stream=replay.STREAM)
    length = AUDIT_LENGTH * settings.iterations
    arguments = (solver, problem.student, preconditioner, y, x_true, settings.stepsize, basis)
    return {"images": len(x_true), "iterations": length} | falsification(
        *arguments, iterations=length
    )


def _operators(problem: Problem) -> dict[str, LinearPhysics]:
    return {"student": problem.student, "teacher": problem.teacher}


def _numbers(
    solved: Solved, x_true: torch.Tensor, physics: LinearPhysics, basis: Basis
) -> dict[str, Any]:
    numbers = metrics.summary(solved.x, x_true, TEST_BATCH) | {
        "status": solved.status,
        "curve": solved.curve,
    }
    numbers |= {"untrusted": solved.untrusted} if solved.untrusted else {}
    return numbers | {"audit": audit(solved.x, x_true, solved.y, physics, basis)}


def _role(problem: Problem, role: str, trained: Any, kept: Kept, progress: bool) -> Solved:
    config, label = problem.config, f"testing the {role}"
    physics = problem.teacher if role == "teacher" else problem.student
    alpha = config.solver.teacher_stepsize if role == "teacher" else config.solver.stepsize
    solver = problem.test_solver()
    identity = solve_identity(solver, physics, problem.test.images, alpha, config.seed) | {
        "tested by": describe_code(__file__)
    }
    if role == "student":
        cache = Cache(kept.here, role, identity | {"trained": describe(trained)})
        alone = config.recipe.network
        reconstruct = (
            _network(problem, trained) if alone else _solver(solver, physics, trained, alpha)
        )
    else:
        cache, reconstruct = (
            Cache(kept.shared, "evaluation", identity),
            _solver(solver, physics, None, alpha),
        )
    solved = _over_batches(problem, physics, reconstruct, cache, label, progress)
    kept.count(role, cache)
    return solved


def _solver(
    solver: FISTA, physics: LinearPhysics, preconditioner: Any, alpha: float | str
) -> Reconstruct:
    def reconstruct(y, x_true, keep):
        options = {"stepsize": alpha, "x_true": x_true, "history": True, "iterates": keep}
        return solver(y, physics, preconditioner=preconditioner, **options)

    return reconstruct


def _network(problem: Problem, network: torch.nn.Module) -> Reconstruct:
    def reconstruct(y, x_true, keep):
        x = network(y, problem.student)
        return Result(x, "completed" if bool(torch.isfinite(x).all()) else "diverged", "", 1)

    return reconstruct


def _over_batches(
    problem: Problem,
    physics: LinearPhysics,
    reconstruct: Reconstruct,
    cache: Cache,
    label: str,
    progress: bool,
) -> Solved:
    x_true, solved = problem.test.images, []

    def batch(index: torch.Tensor) -> Entry:
        return cache(
            {"images": describe([x_true[index], index])},
            lambda: _solved(problem, physics, reconstruct, index),
        )

    hidden = not progress or parallel.rank() > 0
    for index in tqdm(
        parallel.batches(torch.arange(len(x_true)), TEST_BATCH),
        desc=label,
        unit="batch",
        disable=hidden,
    ):
        solved += memory.in_parts(batch, index, problem.device, label)
    tensors, records = zip(
        *(batch for part in parallel.gather(solved) for batch in part), strict=True
    )
    status = (
        "diverged" if any(record["status"] == "diverged" for record in records) else "completed"
    )
    curve = _curve([record["history"] for record in records], [len(part["x"]) for part in tensors])
    x, y = (torch.cat([part[name] for part in tensors]).to(x_true.device) for name in ("x", "y"))
    untrusted = sum(record["untrusted"] for record in records)
    return Solved(x, y, status, curve, tensors[0].get("iterates"), untrusted)


def _solved(
    problem: Problem, physics: LinearPhysics, reconstruct: Reconstruct, index: torch.Tensor
) -> Entry:
    """One batch of test images, on the processor: measurements, reconstructions, of the first
    image every iterate; history.
    """
    x_true = problem.test.images[index]
    y = measure(physics, x_true, seed=problem.config.seed, indices=index, stream=replay.STREAM)
    result = reconstruct(y, x_true, int(index[0]) == 0)
    kept = {} if result.iterates is None else {"iterates": result.iterates[:, :1].clone()}
    tensors = {name: tensor.cpu() for name, tensor in ({"x": result.x, "y": y} | kept).items()}
    told = {"status": result.status, "history": result.history}
    return tensors, told | {"untrusted": result.untrusted}


def _array(images: torch.Tensor) -> np.ndarray:
    return images.cpu().numpy()


def _curve(histories: list[list[dict]], sizes: list[int]) -> dict[str, list[float]]:
    """Batch histories averaged by batch size, one list per recorded quantity (k = 0, 1, ...);
    none for a network.
    """
    length = min(len(history) for history in histories)

    def mean(name: str, k: int) -> float:
        return sum(
            history[k][name] * size for history, size in zip(histories, sizes, strict=True)
        ) / sum(sizes)

    return {
        name: [round(mean(name, k), 6) for k in range(length)]
        for name in ("change", "psnr", "residual")
        if length
    }
