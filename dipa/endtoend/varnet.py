r"""End-to-end variational network for single-coil MRI: cascades of data consistency and a
network each, none shared.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from deepinv.physics import LinearPhysics
from torch import nn

from ..networks.backbone import pad_to_multiple
from ..solvers import data_gradient
from .base import EndToEnd, seeded, zero

MOST_POOLS = 4


class VarNet(EndToEnd):
    r"""E2E-VarNet for one coil: T cascades, each with its own U-Net and its own trainable step
    :math:`\eta_t` (start 1).

    .. math::
        k^{t+1}=k^t-\eta_t M(k^t-y)+F\,G_t(F^{-1}k^t),\qquad k^0=y,

    computed on images, :math:`x^t=F^{-1}k^t`: :math:`x^{t+1}=x^t-\eta_t H^\top(Hx^t-y)+G_t(x^t)`.
    With H = MF and F unitary the two are the same, and the second also runs for operators that are
    no masked Fourier transform.

    Args:
        img_size: (C, H, W); C = 2 for (re, im).
        features: channels of the U-Nets' first level, doubled at each coarser one (18 in the
            original).
        blocks: cascades T (12 in the original, 8 in its public demonstration).
        start: ``adjoint`` is :math:`k^0=y`.
        seed: of the weights.

    The U-Nets go down at most four times, fewer for images of less than 32 pixels. Left out of the
    original: coil sensitivities, there being one coil.

    Source: Sriram, Zbontar, Murrell et al., "End-to-end variational networks for accelerated MRI
    reconstruction", MICCAI 2020, Eq. (9); deepinv's class of that name shares one network between
    all cascades.
    """

    kind = "e2e-varnet"

    def __init__(
        self,
        img_size: tuple[int, int, int],
        *,
        features: int = 18,
        blocks: int = 8,
        start: str = "adjoint",
        seed: int = 0,
    ):
        super().__init__(img_size, start, features=features, blocks=blocks)
        features, blocks = self.size["features"], self.size["blocks"]
        channels, *sides = self.img_size
        with seeded(seed, self.kind):
            self.networks = nn.ModuleList(
                NormalizedUNet(channels, features, _pools(min(sides))) for _ in range(blocks)
            )
        self.steps = nn.Parameter(torch.ones(blocks))

    def reconstruct(self, x: torch.Tensor, y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:  # noqa: D102
        for step, network in zip(self.steps, self.networks, strict=True):
            x = x - step * data_gradient(physics, y, x) + network(x)
        return x


def _pools(side: int) -> int:
    """Halvings that leave at least two pixels a side (instance normalisation needs more than
    one value).
    """
    return max(0, min(MOST_POOLS, (side - 1).bit_length() - 1))


class NormalizedUNet(nn.Module):
    """A U-Net on images of which each channel is brought to mean 0 and deviation 1, and the output
    taken back.

    Source: fastMRI's ``NormUnet``; here without the mean on the way back, the output being a
    correction.
    """

    def __init__(self, channels: int, features: int, pools: int):
        super().__init__()
        self.multiple = 2**pools
        self.levels = Level(channels, features, pools)
        self.head = nn.Conv2d(features, channels, 1)
        zero(self.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) of any size -> the same shape."""
        mean = x.mean((-2, -1), keepdim=True)
        deviation = (x.var((-2, -1), keepdim=True, correction=0) + 1e-12).sqrt()
        padded = pad_to_multiple((x - mean) / deviation, self.multiple)
        return self.head(self.levels(padded))[..., : x.shape[-2], : x.shape[-1]] * deviation


class Level(nn.Module):
    """One level of a U-Net and all below it: (B, channels, H, W) -> (B, features, H, W), sides
    divisible by 2^pools.
    """

    def __init__(self, channels: int, features: int, pools: int):
        super().__init__()
        self.down = _convolutions(channels, features)
        if pools:
            self.below = Level(features, 2 * features, pools - 1)
            self.up = nn.Sequential(
                nn.ConvTranspose2d(2 * features, features, 2, stride=2, bias=False),
                *_normalized(features),
            )
            self.merge = _convolutions(2 * features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The level's features."""
        x = self.down(x)
        return (
            self.merge(torch.cat([self.up(self.below(F.avg_pool2d(x, 2))), x], dim=1))
            if hasattr(self, "below")
            else x
        )


def _normalized(features: int) -> tuple[nn.Module, nn.Module]:
    return nn.InstanceNorm2d(features), nn.LeakyReLU(0.2)


def _convolutions(channels: int, features: int) -> nn.Sequential:
    first, second = (
        nn.Conv2d(width, features, 3, padding=1, bias=False) for width in (channels, features)
    )
    return nn.Sequential(first, *_normalized(features), second, *_normalized(features))
