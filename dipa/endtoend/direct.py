"""Image-to-image networks on a starting image: the operator enters by the start alone.
Restormer and U-Net, both deepinv's.
"""

from __future__ import annotations

import deepinv
import torch
from deepinv.physics import LinearPhysics

from ..checks import require
from ..networks.backbone import pad_to_multiple
from .base import EndToEnd, seeded, zero

MAX_WIDTH = 2**13  # of the U-Net's coarsest scale


class Restormer(EndToEnd):
    r"""Restormer on the starting image: :math:`x^0+R(x^0)`.

    Args:
        img_size: (C, H, W); any sides, padded to multiples of 8 inside.
        features: even width of the first of four levels, doubled at each (48 in the original).
        blocks: transformer blocks of the first level and of the refinement; the others keep the
            original's ratios 4 : 6 : 6 : 8, rounded up (4 in the original).
        start: :math:`x^0`; for super-resolution the interpolated image.
        seed: of the weights.

    Source: Zamir, Arora, Khan et al., "Restormer", CVPR 2022, through deepinv's class, without its
    trained weights.
    """

    kind = "restormer"

    def __init__(
        self,
        img_size: tuple[int, int, int],
        *,
        features: int = 48,
        blocks: int = 4,
        start: str = "interpolated",
        seed: int = 0,
    ):
        super().__init__(img_size, start, features=features, blocks=blocks)
        features, blocks = self.size["features"], self.size["blocks"]
        require(features % 2 == 0, "features", features, "an even number")
        channels, levels = (
            self.img_size[0],
            tuple(-(-blocks * ratio // 4) for ratio in (4, 6, 6, 8)),
        )
        heads = tuple(_heads(features * 2**level, 2**level) for level in range(4))
        sizes = {
            "dim": features,
            "num_blocks": levels,
            "num_refinement_blocks": blocks,
            "heads": heads,
        }
        with seeded(seed, self.kind):
            self.network = deepinv.models.Restormer(channels, channels, **sizes, pretrained=None)
        zero(self.network.output)

    def reconstruct(self, x: torch.Tensor, y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:  # noqa: D102
        return self.network(pad_to_multiple(x, 8))[..., : x.shape[-2], : x.shape[-1]]


def _heads(width: int, wanted: int) -> int:
    """The most attention heads, at most ``wanted``, that divide ``width``."""
    return next(heads for heads in range(wanted, 0, -1) if width % heads == 0)


class DirectUNet(EndToEnd):
    r"""U-Net on the starting image: :math:`x^0+R(x^0)`.

    Args:
        img_size: (C, H, W); any sides.
        features: width of the first scale, doubled at each.
        blocks: scales, at least 2.
        start: :math:`x^0`.
        seed: of the weights.

    Source: Jin, McCann, Froustey, Unser, "Deep convolutional neural network for inverse problems in
    imaging", IEEE Trans. Image Processing 26(9), 2017, through deepinv's class; without batch
    normalisation.
    """

    kind = "u-net"

    def __init__(
        self,
        img_size: tuple[int, int, int],
        *,
        features: int = 64,
        blocks: int = 4,
        start: str = "interpolated",
        seed: int = 0,
    ):
        super().__init__(img_size, start, features=features, blocks=blocks)
        features, blocks = self.size["features"], self.size["blocks"]
        require(blocks >= 2, "blocks", blocks, "at least 2 scales")
        widest = features * 2 ** (blocks - 1)
        require(
            widest <= MAX_WIDTH,
            "features and blocks",
            f"a scale {widest:,} wide",
            f"at most {MAX_WIDTH:,}",
        )
        channels, widths = self.img_size[0], [features * 2**scale for scale in range(blocks)]
        with seeded(seed, self.kind):
            # torch's default, as every other network: deepinv's own default is the processor
            device = torch.empty(0).device
            self.network = deepinv.models.UNet(
                channels, channels, channels_per_scale=widths, batch_norm=False, device=device
            )
        zero(self.network.Conv_1x1)

    def reconstruct(self, x: torch.Tensor, y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:  # noqa: D102
        return self.network(x)
