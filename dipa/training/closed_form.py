"""Steps in closed form: the parameters of an iteration by least squares on the iterates themselves,
no training loop.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from deepinv.physics import LinearPhysics

from .. import metrics, paired
from ..checks import (
    InputError,
    in_a_row,
    plain_value,
    require,
    require_images,
    require_int,
    require_kind,
    require_number,
)
from ..gathered import Images, images_of
from ..operators.measure import measure
from ..physics import require_adjoint, require_takes, warn_range
from ..preconditioners import trust
from ..preconditioners.per_iteration import PerIteration
from ..priors import PnP
from ..solvers import FISTA, Result
from ..solvers.loop import State
from ..solvers.proximal import acting
from ..solvers.setting import of_family, setting
from .doors import require_repeats, require_wide
from .family import Family
from .loop import Fit, Record
from .pairs import rows_of
from .validation import held_out


def fit_steps(
    preconditioner: PerIteration,
    solver: FISTA,
    physics: LinearPhysics | Sequence[LinearPhysics],
    images: Images,
    *,
    stepsize: float | str = "1/L",
    regularization: float | Sequence[float] = 1e-6,
    validation: float = 0.1,
    sweeps: int = 4,
    batch_size: int = 64,
    seed: int = 0,
) -> Fit:
    r"""Fit ``preconditioner`` in place, by least squares on the solver's own run from measurements
    of clean ``images``.

    With parameters for every iteration, one iteration after the other: the solver runs with those
    fitted so far, and at iteration k

    .. math::
        p_k=\arg\min_p\sum_i\big\|z_i^k-\alpha P_p\nabla g(z_i^k)-x_i\big\|_2^2
        +\lambda\|\alpha p\|_2^2 .

    With one set for all iterations (K = 1) the sum goes over the iterations too. The states depend
    on P then, so that this is done ``sweeps`` times: each adds the states of a run with the P found
    so far to those of the runs before. The P whose run ended nearest to the images is kept, the one
    given among them.

    What is fitted is the image *before* the denoiser: that is linear in p, so it has a closed form,
    and a denoiser made for little noise works best on what is already near the image. For the same
    reason it is no promise about what comes out of the denoiser.

    Args:
        preconditioner: learned steps of every iteration: scalars, kernels, weights of pixels,
            matrices, filters or :class:`~dipa.preconditioners.CombinedSteps`. Parameters of
            iterations that the solver does not run are those of its last.
        solver: what runs. Momentum, start and prior belong to what is fitted.
        physics: the operator, with the noise that measurements will have; one whose parameters
            have a row for every image shows each to its own. Or several of one kind
            (masks, blurs), each of which sees all images. P then belongs to none of them, and
            serves others of that kind.
        images: clean images (N, C, H, W) in [0, 1], all run at once; the prior takes
            ``batch_size`` of them at a time; a tensor, or an array,
            list, ``Dataset``, ``DataLoader`` or :class:`~dipa.data.ImageSet` of them.
        stepsize: :math:`\alpha`, a positive number or ``"1/L"`` (the one for several operators).
            With the latter, P does not depend
            on the units of the operator.
        regularization: :math:`\lambda` over the mean of the diagonal of the normal equations, >= 0
            (for a filter: over the mean power of a frequency; of a radial filter it also holds
            neighbouring knots together). Of several, every iteration, or sweep, has the one that
            is best on images held out: steps with many numbers, such as matrices, learn a few
            thousand images by heart otherwise.
        validation: share of the images that are held out where there are several, in ]0, 1/2].
        sweeps: of one set for all iterations, >= 1.
        batch_size: of the prior.
        seed: of the measurement noise.

    Returns:
        :class:`~dipa.training.Fit`; its history has one record for each iteration, or each sweep
        (step 0 is the P given): ``loss``, the mean squared error before the prior (of sweeps, at
        the end), and ``psnr``.

    Raises:
        InputError: a preconditioner that has no closed form; images of another size than its
            filter's; several regularizations where images have operators of their own; a run that
            diverges.
    """
    began = time.monotonic()
    kind = type(preconditioner).__name__
    known = (
        isinstance(preconditioner, PerIteration)
        and type(preconditioner).normal_equations is not PerIteration.normal_equations
    )
    allowed = "learned steps of every iteration, with normal_equations"
    require(known, "preconditioner", kind, allowed)
    require_kind("solver", solver, FISTA)
    images = images_of("images", images)
    require_images("images", images)
    require_wide(images)
    regularizations = _regularizations(regularization)
    validation = float(require_number("validation", validation, 0, 0.5, open_low=True))
    sweeps = require_int("sweeps", sweeps, 1)
    batch_size, seed = require_int("batch_size", batch_size, 1), require_int("seed", seed, 0)
    stepsize = plain_value(stepsize)
    require(
        not callable(stepsize),
        "stepsize",
        stepsize,
        "a positive number or '1/L': a search has none",
    )
    several = isinstance(physics, (list, tuple))
    one, count = cast(LinearPhysics, physics), len(images)
    rows, noise_alone = (1, False) if several else rows_of("physics", one, images, count)
    rows = 1 if noise_alone else rows  # all images are measured at once, each with its level
    seen, x, y, alpha = _measured(preconditioner, solver, physics, images, stepsize, seed, rows)
    require_repeats(solver, images)
    P, apart = acting(preconditioner, seen), len(x) if several or rows > 1 else 0
    held = torch.zeros(len(x), dtype=torch.bool)
    if len(regularizations) > 1:
        allowed = "one number where images have operators of their own"
        require(not apart, "regularization", regularization, allowed)
        require_int("images", count, 2)
        held[held_out(count, max(validation, 1 / count), seed)[1]] = True
    run = _Run(P, solver, seen, x, y, alpha, regularizations, held, batch_size, apart)
    with torch.no_grad():
        history = run.pooled(sweeps) if preconditioner.iterations == 1 else run.greedy()
    first = physics[0] if isinstance(physics, (list, tuple)) else run.physics
    made_in = setting(solver, first, run.alpha, images)
    if several or rows > 1:
        preconditioner.setting = of_family(made_in)
    else:
        told_apart = trust.measured(P, run.physics, images, run.alpha, seed)
        preconditioner.setting = made_in | told_apart
    record = {
        "stepsize": stepsize,
        "regularization": list(regularizations) if held.any() else regularizations[0],
        "seed": seed,
        "solver": solver.describe(),
        "images": len(images),
        "training_seconds": round(time.monotonic() - began, 2),
    }
    record |= {"validation": validation} if held.any() else {}
    record |= {"operators": len(physics)} if isinstance(physics, (list, tuple)) else {}
    record |= {"sweeps": sweeps} if run.P.iterations == 1 else {}
    return Fit(preconditioner, history, record)


def _regularizations(given: float | Sequence[float]) -> tuple[float, ...]:
    if not in_a_row(given):
        return (require_number("regularization", given, 0),)
    numbers = tuple(cast(Sequence[float], given))
    require(len(numbers) > 0, "regularization", given, "a number, or some")
    return tuple(require_number("regularization", number, 0) for number in numbers)


def _measured(
    preconditioner: PerIteration,
    solver: FISTA,
    physics: LinearPhysics | Sequence[LinearPhysics],
    images: torch.Tensor,
    stepsize: float | str,
    seed: int,
    rows: int,
) -> tuple[LinearPhysics, torch.Tensor, torch.Tensor, float]:
    """Operator, images, measurements and stepsize of the run; several operators are one, side by
    side, each with all images.
    """
    if not isinstance(physics, (list, tuple)):
        one = physics if rows == 1 else paired.of_images(physics, torch.arange(1), rows)
        solver.check(require_takes("physics", one, images, several=True), preconditioner)
        require_adjoint("physics", one, images)
        warn_range("images", images, physics)
        alpha = cast(float, solver.stepsize(stepsize, physics, tuple(images.shape[1:]), images))
        return physics, images, measure(physics, images, seed=seed), alpha
    allowed = "'1/L' for several operators: each has its own"
    require(stepsize == "1/L", "stepsize", stepsize, allowed)
    warn_range("images", images, *physics)
    family = Family(physics, images)
    solver.check(images, preconditioner)
    return family, images.repeat(len(physics), 1, 1, 1), family.measured(images, seed), 1.0


@dataclass(frozen=True)
class _Run:
    """The solver's run on the training images, and what is fitted while it runs."""

    P: PerIteration
    solver: FISTA
    physics: LinearPhysics
    x: torch.Tensor
    y: torch.Tensor
    alpha: float
    regularizations: tuple[float, ...]
    held: torch.Tensor  # which images are held out, to choose among several regularizations by
    batch_size: int
    apart: int = 0  # images in one set of normal equations, 0 for as many as the batch

    def greedy(self) -> list[Record]:
        """Each iteration's parameters when the run comes to it."""
        last = min(self.P.iterations, self.solver.iterations)

        def fitted(gradient: torch.Tensor, z: torch.Tensor, k: int) -> torch.Tensor:
            self._set(k - 1, *self._sums(gradient, z))
            return self.P.unchecked(gradient, z, k)

        result = self._solve(fitted, last)
        self._require_finite(result)
        self.P.steps[last:] = self.P.steps[last - 1]
        return result.history

    def pooled(self, sweeps: int) -> list[Record]:
        """One set of parameters from the states of all iterations, again and again."""
        history: list[Record] = []
        kept = self.P.steps.clone()
        sums: list[torch.Tensor] = []

        def seen(gradient: torch.Tensor, z: torch.Tensor, k: int) -> torch.Tensor:
            parts = self._sums(gradient, z)
            sums[:] = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
            return self.P.unchecked(gradient, z, k)

        for sweep in range(sweeps + 1):
            result = self._solve(seen, self.solver.iterations)
            if result.status == "diverged" and sweep:
                break
            self._require_finite(result)
            loss = (result.x - self.x).square().mean().item()
            if not history or loss < min(record["loss"] for record in history):
                kept = self.P.steps.clone()
            history.append({"step": sweep, "loss": loss, "psnr": result.history[-1]["psnr"]})
            self._set(0, *sums)
        self.P.steps.copy_(kept)
        return history

    def _sums(self, gradient: torch.Tensor, z: torch.Tensor) -> list[torch.Tensor]:
        """The normal equations of one iteration, and behind them those of the images held out."""
        uses = (~self.held, self.held) if self.held.any() else (slice(None),)
        sums = [self._of(gradient[images], z[images], self.x[images]) for images in uses]
        return [part for pair in sums for part in pair]

    def _of(self, gradient: torch.Tensor, z: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
        batches = zip(
            (z - x).split(self.apart or self.batch_size),
            (self.alpha * gradient).split(self.apart or self.batch_size),
            strict=True,
        )
        parts = [self.P.normal_equations(error, direction) for error, direction in batches]
        return [torch.stack(part).sum(dim=0) for part in zip(*parts, strict=True)]

    def _set(self, at: int, gram: torch.Tensor, right: torch.Tensor, *held: torch.Tensor) -> None:
        tried = [self.P.solution(gram, right, level) for level in self.regularizations]
        best = min(tried, key=lambda p: self.P.misfit(held[0], held[1], p)) if held else tried[0]
        self.P.steps[at] = best.to(self.P.steps)

    def _solve(self, called: Any, iterations: int) -> Result:
        solver = replace(
            self.solver,
            prior=cast(PnP, _InParts(self.solver.prior, self.batch_size)),
            iterations=iterations,
        )
        return solver(
            self.y,
            self.physics,
            preconditioner=called,
            stepsize=self.alpha,
            observe=self._observed,
        )

    def _observed(self, state: State) -> Record | None:
        if state.z is None or state.direction is None:
            return None
        before = state.z - self.alpha * state.direction
        return {
            "step": state.k,
            "loss": (before - self.x).square().mean().item(),
            "psnr": metrics.psnr(state.x, self.x).mean().item(),
        }

    def _require_finite(self, result: Result) -> None:
        if result.status == "diverged":
            raise InputError(f"stepsize: got {self.alpha:.4g}; the run {result.message}")


class _InParts:
    """A prior that takes a few images at a time."""

    def __init__(self, prior: Any, most: int):
        self.prior, self.most = prior, most

    def step(self, z: torch.Tensor, direction: torch.Tensor, stepsize: float) -> torch.Tensor:
        """The prior's own step, image by image the same."""
        parts = zip(z.split(self.most), direction.split(self.most), strict=True)
        return torch.cat([self.prior.step(*part, stepsize) for part in parts])
