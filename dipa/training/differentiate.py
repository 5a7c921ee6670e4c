"""Ways to differentiate one solve: how far back the gradient of P goes, and what is kept for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..checks import plain_fields, require, require_choice, require_int
from ..preconditioners import Preconditioner
from ..preconditioners.per_iteration import PerIteration
from ..priors import DenoiserPrior
from ..solvers import FISTA
from .lean import lean, recomputed, straight_through

WAYS = ("unrolled", "checkpointed", "truncated", "jacobian_free", "restart", "straight_through")


@dataclass(frozen=True)
class Differentiation:
    r"""How the gradient of a loss at :math:`\hat x=x^K` with respect to P's parameters :math:`\theta` is computed.

    With :math:`s^k=F_\theta(s^{k-1},k)` one iteration on the state :math:`s=(x,z)`, and :math:`J^k` its Jacobian in s,
    the exact gradient is a sum over the iterations,

    .. math::
        \sum_{k=1}^{K}\partial_\theta F(s^{k-1},k)^\top\,(J^{k+1})^\top\cdots(J^{K})^\top\,\nabla\ell(\hat x).

    ``unrolled``
        All of it, by plain automatic differentiation: every feature map of the K iterations is kept.
    ``checkpointed``
        All of it, to the same bits, keeping the iterates and one bit per feature of a frozen DnCNN; other denoisers and
        nonlinear preconditioners are computed again in the backward pass. The default.
    ``truncated``
        The last ``tail`` terms of the sum; the iterations before run without gradient and keep nothing.
    ``jacobian_free``
        The last term alone: Jacobian-free backpropagation, at a fixed point the first term of the Neumann series.
    ``restart``
        Momentum starts again every ``tail`` iterations, so that ``tail`` of them are one operator of x alone, applied
        :math:`K/\mathrm{tail}` times; Jacobian-free backpropagation through its last application.
    ``straight_through``
        Every term, with the identity in the place of the denoiser's Jacobian in each :math:`J^k`: the denoiser, which is most
        of the cost, has no backward pass. Not in the papers; for a weak denoiser its Jacobian is close to the identity.

    ``restart`` trains with another momentum than the solver's, which then runs as it is.

    Args:
        way: one of the six.
        tail: iterations the gradient goes through, for ``truncated`` and ``restart``; at least 1, K or more is all, and
            for ``restart`` a divisor of K where it is less.

    Raises:
        InputError: another way, or a tail below 1. In training: a ``restart`` whose tail does not divide K; a way that would
            never train the first parameters of a P with parameters of its own for every iteration.

    Source: D2GP Algorithm 2 unrolls; Fung et al., "JFB: Jacobian-free backpropagation for implicit networks", 2022;
    restart: Davy, Briceno-Arias and Pustelnik, "Restarted contractive operators to learn at equilibrium", 2025 (its
    abstract; read as above).
    """

    way: str = "checkpointed"
    tail: int = 5

    def __post_init__(self):
        plain_fields(self)
        require_choice("differentiation.way", self.way, WAYS)
        require_int("differentiation.tail", self.tail, 1)

    @property
    def exact(self) -> bool:
        """Whether the gradient is that of the whole run."""
        return self.way in ("unrolled", "checkpointed")

    @property
    def leaner(self) -> str:
        """What to say to whom this way takes too much memory."""
        if self.way == "unrolled":
            return "differentiation.way 'checkpointed' gives the same gradient in a fraction of the memory"
        return "differentiation.way 'truncated' with a small tail keeps less" if self.way == "checkpointed" else ""

    def check(self, preconditioner: Preconditioner, iterations: int) -> None:
        """Refuse a preconditioner of which this way would never train some parameters, and a restart within the last tail."""
        every = self.backward is None or not isinstance(preconditioner, PerIteration)
        kind = type(preconditioner).__name__
        require(every, "differentiation.way", self.way, f"a way through all iterations for {kind}: each has its own")
        whole = self.way != "restart" or self.tail >= iterations or iterations % self.tail == 0
        allowed = f"for restart a divisor of the solver's {iterations} iterations, or at least as many"
        require(whole, "differentiation.tail", self.tail, allowed)

    def solver(self, solver: FISTA) -> FISTA:
        """The solver that is differentiated: the same iterates (but for ``restart``), a leaner prior."""
        if self.way == "unrolled":
            return solver
        restart = {"restart": self.tail} if self.way == "restart" else {}
        return replace(solver, prior=self._prior(solver.prior), **restart)

    def _prior(self, prior: Any) -> Any:
        """The prior with another backward pass."""
        known, kind = isinstance(prior, DenoiserPrior), type(prior).__name__
        if self.way == "straight_through":
            require(known, "differentiation.way", self.way, f"another way for {kind}, a prior that shows no denoiser")
            return replace(prior, denoiser=straight_through(prior.denoiser))
        return replace(prior, denoiser=lean(prior.denoiser)) if known else _Recomputed(prior)

    def direction(self, preconditioner: Preconditioner) -> Callable[..., torch.Tensor]:
        """P as it is called; one that is linear in the gradient keeps little anyway."""
        traits = getattr(preconditioner, "traits", None)
        kept = self.way == "unrolled" or (traits is not None and traits.linear)
        return preconditioner if kept else recomputed(preconditioner)

    @property
    def backward(self) -> int | None:
        """How many of the last iterations carry gradients; None for all."""
        if self.exact or self.way == "straight_through":
            return None
        return 1 if self.way == "jacobian_free" else self.tail


class _Recomputed:
    """A prior whose step is computed again in the backward pass."""

    def __init__(self, prior):
        self.step = recomputed(prior.step)
