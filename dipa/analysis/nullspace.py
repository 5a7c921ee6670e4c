r"""Null-space audit: does the reconstruction still explain the measurements, and where does its
error live?
"""

from __future__ import annotations

from typing import Any, cast

import torch
from deepinv.physics import LinearPhysics

from ..checks import require, require_alike, require_kind, require_same_images, require_tensor
from ..operators import Basis
from ..physics import require_beside, require_takes
from ..solvers import FISTA, State
from ..solvers.proximal import PreconditionerLike, takes_fit
from .convergence import Convergence, convergence

RESIDUAL_LIMIT = 0.05
DRIFT_LIMIT = 1.05
RESTING = 1e-6


def relative_norm(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Norm of each image of ``part`` over that of ``whole``, (B,)."""
    for name, tensor in (("part", part), ("whole", whole)):
        require_tensor(name, tensor, "a tensor (B, ...)")
        require(
            tensor.ndim > 1 and tensor.numel() > 0,
            f"{name}.shape",
            tuple(tensor.shape),
            "(B, ...) with B >= 1",
        )
        number = tensor.is_floating_point() or tensor.is_complex()
        require(number, f"{name}.dtype", tensor.dtype, "a floating-point type, real or complex")
    require_alike(part=part, whole=whole)
    return part.flatten(1).norm(dim=1) / whole.flatten(1).norm(dim=1).clamp_min(1e-12)


@torch.no_grad()
def audit(
    x: torch.Tensor, x_true: torch.Tensor, y: torch.Tensor, physics: LinearPhysics, basis: Basis
) -> dict[str, float]:
    r"""Means over the batch of three relative numbers.

    ``residual``: :math:`\|H\hat x-y\|/\|y\|`. ``error_range`` and ``error_null``: the error
    :math:`\hat x-x` split by the orthogonal projector :math:`\Pi` on
    :math:`\mathrm{range}(H^\top)`, each part over :math:`\|x\|`; their squares add up to the
    squared relative error. ``basis`` spans that range. A preconditioned run whose residual stays
    far from zero has left the measurements: see :func:`falsification`.
    """
    require_same_images(x=x, x_true=x_true)
    require_kind("basis", basis, Basis)
    require_takes("physics", physics, x)
    require_beside("basis", basis, "x", x)
    measured = physics.A(x)
    require_tensor("y", y, "a tensor of measurements")
    require_alike(measured=measured, y=y)
    error = x - x_true
    in_range = basis.project(error)
    numbers = {"residual": relative_norm(measured - y, y)}
    numbers |= {
        "error_range": relative_norm(in_range, x_true),
        "error_null": relative_norm(error - in_range, x_true),
    }
    return {name: values.mean().item() for name, values in numbers.items()}


class LeakMeter:
    r"""An observer of a run that notes how much of each direction leaves the range of H^T:
    ``solver(..., observe=meter)``.

    ``energies[k - 1]`` is the mean over the batch of :math:`\|(I-\Pi)d\|^2/\|d\|^2`, d the
    direction of iteration k. A direction shorter than RESTING = 1e-6 of its point z is rounding
    (the first one of a noiseless run from the adjoint of a projector is) and counts as 0.
    """

    def __init__(self, basis: Basis):
        require_kind("basis", basis, Basis)
        self.basis = basis
        self.energies: list[float] = []

    @torch.no_grad()
    def __call__(self, state: State) -> None:
        """Note the direction that led to this state; the start has none."""
        require_kind("state", state, State)
        if state.direction is None:
            require_beside("basis", self.basis, "the images", state.x)
            return
        outside = relative_norm(
            state.direction - self.basis.project(state.direction), state.direction
        ).square()
        moving = relative_norm(state.direction, cast(torch.Tensor, state.z)) > RESTING
        self.energies.append(torch.where(moving, outside, torch.zeros_like(outside)).mean().item())


@takes_fit
@torch.no_grad()
def falsification(
    solver: FISTA,
    physics: LinearPhysics,
    preconditioner: PreconditionerLike,
    y: torch.Tensor,
    x_true: torch.Tensor,
    stepsize: float | str,
    basis: Basis,
    *,
    iterations: int | None = None,
) -> dict[str, Any]:
    r"""Try to refute a preconditioner: run it with and without, look at the data, the directions
    and the error.

    A public review of D2GP names what would refute the method: a preconditioned run that diverges,
    or whose final image, measured again by H, is far from the data. It adds that nothing keeps the
    directions in the row space of H, so that the image may drift along the null space, and that the
    proximal step need not undo it. The review gives no numbers; the three checks are this project's
    reading:

    - ``stable``: the run is neither ``diverged`` nor ``growing``
      (:func:`~dipa.analysis.convergence.verdict`).
    - ``consistent``: the final relative residual is at most RESIDUAL_LIMIT = 0.05 above that of the
      truth (the noise).
    - ``no_drift``: the null-space error is at most DRIFT_LIMIT = 1.05 times that of the same run
      without preconditioner. An energy outside the range is no fault by itself: there the learned
      null-space content comes in.

    Args:
        solver: algorithm, prior, momentum and start.
        physics: the operator H.
        preconditioner: P, any callable ``P(gradient, iterate, k)``.
        y: measurements of ``x_true``.
        x_true: the truth (B, C, H, W).
        stepsize: a positive number or ``"1/L"``, for both runs.
        basis: coordinates of :math:`\mathrm{range}(H^\top)`.
        iterations: K >= 1; None is the solver's own. What holds at the K of training may fail
            later: ask for more.

    Returns:
        Plain values: ``residual``, ``error_range``, ``error_null`` of :func:`audit`, the same of
        the unpreconditioned run under ``baseline``, ``truth_residual``; ``energy_outside`` (k =
        1..K) and ``residuals`` (k = 0..K); ``verdict`` in words, ``checks`` by name, and
        ``passed``, true when all hold.

    Source: the review of D2GP at Pith, "what would settle it" and the second major comment.
    """
    require_kind("solver", solver, FISTA)
    meter, count = LeakMeter(basis), solver.iterations if iterations is None else iterations
    run = convergence(
        solver,
        physics,
        y,
        x_true,
        preconditioner=preconditioner,
        stepsize=stepsize,
        iterations=count,
        observe=meter,
    )
    plain = convergence(solver, physics, y, x_true, stepsize=stepsize, iterations=count)
    audited, baseline = (audit(end.x, x_true, y, physics, basis) for end in (run, plain))
    truth = relative_norm(physics.A(x_true) - y, y).mean().item()
    checks = _checks(run, audited, baseline, truth)
    curves = {"energy_outside": meter.energies, "residuals": run.curves["residual"]}
    outcome = {"verdict": run.verdict, "checks": checks, "passed": all(checks.values())}
    return audited | {"baseline": baseline, "truth_residual": truth} | curves | outcome


def _checks(
    run: Convergence, audited: dict[str, float], baseline: dict[str, float], truth: float
) -> dict[str, bool]:
    return {
        "stable": run.stable,
        "consistent": audited["residual"] <= truth + RESIDUAL_LIMIT,
        "no_drift": audited["error_null"] <= DRIFT_LIMIT * baseline["error_null"],
    }
