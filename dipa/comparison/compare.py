"""Every method on one operator: settings chosen on validation images, quality told on others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from tqdm import tqdm

from .. import denoisers
from ..checks import (
    FOREIGN,
    InputError,
    in_a_row,
    require,
    require_flag,
    require_images,
    require_int,
    require_kind,
)
from ..gathered import Images, images_of
from ..physics import require_adjoint, require_takes, warn_range
from ..priors import PnP
from ..settings import Budget
from ..solvers import FISTA
from ..training.doors import require_repeats
from .curves import Curve, Group, shares
from .table import CLOSE, NEAR, Comparison, Row
from .ways import METHODS, PATIENCE, WITH_TV, Method, Problem, Way, levels, total_variation

FEWEST = 8  # images
NAMES = tuple(method.name for method in METHODS)
TV = "TV"  # how rows are marked that ran with total variation


def compare(
    physics: LinearPhysics,
    images: Images,
    *,
    test: Images | None = None,
    solver: FISTA | None = None,
    teacher: LinearPhysics | None = None,
    budget: Budget | None = None,
    methods: Sequence[str] | None = None,
    total_variation: bool = True,
    held: int = 8,
    limit: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> Comparison:
    r"""What to use on ``physics``: quality against seconds of every method, learned or not.

    The images are split: some are to fit on, some to choose settings and the iteration k by. The
    table is about others. Every method gets its best setting and its best k: of at most K where it
    was trained for K, else of 4 K, while it gets better. The target is 0.1 dB below the best
    quality that any method reaches: the table is sorted by the seconds until then, set-up included,
    fitting and training beside.

    Untrained: steps of 1/L with each momentum, :class:`~dipa.preconditioners.Hessian` and
    :class:`~dipa.preconditioners.Polynomial` preconditioners,
    :class:`~dipa.preconditioners.Nystrom`, Tikhonov's solution; deepinv's HQS and DRS. In closed
    form from images: scalars, radial filters, polynomials,
    :class:`~dipa.preconditioners.CombinedSteps` for each iteration
    (:func:`~dipa.training.fit_steps`); up to 1,024 numbers in an image, with a ``budget`` 2,304,
    the ridge predictor (:func:`~dipa.training.fit_ridge`). Trained where there is a ``budget``:
    L-DIPA from the ridge predictor, differentiated straight through; N-DIPA, a network behind the
    combined steps, each iteration on its own. Both end as the best on a tenth of their images, the
    start included.

    Args:
        physics: the operator, with the noise that measurements will have.
        images: clean images (N, C, H, W) in [0, 1], at least 8; a tensor, or an array,
            list, ``Dataset``, ``DataLoader`` or :class:`~dipa.data.ImageSet` of them.
        test: images that the table is about; None holds some of ``images`` back for it.
        solver: prior, K, momentum and start; by default the packaged denoiser on each channel in
            the precision ``auto``, K = 20. Steps fitted in closed form start at zero: what is
            not measured is then in the first gradient too. The ridge predictor tries both.
        teacher: operator of the teacher of L-DIPA and N-DIPA; None trains them supervised.
        budget: of their training; None leaves them out.
        methods: the names of those to compare, as in the table; None for all.
        total_variation: whether 1/L, HQS, filters and combined steps also run with deepinv's
            total variation in the place of the solver's denoiser, its level chosen too.
        held: images to test on, at least 2, at most a quarter of all; half as many to choose by.
        limit: iterations of the plain run whose end is taken for its limit: the table then says
            when each method comes within 1 % of it (PETRIC's rule). 0 leaves that out.
        seed: of the split, the noise and the trainings.
        progress: show a bar.

    Returns:
        :class:`Comparison`: printed, it is the table with one sentence of advice.

    Raises:
        InputError: too few images; an operator that is not linear or whose adjoint is none; unknown
            methods.

    Source: the time to 1 % of a converged reference is the rule of the PETRIC challenge of the
    SyneRBI community.
    """
    chosen, images = _chosen(methods), images_of("images", images)
    require_images("images", images)
    solver = FISTA(PnP(denoisers.load().to(images), precision="auto")) if solver is None else solver
    require_kind("solver", solver, FISTA)
    if budget is not None:
        require_kind("budget", budget, Budget)
    require_int("images", len(images), FEWEST)
    held, limit = require_int("held", held, 2), require_int("limit", limit, 0)
    seed, tv = require_int("seed", seed, 0), require_flag("total_variation", total_variation)
    progress = require_flag("progress", progress)
    solver.check(require_takes("physics", physics, images, several=True))
    require_adjoint("physics", physics, images)
    require_repeats(solver, images)
    warn_range("images", images, physics)
    if test is not None:
        test = images_of("test", test)
        require_images("test", test, tuple(images.shape[1:]))
    parts = shares(len(images), held, seed, apart=test is not None)
    problem = Problem(solver, physics, images[parts[0]], teacher, budget, seed)
    groups = [Group.of(physics, images, index, seed) for index in parts[1:]]
    if test is not None:
        groups.append(Group.of(physics, test, torch.arange(len(test)), seed + 1))
    counts = {"to fit": len(parts[0])}
    for use, group in zip(("to choose", "to test"), groups, strict=True):
        counts[use] = len(group.x)
    rows, absent = _rows(problem, groups, limit, chosen, tv, progress)
    reasons = "; ".join(f"{name} ({reason})" for name, reason in absent.items())
    require(len(rows) > 0, "methods", f"none that can run here: {reasons}", "at least one that can")
    size = problem.size
    return Comparison(type(physics).__name__, size, counts, _sorted(rows), absent)


def _chosen(methods: Sequence[str] | None) -> tuple[Method, ...]:
    names: Any = NAMES if methods is None else methods
    known = in_a_row(names) and len(names) > 0 and all(name in NAMES for name in names)
    require(known, "methods", methods, f"some of {', '.join(NAMES)}")
    return tuple(method for method in METHODS if method.name in list(names))


def _rows(
    problem: Problem,
    groups: list[Group],
    limit: int,
    methods: tuple[Method, ...],
    tv: bool,
    progress: bool,
) -> tuple[list[_Row], dict[str, str]]:
    """A row for each method that runs, and why the others are absent."""
    choose, test = groups
    tested = test.with_limit(problem.solver, limit)
    plans = [(method, problem, "", tested) for method in methods]
    if tv:
        tv_problem, level = _with_total_variation(problem, choose)
        seen = test.with_limit(tv_problem.solver, limit)
        names = [method for method in methods if method.name in WITH_TV]
        plans += [(method, tv_problem, f"{TV} {level}", seen) for method in names]
    rows, absent = [], {}
    for method, where, prior, group in tqdm(plans, disable=not progress, desc="compare"):
        reason = method.absent(where)
        if not reason:
            try:
                rows.append(_best(method, where, prior, choose, group))
            except (InputError, *FOREIGN) as error:
                reason = str(error) or type(error).__name__
        if reason:
            absent[method.name] = reason
    return rows, absent


def _with_total_variation(problem: Problem, choose: Group) -> tuple[Problem, str]:
    """The problem with total variation for a prior, its level by plain runs, and that level."""
    tv_problem = replace(problem, solver=total_variation(problem))
    _, way, _ = _highest(_tried(levels(tv_problem), choose))
    level = way.text.split()[-1]
    prior = replace(tv_problem.solver.prior, sigma=float(level))
    return replace(tv_problem, solver=replace(tv_problem.solver, prior=prior)), level


@dataclass(frozen=True)
class _Row:
    """A method with its chosen setting, and its curve on the test images."""

    method: Method
    prior: str
    way: Way
    k: int
    validation: float
    curve: Curve


Tried = tuple[float, Way, int]


def _tried(ways: Iterable[Way], group: Group) -> list[Tried]:
    """(PSNR, setting, k) of each at the soonest iteration that is as good as its best; a run that
    cannot reach the best before it is not run to its end. Of the best setting its variant, too.
    """
    tried: list[Tried] = []
    for way in ways:
        tried.append(_try(way, tried, group))
    variant = _highest(tried)[1].variant
    return tried if variant is None else [*tried, _try(variant, tried, group)]


def _try(way: Way, before: list[Tried], group: Group) -> Tried:
    target = max((quality for quality, *_ in before), default=-math.inf)
    curve = way.run(replace(group, target=target), 0)
    return curve.psnr[curve.soonest], way, curve.soonest


def _highest(tried: list[Tried]) -> Tried:
    return max(tried, key=lambda one: one[0])


def _best(method: Method, problem: Problem, prior: str, choose: Group, test: Group) -> _Row:
    """The setting and the iteration that are best on the validation images, on the test images."""
    quality, way, k = _highest(_tried(method.ways(problem), choose))
    long = PATIENCE * problem.iterations  # until the limit, where that is known
    return _Row(method, prior, way, k, quality, way.run(test, k if test.limit is None else long))


def _sorted(rows: list[_Row]) -> tuple[Row, ...]:
    """The rows with their seconds to the target: who reaches it first, then by PSNR."""
    upto = [row.curve.upto(row.k) for row in rows]
    target = max(curve.psnr[-1] for curve in upto) - NEAR
    timed = [
        Row(
            row.method.name,
            row.method.family,
            row.prior,
            row.way.text,
            row.k,
            row.validation,
            curve.psnr[-1],
            curve.seconds[-1],
            row.way.setup,
            row.way.fit,
            row.way.numbers,
            _with(row.way.setup, curve.seconds_to(target)),
            _with(row.way.setup, row.curve.seconds_within(CLOSE)),
            list(zip(curve.seconds, curve.psnr, strict=True)),
        )
        for row, curve in zip(rows, upto, strict=True)
    ]
    return tuple(
        sorted(timed, key=lambda row: (row.to_target is None, row.to_target or 0.0, -row.psnr))
    )


def _with(setup: float, seconds: float | None) -> float | None:
    return None if seconds is None else setup + seconds
