"""One trained preconditioner under changed conditions: another operator, noise level, denoiser
or solver.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from deepinv.physics import LinearPhysics

from .. import metrics
from ..checks import in_a_row, require, require_images, require_int, require_kind, require_number
from ..operators.measure import gaussian_noise, measure
from ..physics import require_operator, require_takes
from ..priors import Denoiser, DenoiserPrior
from ..solvers import FISTA
from ..solvers.proximal import PreconditionerLike, takes_fit
from ..solvers.setting import another_setting
from .nullspace import relative_norm


@dataclass(frozen=True)
class Condition:
    """Where a preconditioner is tried: a name for its row, the operator, the solver with its
    prior, the stepsize.
    """

    name: str
    physics: LinearPhysics
    solver: FISTA
    stepsize: float | str = "1/L"


def conditions(
    physics: LinearPhysics,
    solver: FISTA,
    stepsize: float | str = "1/L",
    *,
    operators: Mapping[str, LinearPhysics] | None = None,
    noise: Iterable[float] = (),
    denoisers: Mapping[str, Denoiser] | None = None,
    solvers: Mapping[str, FISTA] | None = None,
) -> list[Condition]:
    """The matched condition and every one that differs from it in one thing.

    Args:
        physics: the operator of training.
        solver: the solver of training.
        stepsize: one for all conditions, a positive number or ``"1/L"`` (then each operator's own).
        operators: other operators on images of the same size, by name.
        noise: standard deviations >= 0 of Gaussian noise on the measurements of ``physics`` (a copy
            of it).
        denoisers: other denoisers for the solver's prior, by name.
        solvers: other solvers, by name.

    Returns:
        Named ``matched``, ``operator: ...``, ``noise: ...``, ``denoiser: ...``, ``solver: ...``, in
        this order.
    """
    require_operator("physics", physics)
    require_kind("solver", solver, FISTA)
    for name, named in (("operators", operators), ("denoisers", denoisers), ("solvers", solvers)):
        require(named is None or isinstance(named, Mapping), name, named, "a mapping of names")
    require(in_a_row(noise), "noise", noise, "numbers in a row")
    noise = [require_number("noise", sigma, 0) for sigma in noise]
    shown = denoisers is None or isinstance(solver.prior, DenoiserPrior)
    require(
        shown,
        "denoisers",
        denoisers,
        f"none for {type(solver.prior).__name__}, a prior that shows no denoiser",
    )
    rows = [Condition("matched", physics, solver, stepsize)]
    rows += [
        Condition(f"operator: {name}", other, solver, stepsize)
        for name, other in (operators or {}).items()
    ]
    rows += [
        Condition(f"noise: {sigma:g}", with_noise(physics, sigma), solver, stepsize)
        for sigma in noise
    ]
    for name, denoiser in (denoisers or {}).items():
        other = dataclasses.replace(
            solver, prior=dataclasses.replace(solver.prior, denoiser=denoiser)
        )
        rows.append(Condition(f"denoiser: {name}", physics, other, stepsize))
    return rows + [
        Condition(f"solver: {name}", physics, other, stepsize)
        for name, other in (solvers or {}).items()
    ]


def with_noise(physics: LinearPhysics, sigma: float) -> LinearPhysics:
    """A copy of ``physics`` with Gaussian noise of standard deviation ``sigma`` >= 0; the
    original is not touched.
    """
    require_operator("physics", physics)
    sigma = require_number("noise", sigma, 0)
    other = copy.deepcopy(physics)
    other.noise_model = gaussian_noise(sigma)
    if hasattr(other, "noise_sigma"):
        other.noise_sigma = float(sigma)
    return other


@takes_fit
@torch.no_grad()
@another_setting()
def shifts(
    preconditioner: PreconditionerLike,
    x_true: torch.Tensor,
    rows: Iterable[Condition],
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> list[dict]:
    """Reconstruct the same images with and without the preconditioner in every condition.

    Args:
        preconditioner: P, as trained; it is not adapted to the condition.
        x_true: clean images (B, C, H, W).
        rows: what to try, see :func:`conditions`.
        seed: of the measurement noise, which depends on it and on the index of the image alone.
        batch_size: images at once, >= 1.

    Returns:
        One plain row a condition: ``name``, ``psnr_baseline`` and ``psnr_student`` (mean over
        images, dB), ``gain``, ``residual`` of the student (relative to y, mean over images) and
        ``status`` (``diverged`` where any batch was).
    """
    require_images("x_true", x_true)
    seed = require_int("seed", seed, 0)
    batch_size = require_int("batch_size", batch_size, 1)
    require(in_a_row(rows), "rows", rows, "Conditions in a row")
    rows = list(rows)
    require(len(rows) > 0, "rows", rows, "at least one Condition")
    for row in rows:
        require(isinstance(row, Condition), "rows", type(row).__name__, "Conditions")
        require_takes(f"physics of {row.name}", row.physics, x_true)
    return [_row(row, preconditioner, x_true, seed, batch_size) for row in rows]


def _row(
    row: Condition,
    preconditioner: PreconditionerLike,
    x_true: torch.Tensor,
    seed: int,
    batch_size: int,
) -> dict:
    totals, status = {"psnr_baseline": 0.0, "psnr_student": 0.0, "residual": 0.0}, "completed"
    for first in range(0, len(x_true), batch_size):
        batch = x_true[first : first + batch_size]
        y = measure(
            row.physics,
            batch,
            seed=seed,
            indices=torch.arange(first, first + len(batch)),
            stream="test noise",
        )
        baseline = row.solver(y, row.physics, stepsize=row.stepsize)
        student = row.solver(y, row.physics, preconditioner=preconditioner, stepsize=row.stepsize)
        totals["psnr_baseline"] += metrics.psnr(baseline.x, batch).sum().item()
        totals["psnr_student"] += metrics.psnr(student.x, batch).sum().item()
        totals["residual"] += relative_norm(row.physics.A(student.x) - y, y).sum().item()
        status = student.status if student.status == "diverged" else status
    means = {name: total / len(x_true) for name, total in totals.items()}
    gain = means["psnr_student"] - means["psnr_baseline"]
    return {"name": row.name, **means, "gain": gain, "status": status}
