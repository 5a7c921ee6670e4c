"""Everything a configuration stands for, built: operators, images, solver."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deepinv.physics import LinearPhysics

from .. import data, denoisers, storage
from ..priors import RED, Denoiser, PnP
from ..solvers import FISTA
from .config import Config, Solver

TEST_PRECISION = "float32"  # of every solve of a test, whatever the training precision
PRIORS = {"pnp": PnP, "red": RED}


@dataclass(frozen=True)
class Problem:
    """A configuration with its operators, images and solver; ``solver`` runs in the configured precision."""

    config: Config
    student: LinearPhysics
    teacher: LinearPhysics
    train: data.ImageSet
    test: data.ImageSet
    solver: FISTA

    @classmethod
    def build(cls, config: Config) -> Problem:
        """Load data and denoiser and make the operators; bad input is refused here, before any computing."""
        student, teacher = config.task.pair()
        return cls(config, student, teacher, *_images(config), make_solver(config.solver))

    @property
    def img_size(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        return tuple(self.test.images.shape[1:])

    def shifted(self, name: str) -> Problem:
        """The same images under the shift ``name`` of the configuration."""
        config = self.config.shifted(name)
        student, teacher = config.task.pair()
        return replace(self, config=config, student=student, teacher=teacher, solver=make_solver(config.solver))


def mask_hash(problem: Problem) -> str:
    """SHA-256 of what makes the two operators: their masks or filters."""
    operators = {"student": problem.student, "teacher": problem.teacher}
    held = {name: physics.mask if hasattr(physics, "mask") else physics.filter for name, physics in operators.items()}
    return storage.sha256_tensors(held)


def make_solver(solver: Solver, precision: str | None = None, denoiser: Denoiser | None = None) -> FISTA:
    """The solver of a configuration, its denoiser (or the one given) in the configured precision (or the one given)."""
    weight = {"weight": solver.red_weight} if solver.prior == "red" else {}
    denoiser = denoisers.load(solver.denoiser) if denoiser is None else denoiser
    prior = PRIORS[solver.prior](denoiser, precision=precision or solver.precision, **weight)
    return FISTA(prior, solver.iterations, momentum=solver.momentum, start=solver.start, restart=solver.restart)


def _images(config: Config) -> list[data.ImageSet]:
    images, task = config.data, config.task
    counts = {"train": _train_count(config), "test": images.test_count}
    options = {"size": task.size, "resize": images.resize, "channels": task.channels, "file": images.file}
    return [data.load(images.name, split, count=count, **options) for split, count in counts.items()]


def _train_count(config: Config) -> int:
    """As many training images as the method reads: the closed form reads more than training does."""
    closed_form = config.method == "ridge" or (config.trained and config.preconditioner.start == "ridge")
    return max(config.data.train_count, config.data.ridge_count if closed_form else 1)
