"""Where the step of a reconstruction is taken: the preconditioned proximal gradient scheme with
momentum.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from deepinv.physics import LinearPhysics

from ..checks import FOREIGN, refuse_foreign, require, require_same_shape
from .loop import State
from .searches import Move, Search, Stepsize

PreconditionerLike = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True)
class ProximalGradient:
    r"""The scheme of every plug-and-play and RED run: a :class:`~dipa.solvers.loop.Scheme`.

    .. math::
        z^k=x^{k-1}+\beta_{k-1}(x^{k-1}-x^{k-2}),\qquad d^k=P(\nabla g(z^k), z^k, k),\qquad
        x^k=\mathrm{prior}(z^k-\alpha_k d^k)

    Args:
        start: :math:`x^0=z^1`.
        gradient: :math:`z\mapsto\nabla g(z)`.
        measure: :math:`v\mapsto Hv`, for searches.
        prior_step: the prior's ``step(z, direction, stepsize)``.
        preconditioner: P, or None for the identity.
        stepsize: :math:`\alpha`, or a search that chooses it in every iteration
            (:mod:`dipa.solvers.searches`).
        momentum: the weights :math:`\beta_1,\beta_2,\dots`, at least K - 1 of them.

    Raises:
        InputError: a part that fails, or gives no tensor of the iterate's shape, device and dtype.

    Source: D2GP Algorithm 1; DIPA Eq. (4).
    """

    start: torch.Tensor
    gradient: Callable[[torch.Tensor], torch.Tensor]
    measure: Callable[[torch.Tensor], torch.Tensor]
    prior_step: Callable[[torch.Tensor, torch.Tensor, Stepsize], torch.Tensor]
    preconditioner: PreconditionerLike | None
    stepsize: Stepsize | Search
    momentum: Sequence[float]

    def init(self) -> State:
        """The start."""
        return State(0, self.start, self.start)

    def step(self, state: State) -> State:
        """One iteration."""
        k, x, P = state.k + 1, state.x, self.preconditioner
        z = x if k == 1 else x + self.momentum[k - 2] * (x - state.previous)
        part = "physics"
        try:
            gradient = self.gradient(z)
            part = "preconditioner"
            direction = gradient if P is None else getattr(P, "unchecked", P)(gradient, z, k)
            if k == 1 or direction.shape != z.shape:
                require_direction(direction, z)
            part = "prior"
            x_next, stepsize = self._move(state, z, gradient, direction)
            if k == 1 or x_next.shape != z.shape:
                require_same_shape("prior", x_next, z)
        except FOREIGN as error:
            refuse_foreign(
                error,
                part,
                f"one that fails on images {tuple(z.shape)} at k = {k}",
                "one that can take these",
            )
        return State(k, x_next, x, z, gradient, direction, stepsize)

    def _move(self, state, z, gradient, direction) -> tuple[torch.Tensor, Stepsize]:
        if not callable(self.stepsize):
            return self.prior_step(z, direction, self.stepsize), self.stepsize
        take = lambda stepsize: self.prior_step(z, direction, stepsize)  # noqa: E731
        return self.stepsize(Move(state, z, gradient, direction, take, self.measure))


def trained_of(given: Any) -> Any:
    """The preconditioner that a :class:`~dipa.training.Fit` holds; anything else is itself."""
    return getattr(given, "trained", given)


Function = TypeVar("Function", bound=Callable[..., Any])


def takes_fit(function: Function) -> Function:
    """Let the argument ``preconditioner`` of a function be the :class:`~dipa.training.Fit` of
    one.
    """
    names = inspect.signature(function)

    @functools.wraps(function)
    def taking(*arguments: Any, **named: Any) -> Any:
        bound = names.bind_partial(*arguments, **named).arguments
        if "preconditioner" not in bound:
            return function(*arguments, **named)
        given = bound["preconditioner"]
        place = list(names.parameters).index("preconditioner")
        if place < len(arguments):
            changed = (*arguments[:place], trained_of(given), *arguments[place + 1 :])
            return function(*changed, **named)
        return function(*arguments, **{**named, "preconditioner": trained_of(given)})

    return cast(Function, taking)


def least_squares(
    physics: LinearPhysics, y: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    r""":math:`z\mapsto\nabla g(z)=H^\top(Hz-y)`, for measurements that are known to be the
    operator's. D2GP Eq. (1).
    """
    return lambda z: physics.A_adjoint(physics.A(z) - y)


def require_direction(direction: Any, z: torch.Tensor) -> None:
    """Refuse what a preconditioner returned unless it is as the iterate is: nothing broadcasts,
    no dtype changes on the way.
    """
    require_same_shape("preconditioner", direction, z)
    kept = torch.promote_types(direction.dtype, z.dtype) == z.dtype
    require(
        kept, "preconditioner", f"one that returns {direction.dtype}", f"{z.dtype}, as the iterate"
    )
