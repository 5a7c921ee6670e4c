r"""Where the step of a reconstruction is taken: the preconditioned proximal gradient scheme, the
points :math:`x^0=z^1` it may start from, and the rules of its momentum, which give the weight
:math:`\beta_k` in :math:`z^{k+1}=x^k+\beta_k(x^k-x^{k-1})`, k = 1, 2, ...
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar, cast

import torch
from deepinv.optim.linear import least_squares as deepinv_least_squares
from deepinv.physics import LinearPhysics

from ..adjoint import sizes
from ..checks import FOREIGN, refuse_foreign, require, require_same_shape
from .loop import State
from .searches import Move, Search, Stepsize

PreconditionerLike = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


@dataclass(frozen=True)
class ProximalGradient:
    r"""The scheme of every plug-and-play and RED run: a :class:`~dipa.solvers.loop.Scheme`.

    .. math::
        z^k=x^{k-1}+\beta_{k-1}(x^{k-1}-x^{k-2}),\qquad d^k=P(\nabla g(z^k), z^k, k),\qquad
        v^k=z^k-\alpha_k d^k,\qquad x^k=v^k+k^{-\tau}\,(\mathrm{prior}(v^k)-v^k)

    Args:
        start: :math:`x^0=z^1`.
        gradient: :math:`z\mapsto\nabla g(z)`.
        measure: :math:`v\mapsto Hv`, for searches.
        prior_step: the prior's ``step(z, direction, stepsize)``.
        preconditioner: P, or None for the identity.
        stepsize: :math:`\alpha`, or a search that chooses it in every iteration
            (:mod:`dipa.solvers.searches`).
        momentum: the weights :math:`\beta_1,\beta_2,\dots`, at least K - 1 of them.
        prior_decay: :math:`\tau\ge 0`, one number, or one for each image (B, 1, 1, 1).

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
    momentum: Sequence[float | torch.Tensor]
    prior_decay: float | torch.Tensor = 0.0

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
        take = partial(self._take, z, direction, state.k + 1)
        if not callable(self.stepsize):
            return take(self.stepsize), self.stepsize
        return self.stepsize(Move(state, z, gradient, direction, take, self.measure))

    def _take(self, z, direction, k: int, stepsize: Stepsize) -> torch.Tensor:
        x = self.prior_step(z, direction, stepsize)
        if isinstance(self.prior_decay, float) and self.prior_decay == 0:
            return x
        require_same_shape("prior", x, z)
        return torch.lerp(z - stepsize * direction, x, k**-self.prior_decay)


def trained_of(given: Any) -> Any:
    """The preconditioner that a :class:`~dipa.training.Fit` holds; anything else is itself."""
    return getattr(given, "trained", given)


def acting(preconditioner: Any, physics: LinearPhysics) -> Any:
    """A preconditioner as it acts with one operator, see
    :meth:`dipa.preconditioners.Preconditioner.on`.
    """
    on = getattr(preconditioner, "on", None)
    return on(physics) if callable(on) else preconditioner


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


