r"""The equilibrium of an iteration, :math:`x_*=T(x_*)`, and the gradient of a loss there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..adjoint import sizes
from ..checks import require, require_int, require_number, require_same_shape, require_tensor
from . import loop

Operator = Callable[[torch.Tensor], torch.Tensor]
WINDOW = 5  # the last changes that the contraction is measured on
ROUNDING = 100  # in units of the last place of an iterate: a change that says nothing


@dataclass(frozen=True)
class Equilibrium:
    r"""Where repeating T has led.

    Attributes:
        x: the last iterate (B, ...).
        status: ``converged``, ``completed`` (not within the tolerance) or ``diverged``.
        message: the status in words.
        iterations: applications of T.
        contraction: the largest of the last few ratios
            :math:`\|x^{k+1}-x^k\|/\|x^k-x^{k-1}\|`, image by image (B,); NaN where none of them
            moved it by more than rounding does.
        distance: where q, the contraction, is below 1, :math:`q/(1-q)\,\|x^k-x^{k-1}\|` (B,): as
            far as :math:`x_*` is at most if T contracts everywhere as it did here; else infinite.
    """

    x: torch.Tensor
    status: str
    message: str
    iterations: int
    contraction: torch.Tensor
    distance: torch.Tensor


@dataclass(frozen=True)
class _Repeated:
    """T again and again, as a scheme of the loop."""

    operator: Operator
    start: torch.Tensor

    def init(self) -> loop.State:
        return loop.State(0, self.start, self.start)

    def step(self, state: loop.State) -> loop.State:
        x = self.operator(state.x)
        if state.k == 0:
            require_same_shape("operator", x, state.x)
        return loop.State(state.k + 1, x, state.x)


@torch.no_grad()
def equilibrium(
    operator: Operator,
    start: torch.Tensor,
    *,
    tolerance: float = 1e-6,
    iterations: int = 1000,
) -> Equilibrium:
    r"""Repeat ``operator`` until no image changes by more than ``tolerance`` times its norm.

    Args:
        operator: T, images (B, ...) to images.
        start: :math:`x^0`; a former equilibrium of a T that has changed little is a *restart*.
        tolerance: > 0.
        iterations: the most there are.

    Returns:
        :class:`Equilibrium`, with the contraction that was measured.

    Raises:
        InputError: an operator that gives images of another shape.
    """
    require(callable(operator), "operator", operator, "a callable T(x)")
    require_tensor("start", start)
    tolerance = float(require_number("tolerance", tolerance, 0, open_low=True))
    iterations = require_int("iterations", iterations, 1)
    measured = _Contraction(sizes(start))
    stop = loop.Stop(iterations, tolerance)
    result = loop.run(_Repeated(operator, start), stop, observe=[measured.look])
    q = measured.largest()
    distance = torch.where(q < 1, q / (1 - q) * measured.change, math.inf)
    return Equilibrium(result.x, result.status, result.message, result.iterations, q, distance)


class _Contraction:
    """The ratios of each change to the one before it that are more than rounding, the last few of
    each image.
    """

    def __init__(self, change: torch.Tensor):
        self.change = change
        self.ratios = change.new_full((WINDOW, len(change)), math.nan)

    def look(self, state: loop.State) -> None:
        before, self.change = self.change, sizes(state.x - state.previous)
        if state.k < 2:
            return
        least = ROUNDING * torch.finfo(before.dtype).eps * sizes(state.x)
        ratio = self.change / torch.where(before > 0, before, 1)
        shifted = torch.cat([self.ratios[1:], ratio[None]])
        self.ratios = torch.where(before > least, shifted, self.ratios)

    def largest(self) -> torch.Tensor:
        """(B,); NaN where there is none."""
        found = self.ratios.nan_to_num(nan=-math.inf).amax(dim=0)
        return torch.where(found >= 0, found, math.nan)


def at_equilibrium(
    operator: Operator,
    x_star: torch.Tensor,
    *,
    tail: int | None = None,
    tolerance: float = 1e-6,
    iterations: int = 1000,
) -> torch.Tensor:
    r"""The equilibrium once more, so that a loss on it has a gradient with respect to the
    parameters :math:`\theta` of T.

    With J the Jacobian of T in x at :math:`x_*`, the gradient of a loss :math:`\ell` there is

    .. math::
        \partial_\theta T^\top(I-J^\top)^{-1}\nabla\ell
        =\sum_{j\ge0}\partial_\theta T^\top(J^\top)^j\,\nabla\ell .

    ``tail=None`` solves the linear system (implicit differentiation, deep equilibrium); ``tail``
    applies T so many times with a graph, which is the first ``tail`` terms of the sum: with one it
    is Jacobian-free backpropagation. For a T that contracts by q the terms left out are at most
    :math:`q^{\mathrm{tail}}/(1-q)\;\|\partial_\theta T\|\,\|\nabla\ell\|`.

    Args:
        operator: T, images to images, whose parameters require gradients.
        x_star: its equilibrium, as :func:`equilibrium` finds it; a constant.
        tail: >= 1, or None for the exact gradient.
        tolerance: of the linear system, relative; > 0.
        iterations: the most it takes.

    Returns:
        :math:`T(x_*)`, after ``tail`` applications, with the graph.

    Raises:
        InputError: an operator that cannot be called; a system that is not solved within
            ``iterations``, when the gradient is taken: T does not contract at :math:`x_*`.

    Source: S. Bai, J. Z. Kolter and V. Koltun, "Deep equilibrium models", 2019; Fung et al., "JFB:
    Jacobian-free backpropagation for implicit networks", 2022; with longer tails and restarts: L.
    Davy, L. Briceno-Arias and N. Pustelnik, "Restarted contractive operators to learn at
    equilibrium", 2025 (its abstract; the bound is our reading of "arbitrarily good").
    """
    require(callable(operator), "operator", operator, "a callable T(x)")
    require_tensor("x_star", x_star)
    x = x_star.detach()
    if tail is not None:
        for _ in range(require_int("tail", tail, 1)):
            x = operator(x)
        return x
    tolerance = float(require_number("tolerance", tolerance, 0, open_low=True))
    iterations = require_int("iterations", iterations, 1)
    output = operator(x)
    if output.requires_grad:
        point = x.clone().requires_grad_()
        with torch.enable_grad():
            moved = operator(point)
        output.register_hook(
            lambda gradient: _solved(moved, point, gradient, tolerance, iterations)
        )
    return output


def _solved(
    moved: torch.Tensor,
    point: torch.Tensor,
    gradient: torch.Tensor,
    tolerance: float,
    iterations: int,
) -> torch.Tensor:
    r""":math:`(I-J^\top)^{-1}g`, the equilibrium of :math:`w\mapsto g+J^\top w`."""

    def adjoint(w: torch.Tensor) -> torch.Tensor:
        (back,) = torch.autograd.grad(moved, point, w, retain_graph=True, allow_unused=True)
        return gradient if back is None else gradient + back

    with torch.enable_grad():
        found = equilibrium(
            lambda w: adjoint(w).detach(), gradient, tolerance=tolerance, iterations=iterations
        )
    require(
        found.status == "converged",
        "operator",
        f"one whose linear system {found.message}",
        "one that contracts at its equilibrium",
    )
    return found.x
