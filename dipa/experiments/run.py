"""A configuration in, a run folder out: builds the problem, makes or trains the method, tests it, writes the folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from .. import cache, denoisers, files
from ..checks import require, require_path
from ..paths import runs_directory
from ..training import parallel
from . import methods
from .config import END_TO_END, Config
from .evaluation import Kept, evaluate
from .problem import Problem
from .results import Run, now, peak_memory_mib, provenance, write_run


def run(
    config: Config, out: str | Path | None = None, *, progress: bool = True, report: Callable[[dict], None] | None = None
) -> Run:
    """Do a run, or read it where its folder is already finished (a finished folder is never touched again).

    A killed run continues from its checkpoint when started again. ``out`` is the folder that holds run folders
    (:func:`dipa.paths.runs_directory` by default). Under torchrun the processes share the work and the first one writes.
    """
    root = runs_directory() if out is None else require_path("out", out)
    folder = root / config.run_name
    if all(parallel.gather((folder / "manifest.json").is_file())):
        return _finished(folder, config)
    began, made = time.monotonic(), provenance()
    work = root / f".{config.run_name}.working"
    work.mkdir(parents=True, exist_ok=True)
    problem = Problem.build(config)
    fit = methods.make(problem, work / "checkpoint.pt", progress=progress, report=report)
    trained = fit and (fit.network if config.method in END_TO_END else fit.preconditioner)
    evaluation, examples = evaluate(problem, trained, kept=Kept(cache.directory(), work), progress=progress)
    manifest = made | {
        "finished": now(),
        "peak_memory_mib": peak_memory_mib(),
        "seconds": round(time.monotonic() - began, 2),
        "processes": parallel.size(),
        "training_seconds": fit.record["training_seconds"] if fit else 0.0,
        "sha256": _hashes(problem),
        "counts": _counts(problem, trained),
    }
    if parallel.rank() == 0:
        made = {"metrics": evaluation, "history": fit.history if fit else [], "examples": examples, "manifest": manifest}
        write_run(folder, config, trained=trained, **made)
        shutil.rmtree(work)
    parallel.wait()
    return Run(folder)


def _finished(folder: Path, config: Config) -> Run:
    """The run in ``folder``, which must be that of ``config``."""
    found = Run(folder)
    require(found.config == config, "run folder", str(folder), "the configuration its name says; move it away to run again")
    return found


def _counts(problem: Problem, trained) -> dict[str, int]:
    """Images, numbers in the measurement of one image, and trainable numbers."""
    parameters = sum(p.numel() for p in trained.parameters() if p.requires_grad) if trained is not None else 0
    counts = {"train": problem.config.data.train_count, "test": len(problem.test.images)}
    return counts | {"measurements": _measurements(problem), "parameters": parameters}


def _measurements(problem: Problem) -> int:
    y = problem.student.A(problem.test.images[:1])[0]
    mask = getattr(problem.student, "mask", None)
    return y.numel() if mask is None else int(mask.expand(1, *y.shape).sum())


def _hashes(problem: Problem) -> dict[str, str]:
    operators = {"student": problem.student, "teacher": problem.teacher}
    masks = {name: physics.mask if hasattr(physics, "mask") else physics.filter for name, physics in operators.items()}
    hashes = {"train": problem.train.sha256, "test": problem.test.sha256, "masks": files.sha256_tensors(masks)}
    return hashes | {"denoiser": denoisers.fingerprint(problem.solver.prior.denoiser)}