def zero(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=0`, as printed in D2GP Algorithm 1, line 1."""
    return torch.zeros_like(physics.A_adjoint(y))


def adjoint(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=H^\top y`, deepinv's default, and so what the authors' code ran."""
    return physics.A_adjoint(y)


def scaled_adjoint(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=t\,H^\top y` with :math:`t=\|H^\top y\|_2^2/\|HH^\top y\|_2^2`, image by image.

    The first step of steepest descent on :math:`\frac12\|Hx-y\|_2^2` from zero: unlike the
    adjoint itself it does not depend on the units of H. The adjoint again for an H whose Gram is a
    projector.
    """
    image = physics.A_adjoint(y)
    sides = (-1, *[1] * (image.ndim - 1))
    largest = image.flatten(1).abs().amax(dim=1).reshape(sides)
    unit = image / torch.where(largest > 0, largest, 1)  # whose square is a number
    top, bottom = sizes(unit).square(), sizes(physics.A(unit)).square()
    t = torch.where(bottom > 0, top / torch.where(bottom > 0, bottom, 1), 0)
    return image * t.to(image.dtype).reshape(sides)


def pseudo_inverse(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=H^\dagger y`, by the operator's own method (the adjoint again for a
    projector); where that is deepinv's general one, in units in which H is neither large nor small.
    """
    if type(physics).A_dagger is not LinearPhysics.A_dagger:
        return physics.A_dagger(y)
    image = physics.A_adjoint(y)
    image = image / image.abs().max().clamp_min(torch.finfo(image.dtype).tiny)
    size = sizes(image).max()
    unit = (sizes(physics.A(image)).max() / size).item() if size > 0 else 1.0  # near ||H||

    def forward(x: torch.Tensor, **_: Any) -> Any:
        return physics.A(x) / unit

    def adjoint(r: Any, **_: Any) -> torch.Tensor:
        return physics.A_adjoint(r) / unit

    settings = {"max_iter": physics.max_iter, "tol": physics.tol, "solver": physics.solver}
    found = deepinv_least_squares(forward, adjoint, y / unit, parallel_dim=[0], **settings)
    return cast(torch.Tensor, found)


def interpolated(y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    r""":math:`x^0=H^\top y \oslash H^\top H\mathbf 1`: the adjoint normalised by what it makes of a
    constant image.

    Normalised convolution for super-resolution; the adjoint itself where constants are measured
    exactly. Of pixels whose weight falls below one thousandth of the largest it is the adjoint over
    the largest.
    """
    image = physics.A_adjoint(y)
    weight = physics.A_adjoint(physics.A(torch.ones_like(image)))
    most = weight.max()
    return image / torch.where(weight > 1e-3 * most, weight, torch.where(most > 0, most, 1))


STARTS = {
    "zero": zero,
    "adjoint": adjoint,
    "scaled_adjoint": scaled_adjoint,
    "pseudo_inverse": pseudo_inverse,
    "interpolated": interpolated,
}
Start = str | Callable[[torch.Tensor, LinearPhysics], torch.Tensor]


def started(start: Start, y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
    """:math:`x^0` by the rule of this name, or by a callable ``start(y, physics)`` of one's own."""
    return start(y, physics) if callable(start) else STARTS[start](y, physics)


def none() -> Iterator[float]:
    """Plain proximal gradient (ISTA): 0 for ever."""
    while True:
        yield 0.0


def nesterov() -> Iterator[float]:
    r"""Beck and Teboulle's rule, the printed D2GP Algorithm 1 (lines 5-6):
    :math:`\beta_k=(t_{k-1}-1)/t_k`, t_0 = 1.
    """
    t = 1.0
    while True:
        t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
        yield (t - 1) / t_next
        t = t_next


def chambolle_dossal(a: float = 3.0) -> Iterator[float]:
    r"""Chambolle and Dossal's rule :math:`\beta_k=(k-1)/(k+a)`: 0, 1/5, 2/6, ... for a = 3;
    iterates converge for a > 2.
    """
    k = 1
    while True:
        yield (k - 1) / (k + a)
        k += 1


def deepinv(a: float = 3.0) -> Iterator[float]:
    r"""What deepinv's FISTA runs, and so the authors' code: :math:`\beta_k=(k+a-2)/(k+a-1)`,
    i.e. 2/3, 3/4, 4/5, ...
    """
    k = 1
    while True:
        yield (k + a - 2) / (k + a - 1)
        k += 1


MOMENTA = {
    "none": none,
    "nesterov": nesterov,
    "chambolle_dossal": chambolle_dossal,
    "deepinv": deepinv,
}


def weights(rule: str, count: int, restart: int = 0) -> list[float]:
    r"""The first ``count`` weights of the rule of this name, begun again after every ``restart``
    iterations; 0 is never.

    Nothing passes from one stretch to the next: :math:`\beta_k=0` at k = restart, 2 restart, ...,
    so that ``restart`` iterations are an operator of x alone.
    """
    whole = MOMENTA[rule]()
    if not restart:
        return list(islice(whole, count))
    stretch = [*islice(whole, restart - 1), 0.0]
    return [stretch[k % restart] for k in range(count)]
