"""Held-out images: which P is the best so far, when to stop, and what training is worth beside
what needs none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .. import seeding

LOOKS = 10  # at the held-out images in one training, the start beside
PATIENCE = 4  # looks without a better P after which training stops
MOST = 64  # images held out: what a look may cost


def held_out(count: int, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers of the images to train on, and of those held out: a share of ``count``, at most
    ``MOST``, drawn by ``seed``; both in increasing order.
    """
    most = min(MOST, int(share * count + 0.5))
    if not most:
        return torch.arange(count), torch.arange(0)
    order = torch.randperm(count, generator=seeding.generator(seed, "held out"))
    return order[most:].sort().values, order[:most].sort().values


@dataclass
class Validation:
    """Looks at the held-out images while training goes on: keeps the best P, says when to stop.

    Attributes:
        quality: gives the mean PSNR in dB on the held-out images; minus infinity where a run
            diverges.
        steps: of the whole training.
        looks: (step, quality) so far; step 0 is the start.
        best: the tensors of the best P so far.
    """

    quality: Callable[[], float]
    steps: int
    looks: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    def due(self, step: int) -> bool:
        """Whether to look after ``step``: at the start, ten times on the way, at the end."""
        return step % max(1, math.ceil(self.steps / LOOKS)) == 0 or step == self.steps

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
        best = self.looks.index(self.best_look) if self.looks else 0
        return len(self.looks) - 1 - best >= PATIENCE

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"looks": [list(look) for look in self.looks], "best": self.best}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.looks = [(int(step), float(quality)) for step, quality in saved["looks"]]
        self.best = dict(saved["best"])
