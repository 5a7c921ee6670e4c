"""Runs on a group of images, as curves of PSNR against seconds."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from deepinv.physics import LinearPhysics

from .. import metrics, seeding
from ..operators.measure import measure
from ..solvers import FISTA
from ..solvers.loop import State
from ..solvers.proximal import Start, started
from ..solvers.setting import another_setting

WAIT, LEAST = 10, 0.02  # iterations in which a run must gain so many dB to go on


@dataclass(frozen=True)
class Group:
    """Images with their measurements, the limit of the plain run on them, where it is known, and
    the PSNR that a run has to reach to be of interest.
    """

    physics: LinearPhysics
    x: torch.Tensor
    y: torch.Tensor
    limit: torch.Tensor | None = None
    target: float = -math.inf

    @classmethod
    def of(
        cls, physics: LinearPhysics, images: torch.Tensor, index: torch.Tensor, seed: int
    ) -> Group:
        """The images with these numbers."""
        x = images[index]
        return cls(physics, x, measure(physics, x, seed=seed, indices=index))

    def with_limit(self, solver: FISTA, iterations: int) -> Group:
        """With the plain run after so many iterations by 1/L for its limit; 0 leaves it unknown."""
        if not iterations:
            return self
        long = replace(solver, iterations=iterations, momentum="nesterov", restart=50)
        return replace(self, limit=long(self.y, self.physics, stepsize="1/L").x)


@dataclass(frozen=True)
class Curve:
    """A run: mean PSNR in dB after k = 0, 1, ... iterations, the seconds until then, and the mean
    relative distance to the limit of the plain run (empty where that is unknown).
    """

    psnr: list[float]
    seconds: list[float]
    distance: list[float]

    @property
    def best(self) -> int:
        """The iteration of the highest PSNR."""
        return max(range(len(self.psnr)), key=self.psnr.__getitem__)

    @property
    def soonest(self) -> int:
        """The first iteration that is less than ``LEAST`` dB below the highest PSNR."""
        return next(k for k, psnr in enumerate(self.psnr) if psnr > self.psnr[self.best] - LEAST)

    def upto(self, k: int) -> Curve:
        """The first k iterations."""
        return Curve(*(values[: k + 1] for values in (self.psnr, self.seconds, self.distance)))

    def seconds_to(self, psnr: float) -> float | None:
        """When the PSNR is reached; None for never."""
        return next(
            (at for at, reached in zip(self.seconds, self.psnr, strict=True) if reached >= psnr),
            None,
        )

    def seconds_within(self, share: float) -> float | None:
        """When the distance falls to ``share`` for good; None for never, or not known."""
        far = [k for k, distance in enumerate(self.distance) if not distance <= share]
        first = far[-1] + 1 if far else 0
        return self.seconds[first] if first < len(self.distance) else None


def worth_more(psnr: list[float], left: int, target: float) -> bool:
    """Whether a run still gets better in its last ``WAIT`` iterations, and may reach the target in
    those that are ``left`` at twice its pace.
    """
    best = max(psnr[-WAIT:])
    gained = best - max(psnr[:-WAIT] or psnr[:1])
    return gained >= LEAST and best + 2 * gained * left / WAIT >= target


class Enough(Exception):
    """A run that does not get better any more."""


class Watch:
    """Collects a curve of at most ``iterations``; its own seconds do not count. Ends the run after
    ``exactly`` so many; of 0 where the last ``WAIT`` gained less than ``LEAST`` dB, or too little
    for the target of the group to be reached at twice that pace.
    """

    def __init__(self, group: Group, exactly: int = 0, iterations: int = 0):
        self.group, self.exactly, self.iterations = group, exactly, iterations
        self.curve, self.spent = Curve([], [], []), 0.0
        self.began = time.perf_counter()

    def __call__(self, state: State) -> None:
        """Take down one state."""
        self.see(state.x)

    def see(self, x: torch.Tensor) -> None:
        """Take down one iterate; one that is not finite ends the run before."""
        _wait(x)
        now = time.perf_counter()
        if not bool(x.isfinite().all()):
            raise Enough
        self.curve.seconds.append(now - self.began - self.spent)
        self.add(x)
        self.spent += time.perf_counter() - now
        if self._enough():
            raise Enough

    def _enough(self) -> bool:
        psnr = self.curve.psnr
        if self.exactly:
            return len(psnr) > self.exactly
        left = self.iterations + 1 - len(psnr)
        return len(psnr) > WAIT and not worth_more(psnr, left, self.group.target)

    @torch.no_grad()
    def add(self, x: torch.Tensor) -> None:
        """Measure one iterate."""
        group = self.group
        self.curve.psnr.append(metrics.psnr(x, group.x).mean().item())
        if group.limit is not None:
            far = (x - group.limit).flatten(1).norm(dim=1) / group.limit.flatten(1).norm(dim=1)
            self.curve.distance.append(far.mean().item())


def solved(
    solver: FISTA,
    group: Group,
    preconditioner: Any,
    stepsize: float | str,
    iterations: int,
    exactly: int = 0,
) -> Curve:
    """The curve of our solver; it ends where the run diverges, and after ``exactly`` so many
    iterations; of 0 where it gets no better.
    """
    long = replace(solver, iterations=iterations)
    watch = Watch(group, exactly, iterations)
    with another_setting(), contextlib.suppress(Enough):
        long(
            group.y,
            group.physics,
            preconditioner=preconditioner,
            stepsize=stepsize,
            observe=watch,
        )
    return watch.curve


def modelled(
    make: Callable[[int], Any], start: Start, iterations: int, group: Group, exactly: int = 0
) -> Curve:
    """The curve of the deepinv model that ``make`` gives of so many iterations, from a start of
    ours; it ends as that of :func:`solved` does.
    """
    model, watch = make(exactly or iterations), Watch(group, exactly, iterations)
    loop = model.fixed_point
    loop.init_metrics_fn = lambda X, **_: watch.see(model.get_output(X))  # noqa: N803
    loop.update_metrics_fn = lambda metrics, before, X, **_: watch.see(  # noqa: N803
        model.get_output(X)
    )
    with contextlib.suppress(Enough), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="least_squares_implicit_backward")
        begin = started(start, group.y, group.physics)
        model(group.y, group.physics, init=(begin, begin), compute_metrics=True)
    return watch.curve


def _wait(images: torch.Tensor) -> None:
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)


def shares(count: int, held: int, seed: int, apart: bool = False) -> list[torch.Tensor]:
    """The numbers of the images to fit on, to choose by, and, unless test images are ``apart``, to
    test on: ``held`` of the last, at most a quarter of all, and half as many to choose by.
    """
    tested = max(2, min(held, count // 4))
    order = torch.randperm(count, generator=seeding.generator(seed, "compared"))
    sizes = [tested // 2] if apart else [tested // 2, tested]
    parts = order.split([count - sum(sizes), *sizes])
    return [part.sort().values for part in parts]
