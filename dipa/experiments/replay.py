"""What lets anybody solve a recorded run again, without its data set and its denoiser.

The folder of a run holds a few true images, P, and, for the first image, what the denoiser gave in
every iteration with nine numbers of what it got. A run is solved again with these answers in the
place of the denoiser: operator, start, P, stepsize and momentum must ask the denoiser the same
questions and end in the stored image. PSNRs of all test images tie the reported means to the images
that are stored; folders sealed afterwards have none, and their means must be likely ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import data, metrics
from ..checks import require
from ..identity import sketch
from ..operators.measure import measure
from ..solvers.setting import another_setting
from .manifest import LARGEST
from .problem import TEST_PRECISION, Problem, make_solver, mask_hash, operators
from .results import PRECONDITIONER, Run

STREAM = "test noise"  # of the measurements that a run is tested on
NEAR = 2e-3  # between pixels: answers are kept as half-precision numbers
ALIKE = 5e-3  # between the numbers of two questions, in units of the largest question's norm
ROOM = 100_000  # bytes that a file of P has beside its numbers, at most
DECIBEL = 2e-3  # between a PSNR and the same from stored images


class Asked:
    """A function that notes what it is asked and what it answers, or that gives recorded
    answers.
    """

    def __init__(self, function: Any = None, answers: np.ndarray | None = None):
        self.function, self.recorded = function, answers
        self.questions: list[torch.Tensor] = []
        self.answers: list[torch.Tensor] = []

    def __call__(self, question: torch.Tensor, *others: Any) -> torch.Tensor:
        """The answer, noted."""
        self.questions.append(question)
        if self.recorded is None:
            answer = self.function(question, *others)
        else:
            answer = (
                torch.from_numpy(self.recorded[len(self.answers)])
                .to(question)
                .reshape(question.shape)
            )
        self.answers.append(answer)
        return answer

    def arrays(self, question: str, answer: str) -> dict[str, np.ndarray]:
        """Questions (K, 9) and answers (K, ...) by these names."""
        answers = torch.stack(self.answers).cpu().numpy().astype("float16")
        return {question: self.sketches(), answer: answers}

    def sketches(self) -> np.ndarray:
        """Nine numbers of each question (K, 9)."""
        return np.array([[value for value, _ in sketch(question)] for question in self.questions])


@torch.no_grad()
def record(
    problem: Problem, trained: nn.Module | None, reconstructions: dict[str, torch.Tensor]
) -> dict[str, np.ndarray]:
    """The arrays of ``replay.npz``: the PSNR of each test image in each role, and the student's
    way with the first image.
    """
    x_true = problem.test.images
    arrays = {
        f"psnr_{role}": metrics.psnr(x, x_true).cpu().numpy() for role, x in reconstructions.items()
    }
    if problem.config.recipe.network:
        return arrays
    denoiser = Asked(problem.solver.prior.denoiser)
    large = (
        trained is not None
        and sum(p.numel() * p.element_size() for p in trained.state_dict().values()) + ROOM
        > LARGEST
    )
    direction = Asked(trained) if large else trained
    solve(problem, x_true[:1], denoiser, direction)
    arrays |= denoiser.arrays("denoiser_asked", "denoised")
    return arrays | (
        direction.arrays("preconditioner_asked", "directions")
        if isinstance(direction, Asked)
        else {}
    )


@torch.no_grad()
def check(run: Run) -> Asked | None:
    """Solve a recorded run again on its first image and compare; refuse what does not agree, by
    name.

    Returns what the denoiser was asked and answered; None for a network without one.
    """
    _check_numbers(run)
    problem = _problem(run)
    got, then = mask_hash(problem), run.manifest["sha256"]["masks"]
    require(got == then, f"{run.path}: masks of the operators", got, f"{then}, as recorded")
    if run.config.recipe.network:
        x = run.network()(_measure(problem, problem.test.images), problem.student)
        _agree(run, "student", x, run.examples["student"])
        return None
    denoiser = Asked(answers=run.replay["denoised"])
    preconditioner = _preconditioner(run, problem)
    x = solve(problem, problem.test.images[:1], denoiser, preconditioner)
    _same(run, "denoiser_asked", denoiser)
    if isinstance(preconditioner, Asked):
        _same(run, "preconditioner_asked", preconditioner)
    _agree(run, "student", x, run.examples[_student(run)][:1])
    return denoiser


def _problem(run: Run) -> Problem:
    """The run's operators and configuration with the stored images; no data set and no denoiser."""
    student, teacher = operators(run.config)
    stored = data.ImageSet(torch.from_numpy(run.examples["truth"]), "stored", "test")
    unused: Any = None
    return Problem(run.config, student, teacher, stored, stored, solver=unused)


