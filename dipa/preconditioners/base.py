"""The contract every preconditioner keeps, and the identity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Traits:
    """What a method may rely on: is P linear in the gradient, and does it change with the iteration number."""

    linear: bool
    iteration_dependent: bool


class Preconditioner(nn.Module):
    r"""``P(gradient, iterate, k) -> direction``: images (B, C, H, W) in and out, k the iteration from 1.

    A preconditioner says *where* to go; the stepsize :math:`\alpha` says how far, and neither looks at the other.
    Every image of a batch is treated alone.
    """

    traits: Traits

    @property
    def parameter_count(self) -> int:
        """Number of trainable numbers."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


class Identity(Preconditioner):
    """P = I: the unpreconditioned baseline."""

    traits = Traits(linear=True, iteration_dependent=False)

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The gradient itself."""
        return gradient
