"""The distillation loop: train a preconditioner so that the student's run matches the teacher's."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from tqdm import tqdm

from .. import files, losses, metrics, seeding
from ..checks import InputError, require, require_choice, require_images, require_int, require_number
from ..declared import declared_size
from ..losses import LossWeights
from ..operators import range_basis
from ..operators.measure import measure
from ..preconditioners import Preconditioner
from ..solvers import FISTA, data_gradient
from .checkpoint import load_checkpoint, save_checkpoint
from .teacher import TeacherTargets, teacher_key, teacher_targets


@dataclass(frozen=True)
class Budget:
    r"""How long and how to optimise.

    Args:
        steps: optimiser steps; each draws ``batch_size`` images, so ``steps * batch_size`` image-steps in all.
        batch_size: images a step; more than the data set holds means repeats.
        optimizer: ``adam``, or ``adamw`` with decoupled ``weight_decay``.
        learning_rate: initial rate.
        weight_decay: AdamW's decay (0.01 in the papers' MRI runs).
        clip: a gradient whose Euclidean norm over all parameters exceeds ``clip`` is scaled down to that norm; 0
            switches it off.
        schedule: ``plateau`` (ReduceLROnPlateau on the mean loss of each window, as in the papers), ``cosine`` (to 0)
            or ``constant``.
        window: steps between two looks of the plateau schedule.
        patience: windows without progress before the plateau schedule acts.
        factor: what the plateau schedule multiplies the rate by.
        checkpoint_every: steps between two checkpoints.
    """

    steps: int = 100
    batch_size: int = 16
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip: float = 1.0
    schedule: str = "plateau"
    window: int = 10
    patience: int = 3
    factor: float = 0.5
    checkpoint_every: int = 10

    def __post_init__(self):
        for name in ("steps", "batch_size", "window", "checkpoint_every"):
            require_int(f"budget.{name}", getattr(self, name), 1)
        require_int("budget.patience", self.patience, 0)
        require_choice("budget.optimizer", self.optimizer, ("adam", "adamw"))
        require_choice("budget.schedule", self.schedule, ("plateau", "cosine", "constant"))
        require_number("budget.learning_rate", self.learning_rate, 0, open_low=True)
        require_number("budget.weight_decay", self.weight_decay, 0)
        require_number("budget.clip", self.clip, 0)
        require_number("budget.factor", self.factor, 0, 1, open_low=True)


@dataclass(frozen=True)
class Fit:
    """What training made: the preconditioner, one history record per step, and plain values that say how."""

    preconditioner: Preconditioner
    history: list[dict[str, float]]
    record: dict[str, Any]


@dataclass
class _State:
    """Everything a resumed run needs to continue as if never stopped."""

    preconditioner: Preconditioner
    optimizer: torch.optim.Optimizer
    scheduler: Any
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def dump(self) -> dict[str, Any]:
        parts = {name: getattr(self, name).state_dict() for name in ("preconditioner", "optimizer", "scheduler")}
        return parts | {"history": self.history, "seconds": self.seconds}

    def restore(self, saved: dict[str, Any]) -> None:
        for name in ("preconditioner", "optimizer", "scheduler"):
            getattr(self, name).load_state_dict(saved[name])
        self.history, self.seconds = saved["history"], saved["seconds"]


def distill(
    solver: FISTA,
    preconditioner: Preconditioner,
    student: LinearPhysics,
    teacher: LinearPhysics | None,
    images: torch.Tensor,
    *,
    losses: LossWeights,
    budget: Budget | None = None,
    stepsize: float = 0.4,
    teacher_stepsize: float = 0.7,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
    report: Callable[[dict[str, float]], None] | None = None,
) -> Fit:
    r"""Train ``preconditioner`` in place so that the student's reconstruction and gradient match the teacher's.

    .. math::
        \min_P\ \mathbb{E}_x\,\big[\lambda_S L_S+\lambda_I L_I+\lambda_G L_G+\lambda_R R\big],\qquad
        \hat x_s=\mathrm{FISTA}(P,H_s,H_sx,\alpha_s),\quad \hat x_t=\mathrm{FISTA}(I,H_t,H_tx,\alpha_t)

    The teacher runs once per image (its result does not depend on P). Gradients flow through all K iterations.

    Args:
        solver: what teacher and student both run.
        preconditioner: P, trained in place, whatever its form.
        student: :math:`H_s`, the operator of the real system.
        teacher: :math:`H_t`, on the same image space; a separate object; None where no loss needs it.
        images: clean images (N, C, H, W) in [0, 1].
        losses: weights of the terms.
        budget: steps, optimiser, schedule.
        stepsize: :math:`\alpha_s` (0.4 in the papers); ``teacher_stepsize`` is :math:`\alpha_t` (0.7).
        seed: of the order of images and of the measurement noise.
        checkpoint: a file to save to and resume from; a resumed run ends in the same tensors as an uninterrupted one
            (same machine, versions and thread count). Removed by nobody but the caller.
        cache: folder of cached teacher targets, None for no cache. Not used for a denoiser without weights to hash,
            such as a plain function (a checkpoint knows that one by its name alone).
        progress: show a bar with loss, PSNR and time left.
        report: called with each history record (step, loss, its terms, psnr, learning rate, gradient norm).

    Raises:
        InputError: arguments that do not fit together; a student that diverges; a loss, gradient or updated P that is
            not finite. Training stops with the step and the cause, and the checkpoint stays as last saved: after a
            step, at most ``checkpoint_every`` back, with finite loss, gradient and P. A finite P may still be one from
            which the next student run diverges; starting again from that checkpoint then ends the same way.

    Source: D2GP Algorithm 2; DIPA Eq. (6)-(13).
    """
    budget = budget or Budget()
    _check(student, teacher, images, losses)
    key = _key(solver, preconditioner, student, teacher, images, losses, budget, stepsize, teacher_stepsize, seed)
    state = _prepare(preconditioner, budget)
    saved = load_checkpoint(Path(checkpoint), key) if checkpoint else None
    if saved:
        state.restore(saved)
    targets = None
    if losses.needs_teacher:
        targets = teacher_targets(solver, teacher, images, stepsize=teacher_stepsize, seed=seed, cache=cache, progress=progress)
    objective = _Objective(solver, student, teacher, losses, stepsize)

    began = time.monotonic() - state.seconds
    bar = tqdm(total=budget.steps, initial=len(state.history), desc="training P", unit="step", disable=not progress)
    for step in range(len(state.history), budget.steps):
        index = seeding.batch_indices(len(images), budget.batch_size, step, seed)
        record = {"step": step + 1} | _train_step(state, objective, budget, images, targets, index, step, seed)
        state.history.append(record)
        state.seconds = time.monotonic() - began
        if report:
            report(record)
        if checkpoint and ((step + 1) % budget.checkpoint_every == 0 or step + 1 == budget.steps):
            save_checkpoint(Path(checkpoint), key, state.dump())
        bar.set_postfix(loss=f"{record['loss']:.4g}", PSNR=f"{record['psnr']:.2f} dB")
        bar.update()
    bar.close()
    made = {"losses": asdict(losses), "budget": asdict(budget), "stepsize": stepsize, "teacher_stepsize": teacher_stepsize}
    made |= {"seed": seed, "solver": solver.describe(), "images": len(images), "training_seconds": round(state.seconds, 2)}
    return Fit(preconditioner, state.history, made)


class _Objective:
    """The weighted loss of one batch, with its terms; what does not change from batch to batch is kept."""

    def __init__(self, solver, student, teacher, weights: LossWeights, stepsize: float):
        self.solver, self.student, self.teacher = solver, student, teacher
        self.weights, self.stepsize = weights, stepsize
        self.basis = None

    def __call__(
        self, preconditioner, x, y, targets: TeacherTargets | None, step: int
    ) -> tuple[torch.Tensor, dict[str, float], torch.Tensor]:
        result = self.solver(y, self.student, preconditioner=preconditioner, stepsize=self.stepsize)
        if result.status != "completed":
            raise InputError(f"stepsize or learning_rate: at training step {step + 1} the student {result.message}")
        weights, k = self.weights, self.solver.iterations
        terms: dict[str, torch.Tensor] = {}
        if weights.supervised:
            terms["supervised"] = losses.supervised(result.x, x)
        if weights.imitation:
            terms["imitation"] = losses.imitation(result.x, targets.x)
        if weights.gradient or weights.row_space:
            direction = preconditioner(data_gradient(self.student, y, result.x), result.x, k)
            if weights.gradient:
                terms["gradient"] = losses.gradient_cosine(direction, targets.gradient)
            if weights.row_space:
                self.basis = self.basis or range_basis(self.student, tuple(x.shape[1:]))
                terms["row_space"] = losses.row_space(direction, self.basis.project)
        if weights.convergence:
            update = preconditioner(self.student.A_adjoint_A(x), x, k)
            terms["convergence"] = losses.convergence(update, self.teacher.A_adjoint_A(x))
        means = {name: term.mean() for name, term in terms.items()}
        total = sum(getattr(weights, name) * mean for name, mean in means.items())
        return total, {name: mean.item() for name, mean in means.items()}, result.x.detach()


def _train_step(
    state: _State, objective: _Objective, budget: Budget, images, targets, index, step: int, seed: int
) -> dict[str, float]:
    x = images[index]
    y = measure(objective.student, x, seed=seed, indices=index)
    batch_targets = targets and TeacherTargets(targets.x[index], targets.gradient[index])
    loss, terms, x_hat = objective(state.preconditioner, x, y, batch_targets, step)
    rate = state.optimizer.param_groups[0]["lr"]
    norm = _update(state, budget, loss, step)
    _schedule(state, budget, loss.item(), step)
    psnr = metrics.psnr(x_hat, x).mean().item()
    return {"loss": loss.item(), **terms, "psnr": psnr, "learning_rate": rate, "gradient_norm": norm}


def _update(state: _State, budget: Budget, loss: torch.Tensor, step: int) -> float:
    """One optimiser step on P; returns the gradient norm before clipping. What is not finite is refused."""
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = list(state.preconditioner.parameters())
    norm = torch.nn.utils.clip_grad_norm_(parameters, budget.clip or float("inf"))
    if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
        raise InputError(f"training: loss or gradient is not finite at step {step + 1}; lower the learning rate or set clip")
    state.optimizer.step()
    if not all(bool(torch.isfinite(p).all()) for p in parameters):
        raise InputError(f"training: P is not finite after step {step + 1}; lower the learning rate")
    return norm.item()


def _prepare(preconditioner: Preconditioner, budget: Budget) -> _State:
    parameters = [p for p in preconditioner.parameters() if p.requires_grad]
    require(len(parameters) > 0, "preconditioner", type(preconditioner).__name__, "one with trainable parameters")
    makers = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimizer = makers[budget.optimizer](parameters, lr=budget.learning_rate, weight_decay=budget.weight_decay)
    if budget.schedule == "plateau":
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=budget.factor, patience=budget.patience)
    elif budget.schedule == "cosine":
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget.steps)
    else:
        scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    return _State(preconditioner, optimizer, scheduler)


def _schedule(state: _State, budget: Budget, loss: float, step: int) -> None:
    if budget.schedule != "plateau":
        state.scheduler.step()
    elif (step + 1) % budget.window == 0:
        recent = [record["loss"] for record in state.history[-(budget.window - 1) :]] if budget.window > 1 else []
        state.scheduler.step(sum([*recent, loss]) / (len(recent) + 1))


def _check(student, teacher, images, weights: LossWeights) -> None:
    require_images("images", images)
    require(
        student is not teacher, "teacher", "the student's own object", "a separate physics object (deepinv physics hold state)"
    )
    wanted = [name for name in ("imitation", "gradient", "convergence") if getattr(weights, name) > 0]
    require(not wanted or teacher is not None, "teacher", None, f"a physics object: the losses {', '.join(wanted)} need it")
    for name, physics in (("student", student), ("teacher", teacher)):
        size = declared_size(physics) or tuple(images.shape[1:])
        require(size == tuple(images.shape[1:]), f"{name}.img_size", size, f"that of the images, {tuple(images.shape[1:])}")


def _key(solver, preconditioner, student, teacher, images, weights, budget, stepsize, teacher_stepsize, seed) -> str:
    """Ties a checkpoint to everything that shapes the run, the starting preconditioner included."""
    parts = [teacher_key(solver, student, images, stepsize, seed), asdict(weights), asdict(budget), teacher_stepsize]
    if teacher is not None:
        parts.append(teacher_key(solver, teacher, images, teacher_stepsize, seed))
    return files.sha256_json([*parts, files.sha256_tensors(preconditioner.state_dict())])
