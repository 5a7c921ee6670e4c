"""What a distillation is made of: teacher and student, how they are compared, how P is trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .. import storage
from ..cache import Identity
from ..checks import require, require_int, require_kind, require_number
from ..identity import describe, describe_physics, describe_preconditioner, solve_identity
from ..physics import require_adjoint, require_takes
from ..preconditioners import Preconditioner, trust
from ..settings import Phase, Variations
from ..solvers import FISTA
from ..solvers.proximal import acting
from ..solvers.setting import of_family, setting
from ..variations import varied
from . import differentiate
from .doors import require_contraction, require_repeats, warn_few_images
from .pairs import Pairs
from .schedules import Plan
from .teacher import TargetsOnDemand, TeacherTargets, teacher_targets
from .validation import Held, HeldGroups, held_out

NEED_TEACHER = ("imitation", "gradient", "convergence")  # the losses that do


@dataclass(frozen=True)
class Distillation:
    """What :func:`distill` is asked for, but P, the images and where things are kept: teacher,
    student, how they are compared, and how P is optimised.
    """

    solver: FISTA
    pairs: Pairs
    phases: tuple[Phase, ...]
    stepsize: float | str
    teacher_stepsize: float | str
    validation: float
    seed: int
    variations: Variations = Variations()

    def __post_init__(self):
        require_kind("solver", self.solver, FISTA)
        require_kind("variations", self.variations, Variations)
        for phase in self.phases:
            phase.length(self.solver.iterations)
        require_number("validation", self.validation, 0, 0.5)
        object.__setattr__(self, "seed", require_int("seed", self.seed, 0))

    @property
    def plan(self) -> Plan:
        """The budgets of the phases."""
        return Plan(tuple(phase.budget for phase in self.phases))

    def split(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The numbers of the images to train on, and of those held out."""
        return held_out(count, self.validation, self.seed)

    def varied(self, images: torch.Tensor, index: torch.Tensor, step: int) -> torch.Tensor:
        """The images with the numbers ``index`` as step ``step`` is trained on them."""
        return varied(images, self.variations, seed=self.seed, draw=step, indices=index)

    def looks(self, held: torch.Tensor) -> tuple[int, int, int]:
        """Steps of the training; the fewest between two looks at the held-out images: an image
        looked at costs about a third of one trained on; steps before the last phase.
        """
        batch = min(phase.budget.batch_size for phase in self.phases)
        steps, last = self.plan.steps, self.phases[-1].budget.steps
        return steps, max(1, math.ceil(4 * len(held) / (3 * batch))), steps - last

    def held(self, images: Any, index: torch.Tensor) -> HeldGroups:
        """The held-out images, as the students reconstruct them."""
        groups = [
            Held.of(self.solver, physics, images, group, self.stepsize, self.seed)
            for physics, group in self.pairs.shared_out(index)
        ]
        return HeldGroups(tuple(groups))

    def setting(
        self, preconditioner: Preconditioner, sample: torch.Tensor, seen: torch.Tensor
    ) -> dict[str, Any]:
        """What P is made in, with the SHA-256 of the images it is made of, and by what it tells
        images of another kind from those it has ``seen``.
        """
        physics = self.pairs.students[0]
        size = tuple(sample.shape[1:])
        alpha = cast(float, self.solver.stepsize(self.stepsize, physics, size, sample))
        made_in = setting(self.solver, physics, alpha, sample)
        made_in |= {"images": storage.sha256_tensors({"images": sample})}
        if not self.pairs.fixed:
            return of_family(made_in)
        P = acting(preconditioner, physics)
        return made_in | trust.measured(P, physics, seen, alpha, self.seed)

    def check(self, preconditioner: nn.Module, images: torch.Tensor) -> None:
        """Refuse what does not go together, before anything is computed."""
        self._check_teacher()
        self._check_variations()
        trained = any(parameter.requires_grad for parameter in preconditioner.parameters())
        kind = type(preconditioner).__name__
        require(trained, "preconditioner", kind, "one with trainable parameters")
        if self.validation:
            warn_few_images(preconditioner, images)
        for name, physics in self.pairs.names():
            self._check_operator(name, physics, images, preconditioner)
        for phase in self.phases:
            length = phase.length(self.solver.iterations)
            differentiate.check(phase.differentiation, preconditioner, length)
        require_repeats(self.solver, images)

    def _check_teacher(self) -> None:
        allowed = "a separate physics object (deepinv physics hold state)"
        students = {id(physics) for physics in self.pairs.students}
        apart = all(id(teacher) not in students for teacher in self.pairs.teachers)
        require(apart, "teacher", "the student's own object", allowed)
        active = {name for phase in self.phases for name in phase.losses.active()}
        wanted = [name for name in NEED_TEACHER if name in active]
        allowed = f"a physics object: the losses {', '.join(wanted)} need it"
        require(not wanted or len(self.pairs.teachers) > 0, "teacher", None, allowed)

    def _check_variations(self) -> None:
        once = any(phase.needs_targets for phase in self.phases)
        allowed = "none with a loss that compares with the teacher's outputs, computed once"
        require(not (self.variations.active and once), "variations", self.variations, allowed)

    def _check_operator(
        self,
        name: str,
        physics: LinearPhysics,
        images: torch.Tensor,
        preconditioner: nn.Module,
    ) -> None:
        """Refuse an operator on other images, and stepsizes, dtypes and devices that do not fit."""
        shape, student = tuple(images.shape[1:]), name.startswith("student")
        if student and self.pairs.count > 1:
            physics = self.pairs.student(0, torch.zeros(1, dtype=torch.long))
        seen = require_takes(name, physics, images, several=True)
        self.solver.check(seen, preconditioner if student else None)
        require_adjoint(name, physics, images)
        stepsize = self.stepsize if student else self.teacher_stepsize
        alpha = cast(float, self.solver.stepsize(stepsize, physics, shape, images))
        P = acting(preconditioner, physics) if student else None
        require_contraction(name, physics, alpha, images, P)

    def record(self, count: int) -> dict[str, Any]:
        """What shapes the training, as plain values."""
        phases = [asdict(phase) for phase in self.phases]
        single = len(phases) == 1 and not self.phases[0].along and not self.phases[0].iterations
        parts = ("losses", "budget", "differentiation")
        how = {part: phases[0][part] for part in parts} if single else {"phases": phases}
        how |= {"variations": asdict(self.variations)} if self.variations.active else {}
        record = how | {
            "stepsize": self.stepsize,
            "teacher_stepsize": self.teacher_stepsize,
            "validation": self.validation,
            "seed": self.seed,
            "solver": self.solver.describe(),
            "images": count,
        }
        return record if self.pairs.fixed else record | {"operators": self.pairs.described()}

    def identity(self, preconditioner: nn.Module, images: torch.Tensor, count: int) -> Identity:
        """Ties a checkpoint to all that shapes the run, the starting preconditioner included."""
        first = self.pairs.students[0]
        one = self.pairs.student(0, torch.arange(1)) if self.pairs.count > 1 else first
        record = solve_identity(self.solver, first, images, self.stepsize, self.seed)
        for name, physics in self.pairs.names():
            parts = describe_physics(physics, images) if physics is not first else {}
            record |= {f"{name}'s {part}": value for part, value in parts.items()}
        if self.pairs.generator is not None:
            drawn = self.pairs.generator.step(batch_size=2, seed=0)
            record |= {"physics_generator": describe(drawn)}
        record |= {"images": describe(images)}
        P = acting(preconditioner, one)
        record |= describe_preconditioner(P, images, self.solver.iterations)
        exact = all(phase.differentiation.exact for phase in self.phases)
        same = {"solver"} | ({"differentiation"} if exact else set())
        same |= set() if self.validation else {"validation"}
        settings = {name: part for name, part in self.record(count).items() if name not in same}
        return record | {"settings": describe(settings)}

    def targets(
        self, images: Any, kept: torch.Tensor, cache: Path | None, progress: bool
    ) -> TeacherTargets | TargetsOnDemand | None:
        """The teacher's targets on the images that training draws; None where no loss needs it."""
        if not self.pairs.teachers or not any(phase.needs_targets for phase in self.phases):
            return None
        stepsize = self.teacher_stepsize
        if len(self.pairs.teachers) > 1 or not isinstance(images, torch.Tensor):
            teacher = self.pairs.teacher
            return TargetsOnDemand(self.solver, teacher, images, stepsize, self.seed)
        drawn = self.plan.drawn(len(kept), self.seed)
        return teacher_targets(
            self.solver,
            self.pairs.teachers[0],
            images,
            stepsize=stepsize,
            seed=self.seed,
            indices=kept[drawn],
            cache=cache,
            progress=progress,
        )
