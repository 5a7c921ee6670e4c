"""Ways to differentiate one solve: how far back the gradient of P goes, and what is kept for it.

:class:`~dipa.settings.Differentiation` says which way; here is what it does to solver and
preconditioner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..checks import require
from ..preconditioners.per_iteration import PerIteration
from ..priors import DenoiserPrior
from ..settings import Differentiation
from ..solvers import FISTA
from .low_memory import low_memory, recomputed, straight_through


def check(plan: Differentiation, preconditioner: nn.Module, iterations: int) -> None:
    """Refuse a preconditioner of which this way would never train some parameters, and a
    restart within the last tail.
    """
    own = isinstance(preconditioner, PerIteration) and preconditioner.traits.iteration_dependent
    every = plan.backward is None or not own
    kind = type(preconditioner).__name__
    require(
        every,
        "differentiation.way",
        plan.way,
        f"a way through all iterations for {kind}: each has its own",
    )
    whole = plan.way != "restart" or plan.tail >= iterations or iterations % plan.tail == 0
    allowed = f"for restart a divisor of the solver's {iterations} iterations, or at least as many"
    require(whole, "differentiation.tail", plan.tail, allowed)


def differentiated(plan: Differentiation, solver: FISTA) -> FISTA:
    """The solver that is differentiated: the same iterates (but for ``restart``), a
    prior that needs less memory.
    """
    if plan.way == "unrolled":
        return solver
    restart = plan.tail if plan.way == "restart" else solver.restart
    return replace(solver, prior=_with_less_memory(plan, solver.prior), restart=restart)


def _with_less_memory(plan: Differentiation, prior: Any) -> Any:
    """The prior with another backward pass."""
    known, kind = isinstance(prior, DenoiserPrior), type(prior).__name__
    if plan.way == "straight_through":
        require(
            known,
            "differentiation.way",
            plan.way,
            f"another way for {kind}, a prior that shows no denoiser",
        )
        return replace(prior, denoiser=straight_through(prior.denoiser))
    return replace(prior, denoiser=low_memory(prior.denoiser)) if known else _Recomputed(prior)


def called(plan: Differentiation, preconditioner: nn.Module) -> Callable[..., torch.Tensor]:
    """P as it is called; one that is linear in the gradient keeps little anyway."""
    traits = getattr(preconditioner, "traits", None)
    kept = plan.way == "unrolled" or (traits is not None and traits.linear)
    return (
        preconditioner if kept else recomputed(getattr(preconditioner, "unchecked", preconditioner))
    )


class _Recomputed:
    """A prior whose step is computed again in the backward pass."""

    def __init__(self, prior):
        self.step = recomputed(prior.step)
