"""The distillation loop: train a preconditioner so that the student's run matches the teacher's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from deepinv.physics import LinearPhysics
from deepinv.physics.generator import PhysicsGenerator
from torch import nn

from .. import storage
from ..cache import Identity
from ..checks import (
    in_a_row,
    plain_value,
    require,
    require_flag,
    require_images,
    require_int,
    require_kind,
    require_new_file,
    require_number,
    require_path,
)
from ..gathered import Images, sample_of, stream_or_images
from ..identity import describe, describe_physics, describe_preconditioner, solve_identity
from ..physics import require_adjoint, require_takes, warn_range
from ..preconditioners import Preconditioner, trust
from ..settings import Budget, Differentiation, LossWeights, Phase, Variations
from ..solvers import FISTA
from ..solvers.proximal import acting, trained_of
from ..solvers.setting import of_family, setting
from ..variations import varied
from . import differentiate
from .doors import require_contraction, require_wide, warn_few_images
from .loop import Fit, Record, Training
from .pairs import Operators, Pairs
from .schedules import Plan
from .student import StudentRun
from .teacher import TargetsOnDemand, TeacherTargets, teacher_targets
from .validation import Held, HeldGroups, Validation, held_out
from .worth import Worth, worth

CLOSED_FORM = 1024  # numbers in an image up to which the closed form is compared with
NEED_TEACHER = ("imitation", "gradient", "convergence")  # the losses that do


def distill(
    solver: FISTA,
    preconditioner: Preconditioner | Fit,
    student: Operators,
    teacher: Operators | None,
    images: Images,
    *,
    losses: LossWeights | None = None,
    budget: Budget | None = None,
    stepsize: float | str = "1/L",
    teacher_stepsize: float | str = "1/L",
    validation: float = 0.1,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    cache: str | Path | None = None,
    differentiation: Differentiation | None = None,
    phases: Sequence[Phase] | None = None,
    physics_generator: PhysicsGenerator | None = None,
    variations: Variations | None = None,
    progress: bool = True,
    report: Callable[[Record], None] | None = None,
) -> Fit:
    r"""Train ``preconditioner`` in place so that the student's reconstruction and gradient match
    the teacher's.

    .. math::
        \min_P\ \mathbb{E}_x\,\big[\lambda_S L_S+\lambda_I L_I+\lambda_G L_G
        +\lambda_R R+\dots\big],\qquad
        \hat x_s=\mathrm{FISTA}(P,H_s,H_sx,\alpha_s),\quad
        \hat x_t=\mathrm{FISTA}(I,H_t,H_tx,\alpha_t)

    The teacher runs once per image (its result does not depend on P). P may have any number of
    trainable and frozen parameters and may change with the iteration; the losses on directions
    (gradient, convergence, row space) take it at k = K.

    A share of the images is held out: P ends as the best of the looks at them, its start included,
    and training stops where four looks (of at most ten) find nothing better. ``record["worth"]``
    compares it on them with what needs no training; what is not worth it is one warning.

    Args:
        solver: what teacher and student both run.
        preconditioner: P, trained in place, whatever its form; frozen parameters stay as they are.
            The ``Fit`` of one goes on with it.
        student: :math:`H_s`, the operator of the real system. One whose parameters have a row for
            every image (a batch of N masks) shows each image to its own. Of several, a list or a
            generator, each step takes the next: P then belongs to none of them, and serves others
            of that kind. They may be pairs (student, teacher).
        teacher: :math:`H_t`, on the same image space; a separate object; None where no loss needs
            it. Several students have one teacher, or one each.
        images: clean images (N, C, H, W) in [0, 1] ([-1, 1] for real and imaginary parts); another
            range is one warning; a tensor, or an array,
            list, ``Dataset``, ``DataLoader`` or :class:`~dipa.data.ImageSet` of them; a
            :class:`~dipa.data.Streamed` is read batch by batch.
        losses: weights of the terms.
        budget: steps, optimiser, schedule.
        stepsize: :math:`\alpha_s`, a positive number or ``"1/L"``, with which the steps, and so the
            training, do not depend on the units of H (the papers' 0.4 is for L = 1);
            ``teacher_stepsize`` is :math:`\alpha_t` (0.7 in the papers). It travels with P.
        validation: share of the images held out, at most 16 of them, in [0, 1/2]; 0 trains on all,
            for the whole budget, and compares nothing.
        seed: of the order of images and of the measurement noise.
        checkpoint: a file to save to and resume from; a resumed run ends in the same tensors as an
            uninterrupted one (same machine, versions and thread count). Removed by nobody but the
            caller.
        cache: folder of cached teacher targets, None for no cache. Not used where some part of the
            solver cannot be described, such as a denoiser that is a plain function; resuming a
            checkpoint then warns.
        differentiation: how the gradient of a solve is computed and what is kept for it: the whole
            run by default, see :class:`~dipa.training.Differentiation`.
        phases: a training in several parts, each with its own losses, budget and differentiation
            (which are then not given beside them), see :class:`~dipa.training.Phase`.
        physics_generator: deepinv's ``PhysicsGenerator``: draws parameters of the student (a mask,
            a filter, a noise level) for every image of every step anew, by ``seed``. ``"1/L"`` is
            then one over the largest L of 8 draws. Its random generator is seeded anew for each.
        variations: how far the images of a step are varied (:func:`dipa.variations.varied`), anew
            for every step and drawn from ``seed`` and its number; none by default. Images held out
            are not varied. Where few images are trained on, a network learns those by heart
            otherwise. Not with a loss that compares with the teacher's outputs, which are computed
            once.
        progress: show a bar with loss, PSNR and time left.
        report: called with each history record (step, of several phases the phase, loss, its terms,
            psnr, learning rate, gradient norm).

    Raises:
        InputError: arguments that do not fit together; an operator that is not linear or whose
            adjoint is none; a stepsize beyond 2/L that P does not make up for, with which no run
            converges; a student that diverges; a loss, gradient or updated P that is not finite.
            Training stops with the step and the cause, and the checkpoint stays as last saved:
            after a step, at most ``checkpoint_every`` back, with finite loss, gradient and P. A
            finite P may still be one from which the next student run diverges; starting again from
            that checkpoint then ends the same way.

    Source: D2GP Algorithm 2; DIPA Eq. (6)-(13).
    """
    P: Preconditioner = trained_of(preconditioner)
    images = stream_or_images("images", images)
    sample = sample_of(images)
    require_images("images", sample)
    require_wide(sample)
    seed = require_int("seed", seed, 0)
    pairs = Pairs.of(student, teacher, physics_generator, sample, len(images), seed)
    problem = Distillation(
        solver,
        pairs,
        _phases(losses, budget, differentiation, phases),
        plain_value(stepsize),
        plain_value(teacher_stepsize),
        plain_value(validation),
        seed,
        Variations() if variations is None else variations,
    )
    require_kind("preconditioner", P, nn.Module)
    file = require_new_file("checkpoint", checkpoint)
    absent = cache is None or (isinstance(cache, str) and not cache)
    folder = None if absent else require_path("cache", cache)
    progress = require_flag("progress", progress)
    problem.check(P, sample)
    problem = replace(problem, stepsize=pairs.stepsize(solver, problem.stepsize, sample))
    warn_range("images", sample, *pairs.students, *pairs.teachers)
    P.setting = {}
    runs = [StudentRun(problem, phase, P) for phase in problem.phases]
    kept, held = problem.split(len(images))
    looking = problem.held(images, held) if len(held) else None
    looks = Validation(partial(looking.psnr, P), *problem.looks(held)) if looking else None
    training = Training.start(
        P,
        problem.plan.budgets,
        name="preconditioner",
        what="P",
        identity=problem.identity(P, sample, len(images)) if file else {},
        checkpoint=file,
        validation=looks,
    )
    targets = problem.targets(images, kept, folder, progress)

    def objective(index: torch.Tensor, step: int) -> tuple[torch.Tensor, Record]:
        index, run = kept[index], runs[problem.plan.place(step)[0]]
        of_batch = targets.of(index, step) if targets and run.phase.needs_targets else None
        return run(problem.varied(images[index], index, step), index, of_batch, step)

    training.run(
        objective,
        count=len(kept),
        seed=problem.seed,
        less_memory=problem.phases[-1].differentiation.less_memory,
        progress=progress,
        report=report,
    )
    seen = sample_of(images, kept)
    P.setting = problem.setting(P, sample, seen)
    record = problem.record(len(images))
    if isinstance(targets, TeacherTargets):
        record["teacher_images"] = {"all": len(targets.indices), "cached": targets.cached}
    record["training_seconds"] = round(training.seconds, 2)
    if looking and looks:
        record["validation"] = {"looks": looks.looks, "best": looks.best_look[0]}
        small = seen[0].numel() <= CLOSED_FORM and pairs.fixed
        record["worth"] = _compared(worth(looking, P, looks.looks[0][1], seen, small))
    return Fit(P, training.history, record)


def _phases(
    losses: LossWeights | None,
    budget: Budget | None,
    differentiation: Differentiation | None,
    phases: Sequence[Phase] | None,
) -> tuple[Phase, ...]:
    """The phases that were given, or the one that losses, budget and differentiation make."""
    if phases is None:
        require(losses is not None, "losses", losses, "a LossWeights, or phases")
        require_kind("losses", losses, LossWeights)
        require_kind("budget", budget := Budget() if budget is None else budget, Budget)
        way = Differentiation() if differentiation is None else differentiation
        require_kind("differentiation", way, Differentiation)
        return (Phase(budget, cast(LossWeights, losses), way),)
    beside = {"losses": losses, "budget": budget, "differentiation": differentiation}
    given = [name for name, value in beside.items() if value is not None]
    require(not given, "phases", f"phases and {', '.join(given)}", "these within the phases")
    known = in_a_row(phases) and all(isinstance(phase, Phase) for phase in phases)
    require(known and len(phases) > 0, "phases", phases, "at least one Phase in a row")
    return tuple(phases)


def _compared(compared: Worth) -> dict[str, Any]:
    """What P is worth on the held-out images, as plain values with its sentence; a warning where
    it is worth nothing.
    """
    if compared.advice:
        warnings.warn(f"distill: {compared}", stacklevel=3)
    return asdict(compared) | {"text": str(compared)}


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
        if callable(repeats := getattr(self.solver.prior, "require_repeats", None)):
            repeats(images[:1])

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
