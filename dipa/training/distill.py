"""The distillation loop: train a preconditioner so that the student's run matches the teacher's."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from deepinv.physics.generator import PhysicsGenerator
from torch import nn

from ..checks import (
    in_a_row,
    plain_value,
    require,
    require_flag,
    require_images,
    require_int,
    require_kind,
    require_new_file,
    require_path,
)
from ..gathered import Images, sample_of, stream_or_images
from ..physics import warn_range
from ..preconditioners import Preconditioner
from ..settings import Budget, Differentiation, LossWeights, Phase, Variations
from ..solvers import FISTA
from ..solvers.proximal import trained_of
from .distillation import Distillation
from .doors import require_wide
from .loop import Fit, Record, Training
from .pairs import Operators, Pairs
from .student import StudentRun
from .teacher import TeacherTargets
from .validation import Validation
from .worth import Worth, worth

CLOSED_FORM = 1024  # numbers in an image up to which the closed form is compared with


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
