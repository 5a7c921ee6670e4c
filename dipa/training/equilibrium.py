r"""Train at the equilibrium of a solver: what is learned is right for any number of iterations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .. import losses, metrics
from ..cache import Identity
from ..checks import (
    require,
    require_flag,
    require_images,
    require_int,
    require_kind,
    require_new_file,
    require_number,
)
from ..gathered import Images, images_of
from ..identity import describe, describe_code, describe_physics
from ..operators.measure import measure
from ..physics import require_takes, warn_range
from ..preconditioners import trust
from ..preconditioners.base import Preconditioner
from ..settings import Budget
from ..solvers import FISTA, State, at_equilibrium, equilibrium
from ..solvers.fista import first_iterate
from ..solvers.proximal import PreconditionerLike, trained_of
from ..solvers.setting import setting
from .loop import Fit, Record, Training

LINEAR = 1000  # iterations of the linear system of an exact gradient, at most


def train_equilibrium(
    solver: FISTA,
    preconditioner: nn.Module | None,
    physics: LinearPhysics,
    images: Images,
    *,
    stepsize: float | str = "1/L",
    tail: int | None = 1,
    restart: bool = True,
    tolerance: float = 1e-4,
    iterations: int = 200,
    budget: Budget | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    report: Callable[[Record], None] | None = None,
) -> Fit:
    r"""Train P, and what else ``solver`` holds that has parameters, where its iteration ends:

    .. math::
        \min_\theta\ \mathbb E_x\,\|x_*(\theta)-x\|_2^2\qquad\text{with}\qquad
        x_*=T_\theta(x_*),\quad T_\theta(x)=\mathrm{prior}\big(x-\alpha P(H^\top(Hx-y),x,1)\big).

    A training step runs T for a batch until it stands still, and takes the gradient there
    (:func:`~dipa.solvers.at_equilibrium`). Every image keeps its equilibrium: the next time it is
    drawn, T, which has changed a little, starts from there.

    Args:
        solver: prior and start; ``momentum`` must be ``none`` and ``prior_decay`` 0, so that all
            iterations are the same. Trained are a prior that is a module, and a denoiser, where
            their parameters require gradients.
        preconditioner: P, which is told k = 1 throughout, or None.
        physics: H.
        images: clean images (N, C, H, W) in [0, 1].
        stepsize: a number or ``"1/L"``.
        tail: applications of T that the gradient goes through, 1 for Jacobian-free
            backpropagation; None for the exact gradient, which needs a T that contracts.
        restart: begin where the image ended before; else at the solver's start.
        tolerance: an equilibrium, and the linear system of an exact gradient, is found when no
            image changes by more than this share.
        iterations: the most a step takes to find it; later steps go on from there.
        budget: steps, optimiser, schedule.
        seed: of order and measurement noise.
        checkpoint: a file to save to and resume from, the kept equilibria included: a resumed run
            ends in the same tensors.
        progress: show a bar.
        report: called with each history record.

    Returns:
        :class:`Fit`: ``trained`` is P, or the prior (its denoiser) where there is no P; all are
        trained in place. The history tells, for every step, the ``iterations`` it took and the
        largest ``contraction`` that was measured, where it took more than one.

    Raises:
        InputError: a solver whose iterations differ from one another, nothing to train, arguments
            that do not fit together; a run that diverges; with ``tail=None``, a T that does not
            contract.

    Source: L. Davy, L. Briceno-Arias and N. Pustelnik, "Restarted contractive operators to learn at
    equilibrium", 2025. Its abstract alone is public: that a restart keeps an equilibrium for every
    image, and that the tail is applied to it, are our readings.
    """
    require_kind("solver", solver, FISTA)
    same, decay = "every iteration must be the same operator", solver.prior_decay
    require(solver.momentum == "none", "solver.momentum", solver.momentum, f"none: {same}")
    require(decay == 0, "solver.prior_decay", decay, f"0: {same}")
    budget = Budget() if budget is None else budget
    require_kind("budget", budget, Budget)
    tail = None if tail is None else require_int("tail", tail, 1)
    restart, progress = require_flag("restart", restart), require_flag("progress", progress)
    tolerance = float(require_number("tolerance", tolerance, 0, open_low=True))
    iterations, seed = require_int("iterations", iterations, 1), require_int("seed", seed, 0)
    file = require_new_file("checkpoint", checkpoint)
    images = images_of("images", images)
    require_images("images", images)
    require_takes("physics", physics, images)
    warn_range("images", images, physics)
    P = trained_of(preconditioner)
    alpha = solver.stepsize(stepsize, physics, tuple(images.shape[1:]), images)
    if isinstance(P, Preconditioner):
        P.setting = {}
    learned = _Learned(_modules(solver, P), images)
    run = _Run(solver, P, physics, images, alpha, tail, restart, tolerance, iterations, seed)
    how = [asdict(budget), seed, solver.describe(), stepsize, tail, restart, tolerance, iterations]
    training = Training.start(
        learned,
        budget,
        name="what the solver holds",
        what="at equilibrium",
        identity=_identity(learned, physics, images, how) if file else {},
        checkpoint=file,
    )
    learned.train()
    objective = lambda index, step: run(learned, index)  # noqa: E731
    training.run(objective, count=len(images), seed=seed, progress=progress, report=report)
    learned.eval()
    if isinstance(P, Preconditioner):
        P.setting = _setting(solver, P, physics, images, cast(float, alpha), seed)
    record = {
        "budget": asdict(budget),
        "seed": seed,
        "images": len(images),
        "tail": tail,
        "restart": restart,
        "tolerance": tolerance,
        "training_seconds": round(training.seconds, 2),
    }
    return Fit(next(iter(learned.parts)), training.history, record)


def _setting(
    solver: FISTA,
    P: Preconditioner,
    physics: LinearPhysics,
    images: torch.Tensor,
    alpha: float,
    seed: int,
) -> dict[str, Any]:
    """What travels with P: all but the number of iterations, which it is not made for."""
    made_in = setting(solver, physics, alpha, images)
    made_in.pop("iterations")
    return made_in | trust.measured(P, physics, images, alpha, seed)


def _modules(solver: FISTA, preconditioner: PreconditionerLike | None) -> list[nn.Module]:
    """P, and the prior or its denoiser, as far as they have something to train."""
    prior: Any = solver.prior
    held = prior if isinstance(prior, nn.Module) else getattr(prior, "denoiser", None)
    parts = [part for part in (preconditioner, held) if isinstance(part, nn.Module)]
    found = [part for part in parts if any(p.requires_grad for p in part.parameters())]
    allowed = "a preconditioner, prior or denoiser with parameters that require gradients"
    require(bool(found), "preconditioner", preconditioner, allowed)
    return found


class _Learned(nn.Module):
    """What is trained, with the equilibrium of every image: so a checkpoint holds both."""

    def __init__(self, parts: list[nn.Module], images: torch.Tensor):
        super().__init__()
        self.parts = nn.ModuleList(parts)
        self.kept: torch.Tensor
        self.known: torch.Tensor
        self.register_buffer("kept", torch.zeros_like(images))
        self.register_buffer("known", images.new_zeros(len(images), dtype=torch.bool))


@dataclass(frozen=True)
class _Run:
    """One training step."""

    solver: FISTA
    P: Any
    physics: LinearPhysics
    images: torch.Tensor
    stepsize: Any
    tail: int | None
    restart: bool
    tolerance: float
    iterations: int
    seed: int

    def __call__(self, learned: _Learned, index: torch.Tensor) -> tuple[torch.Tensor, Record]:
        x = self.images[index]
        y = measure(self.physics, x, seed=self.seed, indices=index)
        start = first_iterate(self.solver.start, y, self.physics)
        self.solver.check(start, self.P)
        if self.restart:
            known = learned.known[index].reshape(-1, 1, 1, 1)
            start = torch.where(known, learned.kept[index], start)
        scheme = self.solver.scheme(y, self.physics, start, self.P, self.stepsize)

        def operator(point: torch.Tensor) -> torch.Tensor:
            return scheme.step(State(0, point, point)).x

        found = equilibrium(operator, start, tolerance=self.tolerance, iterations=self.iterations)
        require(found.status != "diverged", "stepsize", self.stepsize, f"less: {found.message}")
        learned.kept[index], learned.known[index] = found.x, True
        x_hat = at_equilibrium(
            operator, found.x, tail=self.tail, tolerance=self.tolerance, iterations=LINEAR
        )
        loss = losses.supervised(x_hat, x).mean()
        psnr = metrics.psnr(x_hat.detach(), x).mean().item()
        record = {"supervised": loss.item(), "psnr": psnr, "iterations": found.iterations}
        measured = found.contraction[~found.contraction.isnan()]
        return loss, record | ({"contraction": measured.amax().item()} if len(measured) else {})


def _identity(
    learned: _Learned, physics: LinearPhysics, images: torch.Tensor, how: list[Any]
) -> Identity:
    """Ties a checkpoint to everything that shapes the run."""
    record = {
        "what the solver holds": describe(learned),
        "images": describe(images),
        "budget, seed or settings": describe(how),
    }
    return {"dipa, torch or deepinv": describe_code()} | describe_physics(physics, images) | record