def _preconditioner(run: Run, problem: Problem) -> Any:
    """P of a run: none, made from the operator, read, or (left out for its size) its recorded
    answers.
    """
    if "directions" in run.replay:
        return Asked(answers=run.replay["directions"])
    if not run.config.trained and PRECONDITIONER not in run.manifest.get("files", {}):
        return run.config.recipe.make(problem)
    return run.preconditioner()


@torch.no_grad()
def solve(
    problem: Problem, x_true: torch.Tensor, denoiser: Callable, preconditioner: Any
) -> torch.Tensor:
    """The student's reconstruction as it is tested: in float32, from the measurements of the
    test.
    """
    settings = problem.config.solver
    solver = make_solver(settings, precision=TEST_PRECISION, denoiser=denoiser)
    y = _measure(problem, x_true)
    with another_setting():  # the recorded one, whatever the file of P says
        return solver(
            y, problem.student, preconditioner=preconditioner, stepsize=settings.stepsize
        ).x


def _measure(problem: Problem, x_true: torch.Tensor) -> torch.Tensor:
    return measure(problem.student, x_true, seed=problem.config.seed, stream=STREAM)


def _student(run: Run) -> str:
    return "student" if "student" in run.examples else "baseline"


def _check_numbers(run: Run) -> None:
    """Reported means against the stored images, by way of the PSNRs of all images where these
    were kept.
    """
    truth = torch.from_numpy(run.examples["truth"])
    for role in dict.fromkeys(("baseline", _student(run), "teacher")):
        stored = metrics.psnr(torch.from_numpy(run.examples[role]), truth).numpy()
        reported, kept = run.metrics[role], run.replay.get(f"psnr_{role}")
        if kept is not None:
            near = (
                len(kept) == run.manifest["counts"]["test"]
                and np.abs(stored - kept[: len(stored)]).max() < DECIBEL
            )
            require(
                bool(near),
                f"{run.path}: replay.npz",
                f"psnr_{role} {kept[: len(stored)]}",
                f"{stored}, as the stored images",
            )
        likely = 4 * reported["psnr_sd_images"] / len(stored) ** 0.5
        expected, within = (stored.mean(), likely) if kept is None else (kept.mean(), DECIBEL)
        got, allowed = (
            f"{role} {reported['psnr']:.2f} dB",
            f"{expected:.2f} dB up to {within:.2g}, as the images have",
        )
        require(
            bool(abs(expected - reported["psnr"]) <= within),
            f"{run.path}: metrics.json",
            got,
            allowed,
        )
    same = run.metrics["student"]["psnr"] == run.metrics[_student(run)]["psnr"]
    require(
        same,
        f"{run.path}: metrics.json",
        "a student of its own",
        "the baseline's numbers, where nothing is trained",
    )


def _same(run: Run, name: str, asked: Asked) -> None:
    """The questions of the run that was recorded, iteration by iteration, up to half-precision
    answers.
    """
    then, now = run.replay[name], asked.sketches()
    require(then.shape == now.shape, f"{run.path}: {name}", now.shape, f"{then.shape}, as recorded")
    # gradients get small, answers are rounded
    off = np.abs(then - now).max(axis=1) / max(then[:, 0].max(), 1e-12)
    worst = int(off.argmax())
    allowed = f"at most {ALIKE:g} of the largest norm from what was recorded"
    require(
        bool(off[worst] <= ALIKE),
        f"{run.path}: {name} in iteration {worst + 1}",
        f"{off[worst]:.3g}",
        allowed,
    )


def _agree(run: Run, role: str, x: torch.Tensor, stored: np.ndarray) -> None:
    off = float((x - torch.from_numpy(stored)).abs().max())
    require(
        off <= NEAR,
        f"{run.path}: {role} solved again",
        f"{off:.3g}",
        f"at most {NEAR:g} from the stored images",
    )
