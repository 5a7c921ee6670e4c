"""A configuration in, a run folder out: builds the problem, makes or trains the method, tests
it, writes the folder.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from .. import cache, denoisers, memory
from .. import device as devices
from ..checks import require, require_path
from ..paths import runs_directory
from ..training import Fit, parallel
from . import evaluation
from .config import Config
from .evaluation import Kept
from .manifest import now, peak_memory_mib, provenance
from .problem import TEST_PRECISION, Problem, mask_hash
from .results import Run
from .working import Clock, only_writer, sweep_all, working
from .writing import write_run


def run(
    config: Config,
    out: str | Path | None = None,
    *,
    device: str = "auto",
    progress: bool = True,
    report: Callable[[dict], None] | None = None,
) -> Run:
    """Do a run, or read it where its folder is already finished (a finished folder is never touched
    again).

    A killed run continues from its checkpoint when started again. Of several processes that are
    asked for the same run one makes it, the others wait and read it. ``out`` is the folder that
    holds run folders (:func:`dipa.paths.runs_directory` by default). ``device`` is where it
    computes (:func:`dipa.device.choose`); it is no part of the configuration, and the manifest
    names it. Under torchrun the processes share the work and the first one writes.

    Raises:
        InputError: before any work, a device that is not there, or anything under the run's name
            that is not this run, whole and undamaged; later, too little memory, with what would
            fit: the same command then goes on from there.
    """
    place = devices.choose(device)
    folder = (runs_directory() if out is None else require_path("out", out)) / config.run_name
    if parallel.rank() == 0:
        sweep_all(folder.parent)
    if finished := _finished(folder, config):
        return finished
    with only_writer(folder):
        return _finished(folder, config) or _make(folder, config, place, progress, report)


def _finished(folder: Path, config: Config) -> Run | None:
    """The run in ``folder``, None where nothing is there: all processes see what the first one
    does.
    """
    with parallel.together():
        there = parallel.rank() == 0 and os.path.lexists(folder)
        if there:
            earlier = Run(folder)
            earlier.verify()
            allowed = "the configuration its name says; move it away to run again"
            require(earlier.config == config, "run folder", str(folder), allowed)
    return Run(folder) if parallel.gather(there)[0] else None


def _make(
    folder: Path,
    config: Config,
    place: torch.device,
    progress: bool,
    report: Callable[[dict], None] | None,
) -> Run:
    """Do the run and write its folder; what resumes it is in the working folder until then."""
    work, first = working(folder), parallel.rank() == 0
    with Clock(work / "seconds.json" if first else None) as clock:
        origin, problem = provenance(place), Problem.build(config, place)
        with devices.rounding(problem.precision == "tf32"):
            fit = config.recipe.fit(
                problem, work / "checkpoint.pt", progress=progress, report=report
            )
        kept = Kept(cache.directory(), work)
        with devices.rounding(False):
            metrics, examples, again = evaluation.evaluate(
                problem, fit.trained, kept=kept, progress=progress
            )
        manifest = origin | {
            "finished": now(),
            "peak_memory_mib": peak_memory_mib(),
            "peak_device_memory_mib": memory.peak_memory_mib(place),
            "seconds": clock.seconds,
            "attempts": clock.attempts,
            "processes": parallel.size(),
            "training_seconds": fit.record["training_seconds"],
            "precision": _precision(problem, fit.trained),
            "cached": _cached(kept, fit),
            "sha256": _hashes(problem),
            "counts": _counts(problem, fit.trained),
        }
        if first:
            arrays = {"examples": examples, "replay": again}
            write_run(folder, config, fit, metrics=metrics, arrays=arrays, manifest=manifest)
    if first:
        shutil.rmtree(work, ignore_errors=True)
    parallel.wait()
    return Run(folder)


def _precision(problem: Problem, trained: Any) -> dict[str, str | None]:
    """In what numbers the denoiser computes (an end-to-end network: its weights) in each part;
    None where nothing is trained or fitted.
    """
    config = problem.config
    used: Any = problem.solver.prior.precision
    if config.recipe.network:
        used = str(next(trained.parameters()).dtype).removeprefix("torch.")
    return {"training": used if config.recipe.train else None, "evaluation": TEST_PRECISION}


def _cached(kept: Kept, fit: Fit) -> dict[str, list[int]]:
    """What was read from the cache instead of computed, of how much: the teacher's targets in
    images, the rest in batches.
    """
    targets = fit.record.get("teacher_images")
    return kept.cached | ({"targets": [targets["cached"], targets["all"]]} if targets else {})


def _counts(problem: Problem, trained) -> dict[str, int]:
    """Images, numbers in the measurement of one image, and trainable numbers."""
    parameters = (
        sum(p.numel() for p in trained.parameters() if p.requires_grad)
        if trained is not None
        else 0
    )
    counts = {"train": problem.config.data.train_count, "test": len(problem.test.images)}
    return counts | {"measurements": _measurements(problem), "parameters": parameters}


def _measurements(problem: Problem) -> int:
    y = problem.student.A(problem.test.images[:1])[0]
    mask = getattr(problem.student, "mask", None)
    return y.numel() if mask is None else int(mask.expand(1, *y.shape).sum())


def _hashes(problem: Problem) -> dict[str, str]:
    hashes = {
        "train": problem.train.sha256,
        "test": problem.test.sha256,
        "masks": mask_hash(problem),
    }
    denoiser = cast(nn.Module, problem.solver.prior.denoiser)  # by the configuration's name
    return hashes | {"denoiser": denoisers.fingerprint(denoiser)}
