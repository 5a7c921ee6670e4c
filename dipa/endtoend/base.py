"""What every end-to-end network shares: the call with an operator, the door check, seeded
weights, the saved header.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .. import seeding
from ..checks import (
    foreign,
    require,
    require_choice,
    require_img_size,
    require_int,
    require_real,
    require_tensor,
)
from ..physics import require_beside, require_like, require_operator
from ..solvers import STARTS
from ..storage import Trained

MAX_SIZE = {"features": 512, "blocks": 64}


class EndToEnd(Trained):
    r"""``network(y, physics) -> x``: a reconstruction :math:`f_\theta(y,H)`, (B, C, H, W), from
    measurements as H makes them.

    The operator is an argument, so a network trained with one operator runs with any other on
    images of its channels. No layer looks across the batch: every image is treated alone, in
    training as in evaluation. The last layers start at zero, so that an untrained network gives its
    start, with no more than data consistency applied.

    Args:
        img_size: (C, H, W) of the images.
        start: the image the network begins from; a name of :data:`dipa.solvers.STARTS`.
        size: the numbers that decide the network's size, each an integer >= 1, kept for
            :meth:`header`.

    Raises:
        InputError: sizes that are not positive integers, an unknown start; at the call,
            measurements the operator cannot use or images with other channels.
    """

    def __init__(self, img_size: tuple[int, int, int], start: str, **size: int):
        super().__init__()
        self.img_size = require_img_size(img_size)
        require_choice("start", start, STARTS)
        self.start, self.size = (
            start,
            {what: require_int(what, number, 1, MAX_SIZE[what]) for what, number in size.items()},
        )

    def forward(self, y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
        """The reconstruction from measurements ``y`` of the operator ``physics``."""
        return self.reconstruct(self._begin(y, physics), y, physics)

    def reconstruct(self, x: torch.Tensor, y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
        """The reconstruction from the starting image ``x``."""
        raise TypeError(f"{type(self).__name__} does not define reconstruct")

    def header(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        return {"img_size": list(self.img_size), "start": self.start, **self.size}

    def _begin(self, y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
        require_operator("physics", physics)
        require_tensor("y", y, "a tensor of measurements")
        require_real("y", y)
        require_beside("y", y, "physics", physics)
        kind = type(physics).__name__
        with foreign(
            "y", f"shape {tuple(y.shape)}, {y.dtype} on {y.device}", f"measurements of this {kind}"
        ):
            x = STARTS[self.start](y, physics)
        channels = self.img_size[0]
        require(
            x.ndim == 4 and x.shape[1] == channels,
            "physics",
            f"{kind} on images {tuple(x.shape[1:])}",
            f"{channels} channels",
        )
        require_like("network", self, x)
        return x


@contextmanager
def seeded(seed: int, name: str) -> Iterator[None]:
    """Torch's layers draw their first weights from (seed, name) inside; the global generator is
    left as it was.
    """
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(
        seeding.derive(require_int("seed", seed, 0), "end-to-end", name)
    )
    try:
        yield
    finally:
        torch.set_rng_state(state)


def zero(layer: nn.Module) -> None:
    """Set all parameters of ``layer`` to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
