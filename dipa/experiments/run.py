"""The only place that wires the layers together: a configuration in, a run folder out."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .. import data, denoisers, files, metrics
from ..analysis import audit
from ..operators import SinglePixel, single_pixel
from ..operators.measure import measure
from ..preconditioners import LinearPreconditioner
from ..priors import PnP
from ..solvers import FISTA, Result
from ..training import Fit, distill
from ..training.teacher import cache_directory
from .config import Config
from .results import Run, now, peak_memory_mib, provenance, write_run

EXAMPLES = 8
TEST_BATCH = 64


def runs_directory() -> Path:
    """Where runs are written: ``DIPA_RUNS``, else ``runs`` under the current folder."""
    return Path(os.environ.get("DIPA_RUNS") or "runs")


@dataclass(frozen=True)
class Problem:
    """Everything a configuration stands for, built: operators, images, solver."""

    config: Config
    student: SinglePixel
    teacher: SinglePixel
    train: data.ImageSet
    test: data.ImageSet
    solver: FISTA

    @classmethod
    def build(cls, config: Config) -> Problem:
        """Load data and denoiser and make the operators; bad input is refused here, before any computing."""
        task, images, solver = config.task, config.data, config.solver
        shape = (1, task.size, task.size)
        student, teacher = (
            single_pixel(shape, ratio=ratio, ordering=task.ordering, noise_sigma=task.noise_sigma)
            for ratio in (task.ratio, task.teacher_ratio)
        )
        counts = {"train": max(images.train_count, images.ridge_count), "test": images.test_count}
        sets = {
            split: data.load(images.name, split, size=task.size, count=n, resize=images.resize) for split, n in counts.items()
        }
        prior = PnP(denoisers.load(solver.denoiser), precision=solver.precision)
        algorithm = FISTA(prior, iterations=solver.iterations, momentum=solver.momentum, start=solver.start)
        return cls(config, student, teacher, sets["train"], sets["test"], algorithm)


def run(
    config: Config, out: str | Path | None = None, *, progress: bool = True, report: Callable[[dict], None] | None = None
) -> Run:
    """Do a run, or read it where its folder is already finished (a finished folder is never touched again).

    A killed run continues from its checkpoint when started again. ``out`` is the folder that holds run folders
    (:func:`runs_directory` by default).
    """
    root = Path(out) if out is not None else runs_directory()
    folder = root / config.run_name
    if (folder / "manifest.json").is_file():
        return Run(folder)
    began, made = time.monotonic(), provenance()
    work = root / f".{config.run_name}.working"
    work.mkdir(parents=True, exist_ok=True)
    problem = Problem.build(config)
    fit = make_preconditioner(problem, work / "checkpoint.pt", progress=progress, report=report)
    evaluation, examples = evaluate(problem, fit.preconditioner if fit else None, progress=progress)
    manifest = made | {
        "finished": now(),
        "peak_memory_mib": peak_memory_mib(),
        "seconds": round(time.monotonic() - began, 2),
        "training_seconds": fit.record["training_seconds"] if fit else 0.0,
        "sha256": _hashes(problem),
        "counts": {
            "train": config.data.train_count,
            "test": len(problem.test.images),
            "measurements": int(problem.student.mask.sum()),
        },
    }
    done = write_run(
        folder,
        config,
        metrics=evaluation,
        history=fit.history if fit else [],
        examples=examples,
        manifest=manifest,
        preconditioner=fit.preconditioner if fit else None,
    )
    shutil.rmtree(work)
    return done


def make_preconditioner(
    problem: Problem, checkpoint: Path | None, *, progress: bool, report: Callable | None = None
) -> Fit | None:
    """The preconditioner of the configured method: none (baseline), closed form (ridge), or trained (l-dipa)."""
    config = problem.config
    if config.method == "baseline":
        return None
    start, alpha = config.preconditioner, config.solver.stepsize
    if start.start == "ridge" or config.method == "ridge":
        options = {"regularization": start.regularization, "null_weight": start.null_weight, "form": start.form}
        images = problem.train.take(config.data.ridge_count)
        matrix = LinearPreconditioner.ridge(problem.student, images, stepsize=alpha, **options)
    else:
        matrix = LinearPreconditioner.identity(problem.student, form=start.form)
    if config.method == "ridge":
        return Fit(matrix, [], {"training_seconds": 0.0})
    return distill(
        problem.solver,
        matrix,
        problem.student,
        problem.teacher,
        problem.train.take(config.data.train_count),
        losses=config.losses,
        budget=config.training,
        stepsize=alpha,
        teacher_stepsize=config.solver.teacher_stepsize,
        seed=config.seed,
        checkpoint=checkpoint,
        cache=cache_directory(),
        progress=progress,
        report=report,
    )


@torch.no_grad()
def evaluate(problem: Problem, preconditioner: LinearPreconditioner | None, *, progress: bool = True) -> tuple[dict, dict]:
    """Baseline, student and teacher on the test images: metrics, curves over iterations, audit; and a few images.

    Solved in float32 whatever the training precision. Without a preconditioner the student is the baseline.
    """
    config, x_true = problem.config, problem.test.images
    alphas = {"baseline": config.solver.stepsize, "student": config.solver.stepsize, "teacher": config.solver.teacher_stepsize}
    plans = {
        "baseline": (problem.student, None),
        "student": (problem.student, preconditioner),
        "teacher": (problem.teacher, None),
    }
    if preconditioner is None:
        del plans["student"]
    solver = FISTA(PnP(problem.solver.prior.denoiser), config.solver.iterations, config.solver.momentum, config.solver.start)
    report: dict[str, Any] = {}
    examples = {"truth": x_true[:EXAMPLES].numpy()}
    for role, (physics, matrix) in plans.items():
        results = _solve(solver, physics, x_true, matrix, alphas[role], config.seed, f"testing the {role}", progress)
        x = torch.cat([result.x for result, _ in results])
        y = torch.cat([measured for _, measured in results])
        report[role] = metrics.summary(x, x_true, TEST_BATCH)
        report[role]["status"] = "completed" if all(r.status == "completed" for r, _ in results) else "diverged"
        report[role]["audit"] = audit(x, x_true, y, physics, physics.range_basis())
        report[role]["curve"] = _curve([result.history for result, _ in results], [len(r.x) for r, _ in results])
        examples[role] = x[:EXAMPLES].numpy()
        examples[f"{role}_iterates"] = results[0][0].iterates[:, :1].numpy()
    report.setdefault("student", report["baseline"])
    return report, examples


def _solve(solver, physics, x_true, matrix, alpha, seed, label, progress) -> list[tuple[Result, torch.Tensor]]:
    results = []
    for first in tqdm(range(0, len(x_true), TEST_BATCH), desc=label, unit="batch", disable=not progress):
        batch = x_true[first : first + TEST_BATCH]
        index = torch.arange(first, first + len(batch))
        y = measure(physics, batch, seed=seed, indices=index, stream="test noise")
        keep = first == 0
        solved = solver(y, physics, preconditioner=matrix, stepsize=alpha, x_true=batch, history=True, iterates=keep)
        results.append((solved, y))
    return results


def _curve(histories: list[list[dict]], sizes: list[int]) -> dict[str, list[float]]:
    """Batch histories averaged by batch size, one list per recorded quantity (k = 0, 1, ...)."""
    length = min(len(history) for history in histories)

    def mean(name: str, k: int) -> float:
        return sum(history[k][name] * size for history, size in zip(histories, sizes, strict=True)) / sum(sizes)

    return {name: [round(mean(name, k), 6) for k in range(length)] for name in ("psnr", "residual", "change")}


def _hashes(problem: Problem) -> dict[str, str]:
    masks = {"student": problem.student.mask, "teacher": problem.teacher.mask}
    hashes = {"train": problem.train.sha256, "test": problem.test.sha256, "masks": files.sha256_tensors(masks)}
    return hashes | {"denoiser": denoisers.fingerprint(problem.solver.prior.denoiser)}
