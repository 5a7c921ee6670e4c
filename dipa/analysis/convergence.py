r"""Long runs: quality, residual and fidelity of every iteration, and a verdict on where they
lead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.physics import LinearPhysics

from ..adjoint import sizes
from ..checks import in_a_row, plain_value, require, require_choice, require_int, require_kind
from ..solvers import FISTA, State
from ..solvers.loop import Observer
from ..solvers.proximal import PreconditionerLike
from ..solvers.setting import another_setting

SETTLED = 1e-4
GROWTH = 1.5
NEGLIGIBLE = 1e-3
EXPLAINED = 0.1


@dataclass(frozen=True)
class Convergence:
    r"""What a run did, iteration by iteration (index 0 is the start).

    Attributes:
        x: the last finite iterate, (B, C, H, W).
        curves: lists over k of ``residual`` :math:`\|Hx-y\|/\|y\|`, ``fidelity``
            :math:`\frac12\|Hx-y\|^2`, ``norm`` :math:`\|x\|` (means over the batch), ``change``
            :math:`\|x^k-x^{k-1}\|/\|x^k\|`, and ``psnr`` where the truth is known.
        verdict: ``settled``, ``moving``, ``growing`` or ``diverged``, see :func:`verdict`.
    """

    x: torch.Tensor
    curves: dict[str, list[float]]
    verdict: str

    @property
    def stable(self) -> bool:
        """Neither diverged nor growing."""
        return self.verdict in ("settled", "moving")


@torch.no_grad()
@another_setting()
def convergence(
    solver: FISTA,
    physics: LinearPhysics,
    y: torch.Tensor,
    x_true: torch.Tensor | None = None,
    *,
    preconditioner: PreconditionerLike | None = None,
    stepsize: float | str = "1/L",
    iterations: int = 1000,
    observe: Observer | None = None,
) -> Convergence:
    """Run ``solver`` for ``iterations`` (>= 1) instead of its own number, and record every one of
    them.

    Memory does not grow with the number of iterations. Other arguments, ``observe`` among them, and
    errors are those of the solver.
    """
    require_kind("solver", solver, FISTA)
    iterations = require_int("iterations", iterations, 1)

    def measure(state: State) -> dict[str, float]:
        if observe is not None:
            observe(state)
        fidelity = 0.5 * sizes(physics.A(state.x) - y).square().mean().item()
        return {"fidelity": fidelity, "norm": state.x.flatten(1).norm(dim=1).mean().item()}

    result = dataclasses.replace(solver, iterations=iterations)(
        y,
        physics,
        preconditioner=preconditioner,
        stepsize=stepsize,
        x_true=x_true,
        history=True,
        observe=measure,
    )
    names: list[str] = [
        name
        for name in ("residual", "change", "psnr", "fidelity", "norm")
        if name in result.history[0]
    ]
    curves = {name: [record[name] for record in result.history] for name in names}
    return Convergence(result.x, curves, verdict(result.status, curves))


def verdict(status: str, curves: dict[str, list[float]]) -> str:
    """Where a run leads, from its ``residual``, ``norm`` and ``change`` curves; the truth is not
    needed.

    - ``diverged``: the solver stopped, an iterate was not finite or left its bound.
    - ``growing``: from the middle to the end the residual grew more than GROWTH = 1.5 times (and is
      above NEGLIGIBLE = 1e-3), or the norm of the images did although the data were explained (a
      residual of at most EXPLAINED = 0.1 in the middle): a drift along the null space, which no
      residual shows.
    - ``settled``: the last relative change is below SETTLED = 1e-4.
    - ``moving``: none of these.
    """
    require_choice("status", status, ("completed", "converged", "diverged"))
    whole = isinstance(curves, Mapping) and all(
        _curve(curves.get(name)) for name in ("residual", "norm", "change")
    )
    require(
        whole,
        "curves",
        curves,
        "lists of numbers, as long as one another, of residual, norm and change",
    )
    require(
        len({len(curves[name]) for name in ("residual", "norm", "change")}) == 1,
        "curves",
        curves,
        "of one length",
    )
    if status == "diverged":
        return "diverged"
    end, middle = len(curves["residual"]) - 1, len(curves["residual"]) // 2
    grown = {
        name: curves[name][end] > GROWTH * curves[name][middle] for name in ("residual", "norm")
    }
    leaving = grown["residual"] and curves["residual"][end] > NEGLIGIBLE
    drifting = grown["norm"] and curves["residual"][middle] <= EXPLAINED
    if leaving or drifting:
        return "growing"
    return "settled" if curves["change"][end] < SETTLED else "moving"


def _curve(values: Any) -> bool:
    return (
        in_a_row(values)
        and len(values) > 0
        and all(isinstance(plain_value(value), int | float) for value in values)
    )
