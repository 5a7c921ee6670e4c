"""Budgets one after the other: which one a step belongs to, the images it draws, its optimiser and
learning rate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import nn

from .. import seeding
from ..settings import Budget

WARM_UP = 0.05


@dataclass(frozen=True)
class Plan:
    """The budgets of a training, one after the other; steps are counted through all of them, from
    0.
    """

    budgets: tuple[Budget, ...]

    @property
    def steps(self) -> int:
        """Of all budgets."""
        return sum(budget.steps for budget in self.budgets)

    def place(self, step: int) -> tuple[int, int]:
        """The number of the budget that ``step`` belongs to, and how many steps of it are before;
        what comes after the last step belongs to the last budget.
        """
        ends = list(accumulate(budget.steps for budget in self.budgets))
        number = next((n for n, end in enumerate(ends) if step < end), len(ends) - 1)
        return number, step - (ends[number] - self.budgets[number].steps)

    def batch(self, count: int, step: int, seed: int) -> torch.Tensor:
        """The numbers of the images that ``step`` draws from ``count``."""
        number, within = self.place(step)
        size = self.budgets[number].batch_size
        return seeding.batch_indices(count, size, within, _seed(seed, number))

    def drawn(self, count: int, seed: int) -> torch.Tensor:
        """The numbers of the images that any step draws, each once, in increasing order."""
        parts = [
            seeding.drawn(count, budget.batch_size, budget.steps, _seed(seed, number))
            for number, budget in enumerate(self.budgets)
        ]
        return torch.cat(parts).unique()


def _seed(seed: int, number: int) -> int:
    """Every budget has an order of its own."""
    return seed if number == 0 else seeding.derive(seed, "phase", number)


def optimizer_of(parameters: list[nn.Parameter], budget: Budget) -> torch.optim.Optimizer:
    """The optimiser of a budget, fresh."""
    makers = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return makers[budget.optimizer](
        parameters, lr=budget.learning_rate, weight_decay=budget.weight_decay
    )


def scheduler_of(optimizer: torch.optim.Optimizer, budget: Budget) -> Any:
    """Its learning-rate schedule, at its beginning."""
    if budget.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=budget.factor, patience=budget.patience
        )
    if budget.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget.steps)
    if budget.schedule == "one_cycle":
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: one_cycle(step / budget.steps)
        )
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def one_cycle(progress: float) -> float:
    """The rate over its peak: up a line in the first 5 percent, then half a cosine to 1 percent."""
    if progress < WARM_UP:
        return progress / WARM_UP
    phase = (progress - WARM_UP) / (1 - WARM_UP)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase))
