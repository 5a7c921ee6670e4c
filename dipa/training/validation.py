"""Held-out images: which they are, how well a P does on them, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .. import metrics, seeding
from ..operators.measure import measure
from ..solvers import FISTA
from ..solvers.setting import another_setting

LOOKS = 10  # at the held-out images in one training at most, the start beside
PATIENCE = 4  # looks without a better P after which training stops
MOST = 16  # images held out: what a look may cost


def held_out(count: int, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers of the images to train on, and of those held out: a share of ``count``, at most
    ``MOST``, drawn by ``seed``; both in increasing order.
    """
    most = min(MOST, int(share * count + 0.5), count - 1)
    if not most:
        return torch.arange(count), torch.arange(0)
    order = torch.randperm(count, generator=seeding.generator(seed, "held out"))
    return order[most:].sort().values, order[:most].sort().values


@dataclass(frozen=True)
class Held:
    """Held-out images with their measurements, and the run they are reconstructed by."""

    solver: FISTA
    physics: LinearPhysics
    x: torch.Tensor
    y: torch.Tensor
    stepsize: float | str

    @classmethod
    def of(
        cls,
        solver: FISTA,
        physics: LinearPhysics,
        images: torch.Tensor,
        index: torch.Tensor,
        stepsize: float | str,
        seed: int,
    ) -> Held:
        """The images with these numbers."""
        x = images[index]
        return cls(solver, physics, x, measure(physics, x, seed=seed, indices=index), stepsize)

    @property
    def alpha(self) -> float:
        """The stepsize as a number."""
        size = tuple(self.x.shape[1:])
        return cast(float, self.solver.stepsize(self.stepsize, self.physics, size, self.x))

    def psnr(self, preconditioner: Any = None) -> float:
        """Mean PSNR in dB after K iterations; minus infinity where the run diverges."""
        with another_setting():
            result = self.solver(
                self.y, self.physics, preconditioner=preconditioner, stepsize=self.stepsize
            )
        if result.status == "diverged":
            return -float("inf")
        return metrics.psnr(result.x, self.x).mean().item()

    def curve(self, iterations: int) -> list[float]:
        """Mean PSNR of every iterate of a run by 1/L without a preconditioner, from the start to
        the last that is finite.
        """
        long = replace(self.solver, iterations=iterations, tolerance=0.0)
        history = long(self.y, self.physics, stepsize="1/L", x_true=self.x, history=True).history
        return [record["psnr"] for record in history]


@dataclass(frozen=True)
class HeldGroups:
    """Held-out images in groups, each seen by an operator of its own; means are over all images."""

    groups: tuple[Held, ...]

    @property
    def solver(self) -> FISTA:
        """The run of all."""
        return self.groups[0].solver

    def __len__(self) -> int:
        return sum(len(group.x) for group in self.groups)

    def psnr(self, preconditioner: Any = None) -> float:
        """Mean PSNR in dB after K iterations; minus infinity where a run diverges."""
        return self._mean([group.psnr(preconditioner) for group in self.groups])

    def best_iteration(self, iterations: int) -> tuple[int, float]:
        """(k, mean PSNR) of the best iterate of runs by 1/L without a preconditioner."""
        curves = zip(*(group.curve(iterations) for group in self.groups), strict=False)
        means = [self._mean(list(values)) for values in curves]
        k = max(range(len(means)), key=means.__getitem__)
        return k, means[k]

    def _mean(self, values: list[float]) -> float:
        sizes = [len(group.x) for group in self.groups]
        return sum(size * value for size, value in zip(sizes, values, strict=True)) / len(self)


@dataclass
class Validation:
    """Looks at the held-out images while training goes on: keeps the best P, says when to stop.

    Attributes:
        quality: gives the mean PSNR in dB on the held-out images; minus infinity where a run
            diverges.
        steps: of the whole training.
        apart: the fewest steps between two looks, so that looking costs less than training.
        since: the step from which looks that find nothing better may end the training.
        looks: (step, quality) so far; step 0 is the start.
        best: the tensors of the best P so far.
    """

    quality: Callable[[], float]
    steps: int
    apart: int = 1
    since: int = 0
    looks: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    def due(self, step: int) -> bool:
        """Whether to look after ``step``: at the start, up to ten times on the way, at the end."""
        return step % max(self.apart, math.ceil(self.steps / LOOKS)) == 0 or step == self.steps

    def look(self, module: nn.Module, step: int) -> None:
        """Measure the module as it is after ``step``; keep its tensors where it is the best."""
        quality = self.quality()
        if not self.best or quality > self.best_look[1]:
            self.best = {
                name: tensor.detach().clone() for name, tensor in module.state_dict().items()
            }
        self.looks.append((step, quality))

    @property
    def best_look(self) -> tuple[int, float]:
        """(step, quality) of the best P so far: of equal ones the first."""
        return max(self.looks, key=lambda look: look[1])

    @property
    def exhausted(self) -> bool:
        """Whether the last looks found nothing better."""
        steps = [step for step, _ in self.looks]
        best = self.best_look[0] if self.looks else 0
        return sum(step > max(best, self.since) for step in steps) >= PATIENCE

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"looks": [list(look) for look in self.looks], "best": self.best}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.looks = [(int(step), float(quality)) for step, quality in saved["looks"]]
        self.best = dict(saved["best"])
