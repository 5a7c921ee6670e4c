"""The closed form, its two numbers chosen on held-out images."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict

import torch
from deepinv.physics import LinearPhysics

from ..checks import require_flag, require_images, require_int, require_kind, require_number
from ..gathered import Images, images_of
from ..physics import lipschitz, require_adjoint
from ..preconditioners import LinearPreconditioner, trust
from ..settings import Variations
from ..solvers import FISTA
from ..solvers.setting import setting
from .doors import require_repeats
from .loop import Fit
from .validation import Held, held_out

REGULARIZATIONS = (1e-4, 1e-3, 1e-2, 1e-1)  # in units of L^2
NULL_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


def fit_ridge(
    solver: FISTA,
    physics: LinearPhysics,
    images: Images,
    *,
    stepsize: float | str = "1/L",
    planes: bool = False,
    validation: float = 0.1,
    seed: int = 0,
    variations: Variations | None = None,
) -> Fit:
    r"""The closed form, :meth:`~dipa.preconditioners.LinearPreconditioner.ridge`, with the
    regularization and the null weight that reconstruct held-out images best; nothing is trained.

    :math:`\lambda\in\{10^{-4},\dots,10^{-1}\}L^2` first, at a null weight of 3/4, then the null
    weight in 0, 1/4, ..., 1: with few images 0, which leaves the null space alone, may win.

    Args:
        solver: what P is for.
        physics: H.
        images: clean images (N, C, H, W) in [0, 1], at least 5; a tensor, or an array,
            list, ``Dataset``, ``DataLoader`` or :class:`~dipa.data.ImageSet` of them.
        stepsize: :math:`\alpha`, a positive number or ``"1/L"``.
        planes: one P for every channel.
        validation: share of the images held out, in ]0, 1/2].
        seed: which ones, and of their noise; of the varied copies.
        variations: of the images that are not held out, whose ``copies`` enter the closed form
            (:func:`dipa.variations.varied`); none by default.

    Returns:
        A :class:`Fit` without history; its record says what was chosen and the PSNR of each trial.

    Raises:
        InputError: arguments out of range; an operator whose adjoint is none.
    """
    began = time.monotonic()
    require_kind("solver", solver, FISTA)
    images = images_of("images", images)
    require_images("images", images)
    require_int("images", len(images), 5)
    validation = float(require_number("validation", validation, 0, 0.5, open_low=True))
    planes, seed = require_flag("planes", planes), require_int("seed", seed, 0)
    variations = Variations() if variations is None else variations
    require_kind("variations", variations, Variations)
    require_adjoint("physics", physics, images)
    require_repeats(solver, images)
    kept, index = held_out(len(images), max(validation, 1 / len(images)), seed)
    held = Held.of(solver, physics, images, index, stepsize, seed)
    P, trials = choose(held, images[kept], planes=planes, variations=variations, seed=seed)
    P.setting = setting(solver, physics, held.alpha, images)
    P.setting |= trust.measured(P, physics, images[kept], held.alpha, seed)
    record = {"solver": solver.describe(), "images": len(images), "trials": trials}
    record |= {"variations": asdict(variations)} if variations.copies else {}
    return Fit(P, [], record | {"training_seconds": round(time.monotonic() - began, 2)})


def choose(
    held: Held,
    images: torch.Tensor,
    *,
    planes: bool = False,
    variations: Variations | None = None,
    seed: int = 0,
) -> tuple[LinearPreconditioner, list[dict[str, float]]]:
    """The closed form of ``images`` that is best on the held-out ones, and what was tried."""
    size = tuple(images.shape[1:])
    norm = lipschitz(held.physics, size, images)
    whole = [
        LinearPreconditioner.ridge(
            held.physics,
            images,
            stepsize=held.alpha,
            regularization=share * norm**2,
            planes=planes,
            variations=variations,
            seed=seed,
        )
        for share in REGULARIZATIONS
    ]
    first = [
        (share, 0.75, _weighted(P, 0.75)) for share, P in zip(REGULARIZATIONS, whole, strict=True)
    ]
    best, trials = _best(held, first)
    base = whole[REGULARIZATIONS.index(best[0])]
    second = [(best[0], weight, _weighted(base, weight)) for weight in NULL_WEIGHTS]
    best, more = _best(held, second)
    return best[2], trials + more


Trial = tuple[float, float, LinearPreconditioner]


def _best(held: Held, trials: Iterable[Trial]) -> tuple[Trial, list[dict[str, float]]]:
    seen = [(trial, held.psnr(trial[2])) for trial in trials]
    records = [
        {"regularization": share, "null_weight": weight, "psnr": psnr}
        for (share, weight, _), psnr in seen
    ]
    return max(seen, key=lambda pair: pair[1])[0], records


def _weighted(P: LinearPreconditioner, null_weight: float) -> LinearPreconditioner:  # noqa: N803
    """P with what it adds outside the range of the adjoint scaled."""
    columns = P.matrix.detach().T.reshape(-1, *P.basis.img_size)
    seen = P.basis.project(columns)
    matrix = (seen + null_weight * (columns - seen)).flatten(1).T
    return LinearPreconditioner(matrix, P.basis, P.complement)
