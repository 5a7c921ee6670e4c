r"""How far a step goes, apart from where: rules for :math:`\alpha_k`, besides a constant and
``"1/L"``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from ..adjoint import sizes
from ..checks import plain_fields, require, require_int, require_number
from .loop import State

Stepsize = float | torch.Tensor


@dataclass(frozen=True)
class Move:
    r"""One iteration whose length is not chosen yet.

    Attributes:
        state: the run so far; its ``stepsize`` is that of the last iteration.
        z: the point :math:`z^k`; ``gradient`` and ``direction`` are :math:`\nabla g(z^k)` and
            :math:`d^k` there.
        take: the next iterate for a stepsize :math:`\alpha`: the prior's step.
        measure: :math:`v\mapsto Hv`.
    """

    state: State
    z: torch.Tensor
    gradient: torch.Tensor
    direction: torch.Tensor
    take: Callable[[Stepsize], torch.Tensor]
    measure: Callable[[torch.Tensor], torch.Tensor]


class Search(Protocol):
    """``search(move)`` gives the next iterate and the stepsize that led there."""

    def __call__(self, move: Move) -> tuple[torch.Tensor, Stepsize]:
        """The next iterate (B, C, H, W); its stepsize, one number or (B, 1, 1, 1)."""


@dataclass(frozen=True)
class Armijo:
    r"""Backtracking, image by image: :math:`\alpha` shrinks until the quadratic model lies above
    the data fidelity,

    .. math::
        g(x)\le g(z)+\langle\nabla g(z),x-z\rangle+\tfrac1{2\alpha}\|x-z\|_2^2
        \iff\alpha\,\|H(x-z)\|_2^2\le\|x-z\|_2^2,

    the equivalence because g is quadratic. Without prior and preconditioner this is Armijo's
    condition with constant 1/2, and g never grows without momentum. It needs no L and holds for
    :math:`\alpha\le1/L`. A stepsize never grows again.

    Args:
        first: the stepsize of the first trial, > 0.
        shrink: what a refused stepsize is multiplied by, in ]0, 1[.
        trials: the most an iteration takes, each one step of the prior; the last is taken
            as it is.

    Source: A. Beck and M. Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear
    inverse problems", SIAM J. Imaging Sci. 2(1), 2009, Sec. 4, FISTA with backtracking.
    """

    first: float = 1.0
    shrink: float = 0.5
    trials: int = 60

    def __post_init__(self):
        plain_fields(self)
        require_number("first", self.first, 0, open_low=True)
        require_number("shrink", self.shrink, 0, 1, open_low=True)
        require(self.shrink < 1, "shrink", self.shrink, "a number in ]0, 1[")
        require_int("trials", self.trials, 1)

    def __call__(self, move: Move) -> tuple[torch.Tensor, Stepsize]:
        """The next iterate, and its stepsizes (B, 1, 1, 1)."""
        stepsize = move.state.stepsize
        if stepsize is None:
            stepsize = move.z.new_full((len(move.z), 1, 1, 1), self.first)
        x = move.take(stepsize)
        for _ in range(self.trials - 1):
            refused = self._refused(x - move.z, stepsize, move)
            if not bool(refused.any()):
                break
            stepsize = torch.where(refused, stepsize * self.shrink, stepsize)
            x = move.take(stepsize)
        return x, stepsize

    @torch.no_grad()
    def _refused(self, moved: torch.Tensor, stepsize: Stepsize, move: Move) -> torch.Tensor:
        model, curved = (
            sizes(part).square().reshape(-1, 1, 1, 1) for part in (moved, move.measure(moved))
        )
        return stepsize * curved > model * (1 + 1e-5)  # of rounding in float32


@dataclass(frozen=True)
class Learned:
    r"""A stepsize that a function predicts: :math:`\alpha_k=r(\nabla g(z^k),z^k,k)`; gradients flow
    through it.

    Args:
        rule: ``rule(gradient, z, k)`` -> a number, or one for each image as a tensor (B,) or (B, 1,
            1, 1).

    Raises:
        InputError: a rule that gives anything else.
    """

    rule: Callable[[torch.Tensor, torch.Tensor, int], Stepsize]

    def __post_init__(self):
        require(callable(self.rule), "rule", self.rule, "a callable rule(gradient, z, k)")

    def __call__(self, move: Move) -> tuple[torch.Tensor, Stepsize]:
        """The next iterate and the stepsize as predicted."""
        stepsize = self.rule(move.gradient, move.z, move.state.k + 1)
        if not isinstance(stepsize, torch.Tensor):
            stepsize = float(require_number("rule", stepsize, -float("inf")))
        elif stepsize.ndim:
            whole = stepsize.shape in ((len(move.z),), (len(move.z), 1, 1, 1))
            require(
                whole,
                "rule",
                tuple(stepsize.shape),
                f"({len(move.z)},) or ({len(move.z)}, 1, 1, 1): one an image",
            )
            stepsize = stepsize.reshape(-1, 1, 1, 1)
        return move.take(stepsize), stepsize
