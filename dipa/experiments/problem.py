"""Everything a configuration stands for, built: operators, images, solver."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from deepinv.physics import LinearPhysics

from .. import data, denoisers, device, memory, storage
from ..priors import RED, Denoiser, PnP
from ..solvers import FISTA
from .config import Config, SolverSettings

TEST_PRECISION = "float32"  # of every solve of a test, whatever the training precision
PRIORS = {"pnp": PnP, "red": RED}


@dataclass(frozen=True)
class Problem:
    """A configuration with its operators, images and solver, all on one device; ``solver`` runs
    in the precision of training. Under a shift P is tested as it is, without the ``safeguard``:
    what it knows of its images it knows of their measurements by its own operator.
    """

    config: Config
    student: LinearPhysics
    teacher: LinearPhysics
    train: data.ImageSet
    test: data.ImageSet
    solver: FISTA
    safeguard: bool = True

    @classmethod
    def build(cls, config: Config, place: torch.device | None = None) -> Problem:
        """Load data and denoiser, make the operators, move all to ``place`` (None: the processor).

        Bad input is refused here, before any computing.
        """
        place = torch.device("cpu") if place is None else place
        student, teacher = operators(config, place)
        with memory.named_shortage(
            place, "the images of the run", "lower data.train_count and data.test_count"
        ):
            train, test = (
                replace(images, images=images.images.to(place)) for images in _images(config)
            )
        return cls(config, student, teacher, train, test, make_solver(config.solver, place=place))

    @property
    def device(self) -> torch.device:
        """Where everything of this problem is, and is computed."""
        return self.test.images.device

    @property
    def precision(self) -> str:
        """In what numbers networks compute while training: what the configured precision means
        on this device.
        """
        return device.precision(self.config.solver.precision, self.device)

    @property
    def img_size(self) -> tuple[int, int, int]:
        """(C, H, W) of the images."""
        channels, height, width = self.test.images.shape[1:]
        return channels, height, width

    def shifted(self, name: str) -> Problem:
        """The same images under the shift ``name`` of the configuration."""
        config = self.config.shifted(name)
        student, teacher = operators(config, self.device)
        solver = make_solver(config.solver, place=self.device)
        parts = {"student": student, "teacher": teacher, "solver": solver}
        return replace(self, config=config, safeguard=False, **parts)

    def test_solver(self) -> FISTA:
        """The solver of every test, in :data:`TEST_PRECISION`."""
        solver = make_solver(self.config.solver, precision=TEST_PRECISION, place=self.device)
        return replace(solver, safeguard=self.safeguard)


def operators(
    config: Config, place: torch.device | None = None
) -> tuple[LinearPhysics, LinearPhysics]:
    """Student and teacher of a configuration, the same each time: deepinv draws where it
    normalises an operator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tuple(physics.to(place) for physics in config.task.pair())


def mask_hash(problem: Problem) -> str:
    """SHA-256 of what makes the two operators: their masks or filters, of other operators every
    tensor they hold.
    """
    operators = {"student": problem.student, "teacher": problem.teacher}
    return storage.sha256_tensors(
        {name: held for role, physics in operators.items() for name, held in _held(role, physics)}
    )


def _held(role: str, physics: LinearPhysics) -> list[tuple[str, torch.Tensor]]:
    known = next(
        (getattr(physics, name) for name in ("mask", "filter") if hasattr(physics, name)), None
    )
    whole = [(f"{role}.{name}", tensor) for name, tensor in physics.state_dict().items()]
    return whole if known is None else [(role, known)]


def make_solver(
    solver: SolverSettings,
    precision: str | None = None,
    denoiser: Denoiser | None = None,
    place: torch.device | None = None,
) -> FISTA:
    """The solver of a configuration on a device; its denoiser and its precision are the
    configured ones or those given.
    """
    place = torch.device("cpu") if place is None else place
    weight = {"weight": solver.red_weight} if solver.prior == "red" else {}
    denoiser = denoisers.load(solver.denoiser).to(place) if denoiser is None else denoiser
    numbers = device.precision(precision or solver.precision, place)
    prior = PRIORS[solver.prior](denoiser, precision=numbers, **weight)
    return FISTA(
        prior,
        solver.iterations,
        momentum=solver.momentum,
        start=solver.start,
        restart=solver.restart,
        prior_decay=solver.prior_decay,
    )


def _images(config: Config) -> list[data.ImageSet]:
    images, task = config.data, config.task
    counts = {"train": _train_count(config), "test": images.test_count}
    return [
        data.load(
            images.name,
            split,
            count=count,
            size=task.size,
            resize=images.resize,
            channels=task.channels,
            file=images.file,
        )
        for split, count in counts.items()
    ]


def _train_count(config: Config) -> int:
    """As many training images as the method reads: the closed form reads more than training
    does.
    """
    closed_form = config.recipe.closed_form or (
        config.trained and config.preconditioner.start == "ridge"
    )
    return max(config.data.train_count, config.data.ridge_count if closed_form else 1)
