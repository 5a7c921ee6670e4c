r"""Scaled gradient projection: what is learned proposes a step, a descent condition disposes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from deepinv.physics import LinearPhysics

from ..adjoint import Measurements, sizes
from ..checks import (
    FOREIGN,
    plain_fields,
    refuse_foreign,
    require,
    require_choice,
    require_flag,
    require_int,
    require_kind,
    require_number,
    require_same_shape,
)
from ..physics import lipschitz
from ..priors import Prox
from . import loop
from .fista import first_iterate
from .proximal import STARTS, PreconditionerLike, acting, trained_of

Steps = Callable[[torch.Tensor, torch.Tensor, int], "float | torch.Tensor"]
ROUNDING = 8.0  # units in the last place of F that a descent may miss
FAR = 1e30  # F never grows, so that nothing has to be stopped on the way
TRIALS = 60  # of the descent condition in an iteration, at most


@dataclass(frozen=True)
class SGP:
    r"""Minimise :math:`F(x)=\tfrac12\|Hx-y\|_2^2+\lambda\,\psi(x)` with learned steps, or learned
    directions, that cannot do harm.

    Iteration k asks what was learned for a proposal :math:`\tilde x`, and takes, image by image,

    .. math::
        \tilde x&=\mathrm{prox}_{D_k\lambda\psi}\big(x-D_kP\nabla g(x)\big),\qquad
        z_1=T(\tilde x)-x,\quad z_2=T(x)-x,\quad
        T(v)=\mathrm{prox}_{\lambda\psi/L}\big(v-\tfrac1L\nabla g(v)\big)\\
        z&=\gamma_1z_1+(1-\gamma_1)z_2\ \text{ if }
        \gamma_1\|z_1\|>\alpha(1-\gamma_1)\|z_2\|,\ \text{else } z_2\\
        x&\leftarrow x+\gamma_2z,\ \gamma_2
        \text{ the first of }1,\eta_2,\eta_2^2,\dots\text{ with}\\
        &\quad F(x+\gamma_2z)\le F(x)+\beta\gamma_2\Delta,\qquad
        \Delta=\langle\nabla g(x),z\rangle+\lambda\psi(x+z)-\lambda\psi(x)<0 .

    Every refusal multiplies :math:`\gamma_1`, 1 at first, by :math:`\eta_1`. An image for which
    :math:`z_2` was taken is never proposed anything again; it goes on by steps of 1/L (ISTA), and
    so it converges, whatever was learned. Readings, where the source leaves open what is meant: the
    condition is on F, with the proximity operator's own :math:`\Delta` (it prints the one of a
    projection, on g alone); a z that is no descent direction, is not finite or is refused 60 times
    counts as :math:`z_2`; lengths below 0 count as 0.

    With ``scheme="scaled"`` there is neither :math:`z_1` nor :math:`\gamma_1`:
    :math:`z=\mathrm{prox}_{D_k\lambda\psi}(x-D_k\nabla g(x))-x`, where :math:`LD_k` is cut to
    :math:`[1/\delta_k,\delta_k]`, :math:`\delta_k^2=1+\delta/k^2`, so that
    :math:`\sum_k(\delta_k^2-1)` is finite.

    Args:
        prior: :math:`\lambda\psi`, a deepinv prior by its proximity operator, which for a diagonal
            :math:`D_k` must be separable, as :math:`\ell_1` is.
        iterations: K >= 1.
        start: as of :class:`FISTA`.
        alpha: in ]0, 1].
        beta: in ]0, 1[.
        eta_1: in ]0, 1[.
        eta_2: in ]0, 1[.
        scheme: ``relaxed`` or ``scaled``.
        delta: of ``scaled``, >= 0.

    Source: "Accelerating Optimization Algorithms With Dynamic Parameter Selections Using CNNs"
    (arXiv 1902.02449): ``scaled`` is its Algorithm 1, ``relaxed`` Algorithms 3 and 4. It states no
    value of alpha, beta, eta_1, eta_2 and delta; these are ours. The condition: S. Bonettini, I.
    Loris, F. Porta and M. Prato, "Variable metric inexact line-search-based methods for nonsmooth
    optimization", SIAM J. Optim. 26(2), 2016.
    """

    prior: Prox
    iterations: int = 20
    start: Any = "zero"
    alpha: float = 0.5
    beta: float = 0.1
    eta_1: float = 0.5
    eta_2: float = 0.5
    scheme: str = "relaxed"
    delta: float = 100.0

    def __post_init__(self):
        plain_fields(self)
        require_kind("prior", self.prior, Prox)
        require_int("iterations", self.iterations, 1)
        if not callable(self.start):
            require_choice("start", self.start, STARTS)
        require_number("alpha", self.alpha, 0, 1, open_low=True)
        for name in ("beta", "eta_1", "eta_2"):
            value = require_number(name, getattr(self, name), 0, 1, open_low=True)
            require(value < 1, name, value, "a number in ]0, 1[")
        require_choice("scheme", self.scheme, ("relaxed", "scaled"))
        require_number("delta", self.delta, 0)

    def __call__(
        self,
        y: Measurements,
        physics: LinearPhysics,
        *,
        steps: Steps | None = None,
        preconditioner: PreconditionerLike | None = None,
        history: bool = False,
        iterates: bool = False,
        observe: loop.Observer | None = None,
    ) -> loop.Result:
        r"""Reconstruct images from measurements ``y``.

        Args:
            y: measurements as ``physics`` makes them.
            physics: a deepinv linear operator H.
            steps: ``steps(x, gradient, k)`` -> :math:`D_k`: a number, one for each image (B,) or
                (B, 1, 1, 1), or one for each entry (B, C, H, W), or the
                :class:`~dipa.training.Fit` of them; None is 1/L.
            preconditioner: P, or the :class:`~dipa.training.Fit` of one; not of ``scaled``. With
                neither, every step is of 1/L.
            history: record F, the share of images whose proposal was taken, the mean of
                :math:`\gamma_1` and :math:`\gamma_2`, and applications of H and its adjoint so far.
            iterates: keep every iterate.
            observe: is called with the :class:`~dipa.solvers.sgp.Relaxed` state at the start and
                after every iteration.

        Returns:
            :class:`~dipa.solvers.Result`.

        Raises:
            InputError: measurements ``physics`` cannot use; proposals of another shape.
        """
        preconditioner, steps = trained_of(preconditioner), trained_of(steps)
        for name, part in (("steps", steps), ("preconditioner", preconditioner)):
            require(part is None or callable(part), name, part, "None, or a callable")
        scaled = self.scheme == "scaled"
        allowed = "None with scheme 'scaled', whose D_k is diagonal"
        require(not (scaled and preconditioner), "preconditioner", "one", allowed)
        start = first_iterate(self.start, y, physics)
        norm = lipschitz(physics, tuple(start.shape[1:]), start)
        require(norm > 0, "physics", f"L = {norm:g}", "an operator that is not zero")
        scheme = ScaledGradient(
            self, y, physics, start, norm, steps, acting(preconditioner, physics)
        )
        history, iterates = require_flag("history", history), require_flag("iterates", iterates)
        observers = [observer for observer in (_record if history else None, observe) if observer]
        stop = loop.Stop(self.iterations, bound=FAR, growth=FAR)
        with torch.no_grad():
            return loop.run(scheme, stop, observe=observers, keep_iterates=iterates)


@dataclass(frozen=True)
class Point:
    """An iterate with what is known there: data gradient, g and the weighted prior, (B,) each."""

    x: torch.Tensor
    gradient: torch.Tensor
    fidelity: torch.Tensor
    penalty: torch.Tensor

    @property
    def objective(self) -> torch.Tensor:
        """F, (B,)."""
        return self.fidelity + self.penalty


@dataclass(frozen=True)
class Relaxed(loop.State):
    r"""A state of :class:`SGP`, with numbers image by image.

    Attributes:
        point: :math:`x^k` with F and its gradient.
        weight: :math:`\gamma_1` of the next iteration, (B, 1, 1, 1).
        proposed: whether the proposal was taken in iteration k; where not, there is none any more.
        calls: applications of H and its adjoint so far.
    """

    point: Point | None = None
    weight: torch.Tensor | None = None
    proposed: torch.Tensor | None = None
    calls: int = 0


@dataclass(frozen=True)
class ScaledGradient:
    """The scheme of :class:`SGP` on one problem: a :class:`~dipa.solvers.loop.Scheme`."""

    solver: SGP
    y: Measurements
    physics: LinearPhysics
    start: torch.Tensor
    norm: float
    steps: Steps | None
    preconditioner: PreconditionerLike | None

    def init(self) -> Relaxed:
        """The start."""
        x, ones = self.start, self.start.new_ones(len(self.start), 1, 1, 1)
        learned = self.steps is not None or self.preconditioner is not None
        proposed = torch.full_like(ones, float(learned)).bool()
        return Relaxed(0, x, x, point=self._point(x), weight=ones, proposed=proposed, calls=2)

    def step(self, state: loop.State) -> Relaxed:
        """One iteration."""
        before = cast(Relaxed, state)
        point, weight, proposed = (
            cast(Any, part) for part in (before.point, before.weight, before.proposed)
        )
        k, calls = before.k + 1, before.calls
        plain = z = self._plain(point) - point.x
        if bool(proposed.any()):
            z, proposed = self._direction(point, plain, weight, proposed, k)
            calls += 2 * (self.solver.scheme == "relaxed")
        length, refusals, fine = self._descent(point, z)
        if not bool((fine | ~proposed).all()):
            proposed = proposed & fine
            z = torch.where(proposed, z, plain)
            length, refusals, _ = self._descent(point, z)
            calls += 1
        x = point.x + length * z
        return Relaxed(
            *(k, x, before.x, point.x, point.gradient, None, length),
            point=self._point(x),
            weight=weight * self.solver.eta_1**refusals,
            proposed=proposed,
            calls=calls + 3,
        )

    def _point(self, x: torch.Tensor) -> Point:
        residual = self.physics.A(x) - self.y
        penalty = self.solver.prior.weight * self._fn(x)
        return Point(x, self.physics.A_adjoint(residual), sizes(residual).square() / 2, penalty)

    def _fn(self, x: torch.Tensor) -> torch.Tensor:
        return self.solver.prior.prior.fn(x).reshape(len(x))

    def _plain(self, point: Point) -> torch.Tensor:
        return self._step(point, point.gradient, 1 / self.norm)

    def _step(self, point: Point, direction: torch.Tensor, length: Any) -> torch.Tensor:
        return self.solver.prior.step(point.x, direction, length)

    def _direction(
        self,
        point: Point,
        plain: torch.Tensor,
        weight: torch.Tensor,
        asked: torch.Tensor,
        k: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """z, and for which images what was learned has a part in it."""
        lengths = self._lengths(point, k)
        if self.solver.scheme == "scaled":
            return self._step(point, point.gradient, lengths) - point.x, asked
        proposal = self._step(point, self._preconditioned(point, k), lengths)
        wild = self._plain(self._point(proposal)) - point.x
        first, second = (_column(sizes(part)) for part in (wild, plain))
        taken = asked & (weight * first > self.solver.alpha * (1 - weight) * second)
        return torch.where(taken, weight * wild + (1 - weight) * plain, plain), taken

    def _lengths(self, point: Point, k: int) -> torch.Tensor:
        """D_k as (B, 1, 1, 1) or (B, C, H, W)."""
        x, shape = point.x, tuple(point.x.shape)
        given = 1 / self.norm if self.steps is None else self.steps(x, point.gradient, k)
        lengths = torch.as_tensor(given, dtype=x.dtype, device=x.device)
        lengths = lengths.expand(len(x)) if lengths.ndim == 0 else lengths
        lengths = _column(lengths) if lengths.ndim == 1 else lengths
        right = tuple(lengths.shape) in (shape, (len(x), 1, 1, 1))
        allowed = f"a number, ({len(x)},), ({len(x)}, 1, 1, 1) or {shape}"
        require(right, "steps", tuple(lengths.shape), allowed)
        if self.solver.scheme == "relaxed":
            return lengths.clamp_min(0)
        bound = (1 + self.solver.delta / k**2) ** 0.5
        cut = (self.norm * lengths.nan_to_num(nan=1.0)).clamp(1 / bound, bound)
        return cut / self.norm

    def _preconditioned(self, point: Point, k: int) -> torch.Tensor:
        P, gradient = self.preconditioner, point.gradient
        if P is None:
            return gradient
        try:
            direction = P(gradient, point.x, k)
        except FOREIGN as error:
            got = f"one that fails on images {tuple(gradient.shape)} at k = {k}"
            refuse_foreign(error, "preconditioner", got, "one that can take these")
        require_same_shape("preconditioner", direction, gradient)
        return direction

    def _descent(
        self, point: Point, z: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        r""":math:`\gamma_2`, how often it was refused, and whether it was found, (B, 1, 1, 1)
        each.
        """
        settings, weight = self.solver, self.solver.prior.weight
        slope = (point.gradient * z).flatten(1).sum(dim=1)
        curved = sizes(self.physics.A(z)).square()
        decrease = slope + weight * self._fn(point.x + z) - point.penalty
        miss = ROUNDING * torch.finfo(z.dtype).eps * point.objective
        length, refusals = torch.ones_like(slope), torch.zeros_like(slope)
        for _ in range(TRIALS):
            penalty = weight * self._fn(point.x + _column(length) * z)
            change = length * slope + length.square() / 2 * curved + penalty - point.penalty
            refused = ~(change <= settings.beta * length * decrease + miss)
            if not bool(refused.any()):
                break
            length = torch.where(refused, length * settings.eta_2, length)
            refusals = refusals + refused
        fine = (decrease <= 0) & (refusals < TRIALS)
        return _column(length), _column(refusals), _column(fine)


def _column(numbers: torch.Tensor) -> torch.Tensor:
    """(B,) as (B, 1, 1, 1)."""
    return numbers.reshape(-1, 1, 1, 1)


def _record(state: loop.State) -> dict[str, Any]:
    now = cast(Any, state)
    means = {
        "objective": now.point.objective,
        "proposed": now.proposed,
        "weight": now.weight,
        "stepsize": now.stepsize,
    }
    record = {name: part.float().mean().item() for name, part in means.items() if part is not None}
    return {"k": now.k, **record, "calls": now.calls}
