"""What a trained preconditioner is worth beside what needs no training."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..checks import FOREIGN, InputError, shorter
from ..preconditioners import Preconditioner
from .ridge import choose
from .validation import HeldGroups

LONGEST = 30  # iterations, or 3 K where that is more, in which 1/L may find its best one


@dataclass(frozen=True)
class Worth:
    """What a trained P reaches on held-out images, beside what needs no training: mean PSNR in
    dB; why there is no closed form where there is none.
    """

    images: int
    iterations: int
    trained: float
    start: float
    without: float
    steps: tuple[int, float]
    closed_form: float | None
    no_closed_form: str = ""

    def __str__(self) -> str:
        k, steps = self.steps
        reason = f" ({self.no_closed_form})" if self.no_closed_form else ""
        ridge = f"not computed{reason}" if self.closed_form is None else f"{self.closed_form:.2f}"
        text = (
            f"PSNR on {self.images} held-out images, K = {self.iterations}: trained P "
            f"{self.trained:.2f} dB; no P {self.without:.2f}; steps 1/L at their best k = {k} "
            f"{steps:.2f}; closed form {ridge}"
        )
        return text + (f". {advice}" if (advice := self.advice) else "")

    @property
    def advice(self) -> str:
        """What to do instead where training was not worth it; empty where it was."""
        free = {"steps 1/L stopped in time": self.steps[1], "no P": self.without}
        if self.closed_form is not None:
            free["the closed form (dipa.training.fit_ridge)"] = self.closed_form
        best = max(free, key=lambda name: free[name])
        return f"Do not train: use {best}" if free[best] > self.trained else ""


def worth(
    held: HeldGroups,
    P: Preconditioner,
    start: float,
    images: torch.Tensor,
    closed_form: bool,  # noqa: N803
) -> Worth:
    """Compare P on the held-out images; ``start`` is its quality before training, ``images`` what
    the closed form may use.
    """
    iterations = held.solver.iterations
    ridge, reason = _closed_form(held, images) if closed_form else (None, "")
    return Worth(
        len(held),
        iterations,
        held.psnr(P),
        start,
        held.psnr(),
        held.best_iteration(max(LONGEST, 3 * iterations)),
        ridge,
        reason,
    )


def _closed_form(held: HeldGroups, images: torch.Tensor) -> tuple[float | None, str]:
    """Its quality; where the operator has none, why: what was trained is not lost for it."""
    try:
        P, _ = choose(held.groups[0], images, planes=images.shape[1] > 1)
        return held.psnr(P), ""
    except (InputError, *FOREIGN) as error:
        return None, shorter(str(error))
