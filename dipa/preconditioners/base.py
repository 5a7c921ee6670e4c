"""The contract every preconditioner keeps, what a saved one says about itself, and the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from ..adjoint import Measurements
from ..checks import foreign, require, require_int, require_tensor
from ..physics import require_like
from ..storage import Trained
from .trust import trusted

MAX_NUMBERS = 2**32  # of one preconditioner: sixteen gigabytes in float32
COPIES = 4  # of P in training: itself, its gradient, two moments of Adam


@dataclass(frozen=True)
class Traits:
    """What a method may rely on: is P linear in the gradient, and does it change with the
    iteration number.
    """

    linear: bool
    iteration_dependent: bool


class Preconditioner(Trained):
    r"""``P(gradient, iterate, k) -> direction``: images (B, C, H, W) in and out, k the iteration
    from 1.

    A preconditioner says *where* to go; the stepsize :math:`\alpha` says how far, and neither looks
    at the other. Every image of a batch is treated alone.

    Fixed preconditioners leave ``kind`` empty: they are made from their operator.

    ``setting`` holds what was fixed when it was made (stepsize, K, momentum, start; identity of
    prior, denoiser, operator and training images; ``trust``, by which images of another kind are
    told) as plain values, empty where nothing was: :class:`~dipa.solvers.FISTA` steps by its
    stepsize, says what differs and leaves images of another kind alone; files keep it.
    """

    traits: Traits
    setting: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.setting = {}

    # what a solver calls in every iteration, once check() has seen the images
    unchecked = nn.Module.__call__

    def __call__(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The direction; images that do not fit this preconditioner, and a k below 1 where that
        matters, are refused.
        """
        require_tensor("gradient", gradient, "a tensor (B, C, H, W)")
        k = require_int("k", k, 1) if self.traits.iteration_dependent else k
        got = f"{tuple(gradient.shape)}, {gradient.dtype} on {gradient.device}"
        with foreign("gradient", got, f"images that this {type(self).__name__} takes"):
            self.require_fits(gradient)
            return self.unchecked(gradient, iterate, k)

    def check(self, images: torch.Tensor) -> None:
        """Refuse images (B, C, H, W) that this preconditioner cannot work on, before a run
        starts: size, dtype and device.
        """
        self.require_fits(images)
        require_like("preconditioner", self, images)

    def on(self, physics: LinearPhysics) -> Preconditioner:
        """This P as it acts with one operator: itself, unless it is made of the operator it is
        used with.
        """
        return self

    def trusts(self, physics: LinearPhysics, y: Measurements) -> torch.Tensor | None:
        """Which of the images measured as ``y`` are of the kind it was made of (B,), true or false,
        see :mod:`dipa.preconditioners.trust`; None where it does not know.
        """
        known = self.setting.get("trust")
        return trusted(known, self.on(physics), physics, y) if known else None

    def require_fits(self, images: torch.Tensor) -> None:
        """Refuse images (B, C, H, W) of a size that this preconditioner was not made for; by
        default it takes any.
        """


class Identity(Preconditioner):
    """P = I: the unpreconditioned baseline."""

    traits = Traits(linear=True, iteration_dependent=False)

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The gradient itself."""
        return gradient


def require_planes(images: torch.Tensor, img_size: tuple[int, int, int]) -> None:
    """Refuse images (B, C, H, W) that are not images of ``img_size``, each or, where that has one
    channel, channel by channel.

    Parameters of size (1, H, W) treat every channel as an image of its own (the papers' complex MRI
    images: one P for real and imaginary parts): ``images.reshape(-1, *img_size)``.
    """
    channels, *sides = img_size
    fits = images.ndim == 4 and list(images.shape[2:]) == sides and channels in (1, images.shape[1])
    require(
        fits,
        "gradient.shape",
        tuple(images.shape),
        f"(B, {channels if channels > 1 else 'C'}, {sides[0]}, {sides[1]})",
    )
