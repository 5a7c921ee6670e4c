"""Preconditioned proximal gradient with momentum: the solver teacher and student share."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from deepinv.utils import TensorList

from .. import metrics
from ..adjoint import Measurements, parts, sizes
from ..checks import (
    foreign,
    plain_fields,
    require,
    require_choice,
    require_flag,
    require_images,
    require_int,
    require_number,
    require_tensor,
)
from ..physics import (
    declared_size,
    lipschitz,
    require_beside,
    require_operator,
    warn_measurements,
    warn_range,
)
from ..priors import PnP
from . import loop
from .proximal import (
    MOMENTA,
    STARTS,
    PreconditionerLike,
    ProximalGradient,
    Start,
    acting,
    least_squares,
    started,
    trained_of,
    weights,
)
from .safeguard import guard
from .searches import Search, Stepsize
from .setting import stepsize_of, warn_differences


@dataclass(frozen=True)
class FISTA:
    r"""Preconditioned plug-and-play FISTA.

    .. math::
        d^k = P(\nabla g(z^k), z^k, k), \qquad x^k = \mathrm{prior}(z^k-\alpha d^k), \qquad
        z^{k+1} = x^k+\beta_k(x^k-x^{k-1})

    Without a preconditioner, d is the gradient itself; with ``momentum="none"`` this is ISTA.

    With ``prior_decay`` :math:`\tau>0` the prior acts less in every iteration,
    :math:`x^k=v^k+k^{-\tau}(\mathrm{prior}(v^k)-v^k)` at :math:`v^k=z^k-\alpha d^k`. For
    :math:`\tau\le1` it still chooses among the images that explain the data (of convex functions
    this is Solodov's descent method), and a denoiser does not go on smoothing what P has put where
    H sees nothing.

    Args:
        prior: the step after the gradient, :class:`~dipa.priors.PnP`, or any object with ``step(z,
            direction, stepsize)``; its ``describe()``, where it has one, tells it apart in keys and
            records.
        iterations: K >= 1.
        momentum: ``none``, ``nesterov`` (the printed algorithm), ``chambolle_dossal``, ``deepinv``
            (what the authors' code ran); see :mod:`dipa.solvers.proximal`.
        start: ``zero``, ``adjoint``, ``scaled_adjoint``, ``pseudo_inverse`` or ``interpolated``,
            see :mod:`dipa.solvers.proximal`; or a callable ``start(y, physics)`` -> images.
        restart: iterations after which momentum starts again, 0 for never.
        tolerance: end as ``converged`` before K, once no image changes by more than this share of
            its norm; 0 for never.
        safeguard: ask a learned preconditioner, image by image, whether what was measured is of the
            kind that it was made of (:mod:`dipa.preconditioners.trust`), and leave it out for
            images that are not: they take plain steps of 1/L, with Nesterov's momentum where the
            run has none, and the whole prior in every iteration.
        prior_decay: the exponent :math:`\tau\ge0`; 0 is the papers' solver, 1 the largest with
            which a prior can still move an image as far as it wants to.

    Source: D2GP Algorithm 1; DIPA Eq. (4); ``prior_decay``: M. V. Solodov, "An explicit descent
    method for bilevel convex optimization", J. Convex Anal. 14(2), 2007, Sec. 2.
    """

    prior: PnP
    iterations: int = 20
    momentum: str = "nesterov"
    start: Start = "scaled_adjoint"
    restart: int = 0
    tolerance: float = 0.0
    safeguard: bool = True
    prior_decay: float = 0.0

    def __post_init__(self):
        plain_fields(self)
        kind = f"{type(self.prior).__module__}.{type(self.prior).__name__}"
        require(
            callable(getattr(self.prior, "step", None)),
            "prior",
            kind,
            "dipa.PnP(denoiser), dipa.RED(denoiser) or dipa.Prox(prior of deepinv)",
        )
        require_int("iterations", self.iterations, 1)
        require_choice("momentum", self.momentum, MOMENTA)
        if not callable(self.start):
            require_choice("start", self.start, STARTS)
        require_int("restart", self.restart, 0)
        require_number("tolerance", self.tolerance, 0)
        require_flag("safeguard", self.safeguard)
        require_number("prior_decay", self.prior_decay, 0)

    def __call__(
        self,
        y: Measurements,
        physics: LinearPhysics,
        *,
        preconditioner: PreconditionerLike | None = None,
        stepsize: float | str | Search | None = None,
        backward: int | None = 0,
        x_true: torch.Tensor | None = None,
        history: bool = False,
        iterates: bool = False,
        observe: loop.Observer | None = None,
    ) -> loop.Result:
        r"""Reconstruct images from measurements ``y``.

        Args:
            y: measurements as ``physics`` makes them, a tensor or (of stacked operators) several.
            physics: a deepinv linear operator H.
            preconditioner: ``P(gradient, iterate, k) -> direction`` with k from 1 to K, or the
                :class:`~dipa.training.Fit` of one; None is the identity. One that was made in
                another setting (stepsize, K, momentum, start, prior, operator) is one warning that
                names what differs.
            stepsize: :math:`\alpha>0`, ``"1/L"`` for :math:`1/\|H\|^2`, or a search such as
                :class:`~dipa.solvers.Armijo`; None is the stepsize that P was made with, without
                one ``"1/L"``.
            backward: how many of the last iterations can be differentiated: 0 leaves a
                reconstruction without a graph, None is all of them.
            x_true: ground truth (B, C, H, W) in [0, 1], adds ``psnr`` to the history. A range that
                is another by more than 5 percent, or measurements larger than ``physics`` makes of
                such images, is one warning.
            history: record residual, gradient norm, change and seconds of every iteration.
            iterates: keep every iterate.
            observe: is called with the :class:`~dipa.solvers.State` at the start and after every
                iteration: iterate, gradient, direction. A dictionary that it returns goes into the
                history.

        Returns:
            :class:`~dipa.solvers.Result`; a divergence is its ``status``.

        Raises:
            InputError: a stepsize that is neither positive nor ``"1/L"`` nor a search, or
                measurements ``physics`` cannot use.
        """
        preconditioner = trained_of(preconditioner)
        start = first_iterate(self.start, y, physics)
        self.check(start, preconditioner)
        scheme = self.scheme(y, physics, start, preconditioner, stepsize)
        guarded = (
            guard(preconditioner, physics, y, scheme.stepsize, start) if self.safeguard else None
        )
        warn_differences(preconditioner, self, physics, scheme.stepsize, start)
        backward = None if backward is None else require_int("backward", backward, 0)
        require(
            not backward or self.tolerance == 0,
            "tolerance",
            self.tolerance,
            "0 with backward: the last iterations must be known beforehand",
        )
        history, iterates = require_flag("history", history), require_flag("iterates", iterates)
        require(
            observe is None or callable(observe),
            "observe",
            observe,
            "None, or a callable observe(state)",
        )
        if x_true is not None:
            require_images("x_true", x_true, tuple(start.shape[1:]))
            require(
                len(x_true) == len(start),
                "x_true.shape",
                tuple(x_true.shape),
                f"{len(start)} images, as y",
            )
            require_beside("x_true", x_true, "y", y)
            warn_range("x_true", x_true, physics)
        warn_measurements(y, physics, tuple(start.shape[1:]))
        observers = [
            observer
            for observer in (_observer(y, physics, x_true) if history else None, observe)
            if observer
        ]
        stop = loop.Stop(self.iterations, self.tolerance)
        if guarded is not None:
            scheme = guarded.guarded(scheme, self.momentum, self.restart)
        result = loop.run(
            scheme, stop, backward=backward, observe=observers, keep_iterates=iterates
        )
        return result if guarded is None else guarded.told(result)

    def scheme(
        self,
        y: Measurements,
        physics: LinearPhysics,
        start: torch.Tensor,
        preconditioner: PreconditionerLike | None = None,
        stepsize: float | str | Search | None = None,
    ) -> ProximalGradient:
        """The scheme this solver runs on one problem, from ``start``; arguments as in a call."""
        stepsize = stepsize_of(preconditioner) if stepsize is None else stepsize
        return ProximalGradient(
            start,
            gradient=least_squares(physics, y),
            measure=physics.A,
            prior_step=self.prior.step,
            preconditioner=acting(preconditioner, physics),
            stepsize=self.stepsize(stepsize, physics, tuple(start.shape[1:]), start),
            momentum=weights(self.momentum, self.iterations, self.restart),
            prior_decay=float(self.prior_decay),
        )

    def stepsize(
        self,
        stepsize: float | str | Search,
        physics: LinearPhysics,
        img_size: tuple[int, ...],
        like: torch.Tensor | None = None,
    ) -> Stepsize | Search:
        """What a scheme steps by: a positive float is itself, ``"1/L"`` is one over
        :func:`lipschitz`, a search is itself.
        """
        if callable(stepsize):
            return stepsize
        if isinstance(stepsize, str) and stepsize == "1/L":
            norm = lipschitz(physics, img_size, like)
            require(
                0 < norm < math.inf,
                "stepsize",
                "1/L",
                f"a positive number: this operator has L = {norm:g}",
            )
            return 1.0 / norm
        require(
            not isinstance(stepsize, str),
            "stepsize",
            stepsize,
            "a positive number, '1/L' or a search",
        )
        return float(require_number("stepsize", stepsize, 0, open_low=True))

    def check(self, images: torch.Tensor, preconditioner: PreconditionerLike | None = None) -> None:
        """Ask prior and preconditioner, where they have a ``check``, whether they can work on
        iterates such as ``images``.
        """
        allowed = "None, or a callable P(gradient, iterate, k)"
        require(
            preconditioner is None or callable(preconditioner),
            "preconditioner",
            preconditioner,
            allowed,
        )
        for part in (self.prior, preconditioner):
            if callable(check := getattr(part, "check", None)):
                check(images)

    def describe(self) -> dict:
        """The solver as plain values (for cache keys and run folders); a prior without
        ``describe()`` is its type's name.
        """
        describe_prior = getattr(self.prior, "describe", None)
        prior = (
            describe_prior() if callable(describe_prior) else {"kind": type(self.prior).__name__}
        )
        record = {
            "prior": prior,
            "iterations": self.iterations,
            "momentum": self.momentum,
            "start": getattr(self.start, "__qualname__", self.start),
        }
        record |= {
            name: value
            for name in ("restart", "tolerance", "prior_decay")
            if (value := getattr(self, name))
        }
        return record if self.safeguard else record | {"safeguard": False}


def first_iterate(start: Start, y: Measurements, physics: LinearPhysics) -> torch.Tensor:
    """Where a run from ``start`` begins; measurements that the operator cannot use are refused."""
    require_operator("physics", physics)
    several = isinstance(y, TensorList) and len(y) > 0
    for part in y if several else (y,):
        _check_measurement(part, physics)
    kind = type(physics).__name__
    got = f"shape {_shapes(y)}, {parts(y)[0].dtype} on {parts(y)[0].device}"
    blamed = ("y", got, f"measurements of this {kind}")
    if callable(start):
        name = getattr(start, "__name__", type(start).__name__)
        blamed = ("start", name, f"start(y, physics) that gives images of this {kind}")
    with foreign(*blamed):
        x = started(start, y, physics)
        with torch.no_grad():
            expected = _shapes(physics.A(x))
    _check_shapes(_shapes(y), expected, tuple(x.shape[1:]), physics)
    require(
        x.is_floating_point(),
        "y.dtype",
        parts(y)[0].dtype,
        f"what this {kind} makes of real images: its adjoint must give them",
    )
    return x


def _check_measurement(y: torch.Tensor, physics: LinearPhysics) -> None:
    require_tensor("y", y, "a tensor of measurements")
    require(
        y.is_floating_point() or y.is_complex(),
        "y.dtype",
        y.dtype,
        "a floating-point type, real, or complex where the operator's measurements are",
    )
    require(bool(torch.isfinite(y).all()), "y", "NaN or infinite values", "finite values")
    require_beside("y", y, "physics", physics)
    allowed = "measurements of at least one image"
    require(y.ndim > 0 and len(y) > 0, "y.shape", tuple(y.shape), allowed)


def _shapes(y: Measurements) -> tuple[Any, ...]:
    """The shape of a measurement; of several tensors the shape of each."""
    whole = isinstance(y, torch.Tensor)
    return tuple(y.shape) if whole else tuple(tuple(part.shape) for part in parts(y))


def _check_shapes(
    got: tuple[Any, ...], expected: tuple[Any, ...], image: tuple[int, ...], physics: LinearPhysics
) -> None:
    """``image`` is the size the adjoint gives, ``made`` what the operator makes of such images."""
    kind, size = type(physics).__name__, declared_size(physics)
    require(
        got == expected, "y.shape", got, f"{expected}, what this {kind} makes of images {image}"
    )
    require(
        size in (None, image),
        "y.shape",
        got,
        f"measurements of images {size}; this {kind} takes these for images {image}",
    )


def _observer(
    y: Measurements, physics: LinearPhysics, x_true: torch.Tensor | None
) -> loop.Observer:
    """History records: norms are means over the batch, residual and change relative, seconds
    since the start.
    """
    began, scale = time.perf_counter(), sizes(y).clamp_min(1e-12)

    @torch.no_grad()
    def observe(state: loop.State) -> dict[str, Any]:
        x, residual = state.x, physics.A(state.x) - y
        record = {
            "k": state.k,
            "residual": (sizes(residual) / scale).mean().item(),
            "gradient_norm": physics.A_adjoint(residual).flatten(1).norm(dim=1).mean().item(),
            "change": ((x - state.previous).norm() / x.norm().clamp_min(1e-12)).item(),
            "seconds": time.perf_counter() - began,
        }
        return (
            record if x_true is None else record | {"psnr": metrics.psnr(x, x_true).mean().item()}
        )

    return observe
