"""Step lengths from a network: what scaled gradient projection is offered in every iteration."""

from __future__ import annotations

import math
from typing import Any

import deepinv
import torch
from torch import nn

from .. import seeding
from ..checks import (
    plain_value,
    require,
    require_choice,
    require_img_size,
    require_int,
    require_number,
    require_same_images,
    require_same_shape,
)
from ..storage import Trained

LENGTHS = ("image", "entry")
MOST = 8.0  # of the exponent: lengths between 1/3000 and 3000 times 1/L
MAX_WIDTH = 2**13  # of the coarsest scale


class StepNetwork(Trained):
    r"""Step lengths for :class:`~dipa.solvers.SGP`: one for each image, or one for each entry.

    .. math::
        D=\frac1L\exp\Big(U_\theta\big(x/s_x,\ \nabla g(x)/s_g\big)\Big)

    U is a U-Net, its last layer zero at first, so that an untrained network gives steps of 1/L; s
    are root mean squares, image by image, so that neither the units of the operator nor the
    distance to the solution show. The iteration is not told.

    Args:
        img_size: (C, H, W) of what the solver iterates on, such as wavelet coefficients.
        lengths: ``image`` (B,): the U-Net's output goes through one fully connected layer; or
            ``entry`` (B, C, H, W).
        features: width of the first scale, doubled at each.
        blocks: scales, at least 2.
        norm: L > 0.
        seed: of the weights.

    Raises:
        InputError: sizes out of range; at the call, images of another size.

    Source: "Accelerating Optimization Algorithms With Dynamic Parameter Selections Using CNNs"
    (arXiv 1902.02449), sections 4.1 and 6.1: 3 x 3 convolutions, batch normalisation, ReLU, max
    pooling, skip connections, 7 million numbers, here deepinv's U-Net. The exponential and the two
    root mean squares are readings of "positive real numbers" and "normalized gradients".
    """

    kind = "step-network"

    def __init__(
        self,
        img_size: tuple[int, int, int],
        *,
        lengths: str = "image",
        features: int = 64,
        blocks: int = 4,
        norm: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        self.img_size = require_img_size(img_size)
        require_choice("lengths", lengths, LENGTHS)
        self.lengths = lengths
        self.features = require_int("features", plain_value(features), 1)
        self.blocks = require_int("blocks", plain_value(blocks), 2)
        self.norm = float(require_number("norm", norm, 0, open_low=True))
        widest = self.features * 2 ** (self.blocks - 1)
        allowed = f"at most {MAX_WIDTH:,}"
        require(widest <= MAX_WIDTH, "features and blocks", f"a scale {widest:,} wide", allowed)
        channels, widths = self.img_size[0], [self.features * 2**i for i in range(self.blocks)]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(
                seeding.derive(require_int("seed", seed, 0), "steps")
            )
            self.network = deepinv.models.UNet(
                2 * channels,
                channels,
                residual=False,
                channels_per_scale=widths,
                device=torch.empty(0).device,
            )
            self.last = nn.Linear(math.prod(self.img_size), 1) if lengths == "image" else None
        for parameter in (self.last or self.network.Conv_1x1).parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor, gradient: torch.Tensor, k: int = 0) -> torch.Tensor:
        """D, (B,) or (B, C, H, W), of iterates x and their data gradients, (B, C, H, W); k is not
        used.
        """
        require_same_images(x=x)
        require_same_shape("gradient", gradient, x)
        require(
            tuple(x.shape[1:]) == self.img_size, "x.shape", tuple(x.shape), f"(B, {self.img_size})"
        )
        found = self.network(torch.cat([_unit(x), _unit(gradient)], dim=1))
        exponent = found if self.last is None else self.last(found.flatten(1)).squeeze(1)
        return exponent.clamp(-MOST, MOST).exp() / self.norm

    def header(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        same = ("lengths", "features", "blocks", "norm")
        return {"img_size": list(self.img_size)} | {name: getattr(self, name) for name in same}


def _unit(images: torch.Tensor) -> torch.Tensor:
    """Divided by their root mean squares, image by image; zero stays zero."""
    scale = images.square().flatten(1).mean(dim=1).sqrt().reshape(-1, 1, 1, 1)
    return images / torch.where(scale > 0, scale, 1)
