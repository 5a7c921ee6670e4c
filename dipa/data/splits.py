"""Train and test without overlap: contiguous blocks with a gap, or whole patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from .. import seeding
from ..checks import require

TRAIN_FRACTION = 0.8


def blocks(
    name: str, count: int, split: str, *, gap: int, fraction: float = TRAIN_FRACTION
) -> range:
    """Indices of a split of ``count`` items in a row: test is what follows the first ``fraction``,
    train what precedes.

    The last ``gap`` items before the test block are in neither split, so that neighbours (slices of
    one head, pictures of one person) do not fall on both sides.

    Raises:
        InputError: too few items for both splits.
    """
    border = int(count * fraction)
    allowed = (
        f"enough for two splits (the first {fraction:.4g} of them must exceed the gap of {gap})"
    )
    require(gap < border < count, f"{name}: images", count, allowed)
    return range(border - gap) if split == "train" else range(border, count)


def by_patient(name: str, patients: np.ndarray, split: str) -> list[int]:
    """Indices of a split where no patient is in both: the last fifth of the sorted patients, at
    least one, is test.

    Raises:
        InputError: fewer than two patients.
    """
    people = np.unique(patients)
    require(
        len(people) > 1,
        f"{name}: patients",
        len(people),
        "at least 2 (without 'patient' the split is by slice)",
    )
    held_out = people[-max(round(len(people) * (1 - TRAIN_FRACTION)), 1) :]
    test = np.isin(patients, held_out)
    return np.flatnonzero(test if split == "test" else ~test).tolist()


def shuffled(indices: Sequence[int], *stream: str) -> list[int]:
    """The indices in a fixed order that depends on ``stream`` alone, so that the first few are
    a fair sample.
    """
    order = torch.randperm(len(indices), generator=seeding.generator(0, *stream))
    return [indices[i] for i in order]
