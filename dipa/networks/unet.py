"""The two U-Nets of the architecture study: the plain one and the one of InDI, which knows the
iteration at every level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..checks import require
from .backbone import Backbone, CodeShift, Head, pad_to_multiple

MAX_WIDTH = 2**20  # of the bottom


class _TwoConvolutions(nn.Sequential):
    """Two 3x3 convolutions with ReLU after each."""

    def __init__(self, inputs: int, outputs: int):
        first, second = (
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        super().__init__(first, nn.ReLU(), second, nn.ReLU())


class UNet(Backbone):
    """``blocks`` levels of C, 2 C, 4 C... features around a bottom of twice the last, skips added;
    C = ``features``.

    A level is two 3x3 convolutions with ReLU, then the maximum over 2x2; on the way up a 2x2
    transposed convolution, the skip added, two convolutions; a 1x1 head. Published size C = 64,
    four levels, skips added in its residual mode. The code shifts the bottom (the published net
    ignores the iteration). Sides are padded to multiples of 2^blocks and cropped back.

    Source: Ronneberger et al. 2015; D2GP Sec. III.A; layers from the public code of its authors.
    """

    def __init__(self, img_size: tuple[int, int, int], features: int, blocks: int, code_dim: int):
        super().__init__(img_size, features, blocks, code_dim)
        widest = features * 2**blocks
        require(
            widest <= MAX_WIDTH,
            "features and blocks",
            f"a level {widest:,} wide",
            f"at most {MAX_WIDTH:,}",
        )
        widths = [features * 2**level for level in range(blocks)]
        self.down = nn.ModuleList(
            _TwoConvolutions(*pair) for pair in zip([1, *widths], widths, strict=False)
        )
        self.bottom = _TwoConvolutions(widths[-1], 2 * widths[-1])
        self.shift = CodeShift(code_dim, 2 * widths[-1])
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in reversed(widths)
        )
        self.up = nn.ModuleList(_TwoConvolutions(width, width) for width in reversed(widths))
        self.head = Head(features, 1)

    def residual(self, x, code):  # noqa: D102
        maps, skips = pad_to_multiple(x, 2**self.blocks), []
        for level in self.down:
            skips.append(level(maps))
            maps = F.max_pool2d(skips[-1], 2)
        maps = self.bottom(maps) + self.shift.maps(code)
        for grow, level in zip(self.grow, self.up, strict=True):
            maps = level(grow(maps) + skips.pop())
        return self.head(maps)[..., : x.shape[-2], : x.shape[-1]]


class _NormalisedConvolutions(nn.Module):
    """3x3 convolution, group norm (one group), GELU, 3x3 convolution, group norm; with
    ``residual``, GELU of input plus that.
    """

    def __init__(
        self, inputs: int, outputs: int, middle: int | None = None, residual: bool = False
    ):
        super().__init__()
        middle = middle or outputs
        self.first = nn.Conv2d(inputs, middle, 3, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(1, middle)
        self.second = nn.Conv2d(middle, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(1, outputs)
        self.residual = residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.second_norm(self.second(F.gelu(self.first_norm(self.first(x)))))
        return F.gelu(x + maps) if self.residual else maps


class _Level(nn.Module):
    """A residual pair of convolutions, a pair that changes the width, then the shift of the
    code.
    """

    def __init__(self, inputs: int, outputs: int, middle: int | None, code_dim: int):
        super().__init__()
        self.same = _NormalisedConvolutions(inputs, inputs, residual=True)
        self.change = _NormalisedConvolutions(inputs, outputs, middle)
        self.shift = CodeShift(code_dim, outputs)

    def forward(self, x: torch.Tensor, code: torch.Tensor | None) -> torch.Tensor:
        return self.change(self.same(x)) + self.shift.maps(code)


class IndiUNet(Backbone):
    """InDI's U-Net: three levels of C, 2 C, 4 C, a bottom of 8 C, and the code added after every
    level; C = ``features``.

    Convolutions are normalised per image (group norm, one group); down by the maximum over 2x2, up
    bilinearly, skips concatenated; ``blocks`` convolution pairs in the middle of the bottom.
    Published size C = 64, ``blocks`` = 1. Sides are padded to multiples of 8 and cropped back.

    Source: Delbracio and Milanfar 2023 (InDI), in the public implementation that D2GP's authors
    use.
    """

    def __init__(self, img_size: tuple[int, int, int], features: int, blocks: int, code_dim: int):
        super().__init__(img_size, features, blocks, code_dim)
        c = features
        self.first = _NormalisedConvolutions(1, c)
        self.down = nn.ModuleList(
            _Level(i, o, None, code_dim) for i, o in ((c, 2 * c), (2 * c, 4 * c), (4 * c, 4 * c))
        )
        widths = [4 * c, *[8 * c] * (blocks + 1), 4 * c]
        self.bottom = nn.Sequential(
            *(_NormalisedConvolutions(i, o) for i, o in zip(widths, widths[1:], strict=False))
        )
        self.up = nn.ModuleList(
            _Level(i, o, i // 2, code_dim) for i, o in ((8 * c, 2 * c), (4 * c, c), (2 * c, c))
        )
        self.head = Head(c, 1)

    def residual(self, x, code):  # noqa: D102
        maps = self.first(pad_to_multiple(x, 8))
        skips = []
        for level in self.down:
            skips.append(maps)
            maps = level(F.max_pool2d(maps, 2), code)
        maps = self.bottom(maps)
        for level in self.up:
            grown = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)
            maps = level(torch.cat([skips.pop(), grown], dim=1), code)
        return self.head(maps)[..., : x.shape[-2], : x.shape[-1]]
