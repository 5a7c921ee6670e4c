"""``dipa evaluate``: the student of a finished run on one's own images, beside what needs no
training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch

from .. import choices, data, memory, metrics
from ..checks import InputError, require
from ..data import ImageSet
from ..operators.measure import measure
from ..physics import warn_range
from ..solvers import FISTA
from ..solvers.setting import another_setting
from .problem import TEST_PRECISION, Problem, make_solver, operators
from .replay import STREAM
from .results import PRECONDITIONER, Run

BATCH = 64
WORSE = 0.3  # dB below the baseline from which an image counts as lost
# images, status, for how many of them P was left out
Reconstruct = Callable[[torch.Tensor], "tuple[torch.Tensor, str, int]"]


@dataclass(frozen=True)
class Evaluation:
    """Mean PSNR (dB) of a run's student on images of one's own, beside the baseline (the run's
    stepsize and start, no P), steps of 1/L, and steps of 1/L from the best of all starts.

    Attributes:
        run: name of its folder.
        images: name of the images.
        count: how many.
        psnr: of each image, by who reconstructed it.
        status: ``completed`` or ``diverged``, with the number of images that P does not trust.
    """

    run: str
    images: str
    count: int
    psnr: dict[str, list[float]]
    status: dict[str, str]

    def mean(self, name: str) -> float:
        """Mean PSNR over the images."""
        return sum(self.psnr[name]) / self.count

    @property
    def lost(self) -> list[float]:
        """By how much the student is below the baseline, of the images where that is more than
        0.3 dB, worst first.
        """
        pairs = zip(self.psnr["baseline"], self.psnr["student"], strict=True)
        return sorted((a - b for a, b in pairs if a - b > WORSE), reverse=True)

    def __str__(self) -> str:
        rows = [
            f"  {name:<24} {self.mean(name):6.2f} dB   worst image {min(values):6.2f}   "
            f"{self.status[name]}"
            for name, values in self.psnr.items()
        ]
        lost = self.lost
        text = "  the student is nowhere more than 0.3 dB below the baseline"
        if lost:
            text = (
                f"  the student is below the baseline on {len(lost)} of {self.count} images, by up "
                f"to {lost[0]:.1f} dB: it was trained on others"
            )
        return "\n".join([f"{self.run} on {self.count} images of {self.images}", *rows, text])

    def plain(self) -> dict[str, Any]:
        """Everything as plain values."""
        means = {name: self.mean(name) for name in self.psnr}
        shown = {"run": self.run, "images": self.images, "count": self.count, "mean": means}
        return shown | {"psnr": self.psnr, "status": self.status, "lost": self.lost}


def own_images(run: Run, name: str, count: int | None = None) -> ImageSet:
    """Images of a run's size: the test split of a data set, or the pictures of a folder."""
    task = run.config.task
    shaped: Any = {"size": task.size, "channels": task.channels, "count": count}
    if name not in choices.DATASETS:
        return data.folder(name, **shaped)
    file = run.config.data.file if name == run.config.data.name else ""
    return data.load(name, "test", **shaped, file=file)


@torch.no_grad()
@another_setting()
def evaluate_on(run: Run, images: ImageSet, place: torch.device | None = None) -> Evaluation:
    """The student of a run on ``images`` of its size, with the run's operator, noise and solver.

    Raises:
        InputError: a P that is not in this copy of the run (the message says how to make it again);
            images of another size.
    """
    student, teacher = operators(run.config, place)
    x = images.images.to(place)
    warn_range("images", x, student)
    solver = make_solver(run.config.solver, precision=TEST_PRECISION, place=place)
    problem = Problem(run.config, student, teacher, images, replace(images, images=x), solver)
    solved = {name: _over(problem, way) for name, way in _ways(problem, run).items()}
    best = _best_start(problem)
    solved[f"1/L, start {best[0]}"] = best[1]
    psnr = {name: values for name, (values, _) in solved.items()}
    status = {name: status for name, (_, status) in solved.items()}
    return Evaluation(run.path.name, images.name, len(x), psnr, status)


@torch.no_grad()
@another_setting()
def untrained(run: Run, place: torch.device | None = None) -> dict[str, float]:
    """Mean PSNR, on a run's own test images, of what takes no training: steps of 1/L, and the
    closed form where P's training started from it.
    """
    problem, config = Problem.build(run.config, place), run.config
    ways = {"steps of 1/L": _by(problem, problem.solver, None, "1/L")}
    if config.closed_form:
        P = cast(Any, config.recipe.make(problem)).to(problem.device)
        ways["closed form, where P starts"] = _by(
            problem, problem.solver, P, config.solver.stepsize
        )
    solved = {name: _over(problem, way)[0] for name, way in ways.items()}
    return {name: sum(values) / len(values) for name, values in solved.items()}


def _ways(problem: Problem, run: Run) -> dict[str, Reconstruct]:
    alpha, solver = run.config.solver.stepsize, problem.solver
    ways = {"student": _student(problem, run)}
    ways["baseline"] = _by(problem, solver, None, alpha)
    return ways | {"1/L": _by(problem, solver, None, "1/L")}


def _student(problem: Problem, run: Run) -> Reconstruct:
    if run.config.recipe.network:
        network = run.network().to(problem.device)
        return lambda y: (network(y, problem.student), "completed", 0)
    untrained = not run.config.trained and PRECONDITIONER not in run.manifest.get("files", {})
    P = run.config.recipe.make(problem) if untrained else run.preconditioner().to(problem.device)
    return _by(problem, problem.solver, P, run.config.solver.stepsize)


def _by(problem: Problem, solver: FISTA, preconditioner: Any, stepsize: float | str) -> Reconstruct:
    def reconstruct(y: torch.Tensor) -> tuple[torch.Tensor, str, int]:
        result = solver(y, problem.student, preconditioner=preconditioner, stepsize=stepsize)
        return result.x, result.status, result.untrusted

    return reconstruct


def _over(problem: Problem, reconstruct: Reconstruct) -> tuple[list[float], str]:
    """PSNR of every image; whether a run diverged, and for how many images P was left out."""
    x = problem.test.images

    def batch(index: torch.Tensor) -> tuple[list[float], str, int]:
        y = measure(
            problem.student, x[index], seed=problem.config.seed, indices=index, stream=STREAM
        )
        x_hat, status, untrusted = reconstruct(y)
        return metrics.psnr(x_hat, x[index]).tolist(), status, untrusted

    parts = [
        part
        for index in torch.arange(len(x)).split(BATCH)
        for part in memory.in_parts(batch, index, problem.device, "evaluating")
    ]
    values, statuses, counts = zip(*parts, strict=True)
    status = "diverged" if "diverged" in statuses else "completed"
    told = f", {sum(counts)} untrusted: without P" if sum(counts) else ""
    return [psnr for part in values for psnr in part], status + told


def _best_start(problem: Problem) -> tuple[str, tuple[list[float], str]]:
    """The start whose run by 1/L has the highest mean PSNR, and that run."""
    solved = {}
    for start in choices.STARTS:
        try:
            solver = replace(problem.solver, start=start)
            solved[start] = _over(problem, _by(problem, solver, None, "1/L"))
        except InputError:  # an operator without a pseudo-inverse
            continue
    require(len(solved) > 0, "start", "none", "one that this operator has")
    return max(solved.items(), key=lambda item: sum(item[1][0]))
