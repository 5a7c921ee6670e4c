"""Baseline, student and teacher on the test images: metrics, curves over the iterations, audit, a few images.

Solved in float32 whatever the training precision. What does not depend on the trained part (baseline and teacher) is
kept in the cache folder under a hash of all that shapes it, so that the rows of a table compute it once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from tqdm import tqdm

from .. import files, metrics
from ..analysis import audit, falsification
from ..operators import Basis, range_basis
from ..operators.measure import measure
from ..training import parallel
from ..training.teacher import cache_directory, cacheable, teacher_key
from .config import END_TO_END
from .problem import Problem, make_solver

EXAMPLES = 8
LARGE = 64  # side above which half as many images are kept, and the iterates of the student alone
TEST_BATCH = 64
PRECISION = "float32"  # of every solve here, whatever the training precision
AUDIT_NUMBERS, AUDIT_IMAGES, AUDIT_LENGTH = 20_000, (2, 8), 3  # numbers and images of the falsification test; its length in K

Reconstruct = Callable[[torch.Tensor, torch.Tensor, bool], tuple[torch.Tensor, str, list[dict], torch.Tensor | None]]


@dataclass(frozen=True)
class Solved:
    """The test images reconstructed: images, measurements, status, mean curves, iterates of the first images."""

    x: torch.Tensor
    y: torch.Tensor
    status: str
    curve: dict[str, list[float]]
    iterates: torch.Tensor | None


@torch.no_grad()
def evaluate(problem: Problem, trained: Any, *, progress: bool = True) -> tuple[dict, dict]:
    """Metrics of each role and arrays of a few images. ``trained`` is a preconditioner, a network, or None: baseline."""
    config, x_true = problem.config, problem.test.images
    report: dict[str, Any] = {}
    large = x_true.shape[-1] > LARGE
    shown = EXAMPLES // 2 if large else EXAMPLES
    examples = {"truth": x_true[:shown].numpy()}
    bases = {name: range_basis(physics, problem.img_size) for name, physics in _operators(problem).items()}
    for role in ("baseline", "student", "teacher") if trained is not None else ("baseline", "teacher"):
        solved = _role(problem, role, trained, progress)
        operator = "teacher" if role == "teacher" else "student"
        report[role] = _numbers(solved, x_true, _operators(problem)[operator], bases[operator])
        examples[role] = solved.x[:shown].numpy()
        if solved.iterates is not None and (role == "student" or not large):
            examples[f"{role}_iterates"] = solved.iterates[:, :1].numpy().astype("float16")
    if trained is not None and config.method not in END_TO_END:
        report["student"]["falsification"] = _falsification(problem, trained, bases["student"])
    report.setdefault("student", report["baseline"])
    if config.shifts:
        report["shifts"] = {name: _shift(problem.shifted(name), trained, progress) for name in config.shifts}
    return report, examples


def _shift(problem: Problem, trained: Any, progress: bool) -> dict[str, dict]:
    """PSNR, SSIM and audit of baseline and student under a shifted task or solver."""
    basis = range_basis(problem.student, problem.img_size)
    numbers = {}
    for role in ("baseline", "student"):
        found = _numbers(_role(problem, role, trained, progress), problem.test.images, problem.student, basis)
        numbers[role] = {name: value for name, value in found.items() if name != "curve"}
    return numbers


def _falsification(problem: Problem, preconditioner: Any, basis: Basis) -> dict[str, Any]:
    """The falsification test on the first images, over three times the trained number of iterations."""
    fewest, most = AUDIT_IMAGES
    x_true = problem.test.images
    x_true = x_true[: min(most, max(fewest, AUDIT_NUMBERS // x_true[0].numel()))]
    solver, settings = make_solver(problem.config.solver, precision=PRECISION), problem.config.solver
    y = measure(problem.student, x_true, seed=problem.config.seed, stream="test noise")
    length = AUDIT_LENGTH * settings.iterations
    arguments = (solver, problem.student, preconditioner, y, x_true, settings.stepsize, basis)
    return {"images": len(x_true), "iterations": length} | falsification(*arguments, iterations=length)


def _operators(problem: Problem) -> dict[str, LinearPhysics]:
    return {"student": problem.student, "teacher": problem.teacher}


def _numbers(solved: Solved, x_true: torch.Tensor, physics: LinearPhysics, basis: Basis) -> dict[str, Any]:
    numbers = metrics.summary(solved.x, x_true, TEST_BATCH) | {"status": solved.status, "curve": solved.curve}
    return numbers | {"audit": audit(solved.x, x_true, solved.y, physics, basis)}


def _role(problem: Problem, role: str, trained: Any, progress: bool) -> Solved:
    config = problem.config
    label = f"testing the {role}"
    if role == "student" and config.method in END_TO_END:
        return _over_batches(problem, problem.student, _network(problem, trained), label, progress)
    physics = problem.teacher if role == "teacher" else problem.student
    alpha = config.solver.teacher_stepsize if role == "teacher" else config.solver.stepsize
    solve = _solver(problem, physics, trained if role == "student" else None, alpha)
    if role == "student":
        return _over_batches(problem, physics, solve, label, progress)
    return _cached(problem, physics, alpha, lambda: _over_batches(problem, physics, solve, label, progress))


def _solver(problem: Problem, physics: LinearPhysics, preconditioner: Any, alpha: float | str) -> Reconstruct:
    solver = make_solver(problem.config.solver, precision=PRECISION)

    def reconstruct(y, x_true, keep):
        options = {"stepsize": alpha, "x_true": x_true, "history": True, "iterates": keep}
        result = solver(y, physics, preconditioner=preconditioner, **options)
        return result.x, result.status, result.history, result.iterates

    return reconstruct


def _network(problem: Problem, network: torch.nn.Module) -> Reconstruct:
    def reconstruct(y, x_true, keep):
        x = network(y, problem.student)
        return x, "completed" if bool(torch.isfinite(x).all()) else "diverged", [], None

    return reconstruct


def _over_batches(problem: Problem, physics: LinearPhysics, reconstruct: Reconstruct, label: str, progress: bool) -> Solved:
    x_true, found = problem.test.images, []
    hidden = not progress or parallel.rank() > 0
    for index in tqdm(parallel.batches(len(x_true), TEST_BATCH), desc=label, unit="batch", disable=hidden):
        y = measure(physics, x_true[index], seed=problem.config.seed, indices=index, stream="test noise")
        found.append((y, *reconstruct(y, x_true[index], int(index[0]) == 0)))
    measured, x, statuses, histories, iterates = zip(*(batch for part in parallel.gather(found) for batch in part), strict=True)
    status = "completed" if set(statuses) == {"completed"} else "diverged"
    curve = _curve(histories, [len(part) for part in x])
    return Solved(torch.cat(x), torch.cat(measured), status, curve, iterates[0])


def _curve(histories: list[list[dict]], sizes: list[int]) -> dict[str, list[float]]:
    """Batch histories averaged by batch size, one list per recorded quantity (k = 0, 1, ...); none for a network."""
    length = min(len(history) for history in histories)

    def mean(name: str, k: int) -> float:
        return sum(history[k][name] * size for history, size in zip(histories, sizes, strict=True)) / sum(sizes)

    return {name: [round(mean(name, k), 6) for k in range(length)] for name in ("change", "psnr", "residual") if length}


def _cached(problem: Problem, physics: LinearPhysics, alpha: float | str, compute: Callable[[], Solved]) -> Solved:
    """What ``compute`` makes, from the cache folder where an earlier run with the same key left it."""
    solver = make_solver(problem.config.solver, precision="float32")
    if not cacheable(solver):
        return compute()
    key = teacher_key(solver, physics, problem.test.images, alpha, problem.config.seed)
    path = Path(cache_directory()) / f"evaluation-{key[:32]}.safetensors"
    if all(parallel.gather(path.is_file())):
        tensors, header = files.read_tensors(path)
        return Solved(tensors["x"], tensors["y"], header["status"], header["curve"], tensors["iterates"])
    solved = compute()
    tensors = {"x": solved.x, "y": solved.y, "iterates": solved.iterates.contiguous()}
    if parallel.rank() == 0:
        files.write_tensors(path, tensors, {"status": solved.status, "curve": solved.curve})
    return solved
