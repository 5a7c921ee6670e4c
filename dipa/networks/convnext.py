"""ConvNeXt on one plane: the network of N-DIPA, laid out for speed (channels last in memory
from stem to head).
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .backbone import Backbone, CodeShift, Head, Stem
from .depthwise import depthwise_conv

# maps of a block's width that its backward pass keeps: input, convolved, normal, 4 + 4 hidden,
# output
MAPS = 12
LARGEST = 2**29  # numbers kept for one call of the network


class ConvNeXtBlock(nn.Module):
    r"""One block on maps (B, C, H, W): :math:`x +
    s\,W_2\,\mathrm{GELU}(W_1\,\mathrm{LN}(\mathrm{conv}_7\,x)) + e(\phi)`.

    The convolution is 7x7 and depthwise, LN normalises over the channels of each position,
    :math:`W_1: C\to 4C` and :math:`W_2: 4C\to C` act on each position alone, s is one trainable
    number (1 at the start) and e the shift of the iteration code, added after the residual sum. s
    and e are folded into :math:`W_2` and its bias: the same function, two passes over the maps
    fewer.

    Parameters: 50 C + 2 C + (4 C^2 + 4 C) + (4 C^2 + C) + 1, and (d + 1) C for a code of length d.

    Source: Liu et al. 2022 ("A ConvNet for the 2020s"), in the variant of the public code of D2GP's
    authors.
    """

    def __init__(self, features: int, code_dim: int):
        super().__init__()
        self.depthwise = nn.Conv2d(features, features, 7, padding=3, groups=features)
        self.norm = nn.LayerNorm(features)
        self.expand = nn.Conv2d(features, 4 * features, 1)
        self.reduce = nn.Conv2d(4 * features, features, 1)
        self.scale = nn.Parameter(torch.ones(1))
        self.shift = CodeShift(code_dim, features)

    def forward(self, x: torch.Tensor, code: torch.Tensor | None) -> torch.Tensor:
        """(B, C, H, W) -> the same shape; channels last in memory in, channels last out."""
        mixed = depthwise_conv(x, self.depthwise.weight, self.depthwise.bias)
        normal = self.norm(mixed.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        hidden = F.gelu(self.expand(normal))
        bias = self.scale * cast(torch.Tensor, self.reduce.bias) + self.shift(code)
        return x + F.conv2d(hidden, self.scale * self.reduce.weight, bias)


class ConvNeXt(Backbone):
    r"""3x3 stem 1 -> C, ``blocks`` blocks of width C = ``features``, 3x3 head C -> 1; published
    size C = 128, 5 blocks.

    Where the maps of all blocks hold more than 2^29 numbers (2 GiB in float32), the backward pass
    keeps those between the blocks and computes the others again, one block at a time.

    Parameters: 10 C + blocks * (8 C^2 + 57 C + 1 + (d + 1) C [with a code]) + 9 C + 1; 858 758 at C
    = 128, 5 blocks, d = 256. Any image size; the receptive field is 5 + 6 blocks pixels wide.

    Source: D2GP Sec. III.B (5 blocks, 128 features, d = 256); layers from the public code of its
    authors.
    """

    def __init__(self, img_size: tuple[int, int, int], features: int, blocks: int, code_dim: int):
        super().__init__(img_size, features, blocks, code_dim)
        self.stem = Stem(features)
        self.body = nn.ModuleList(ConvNeXtBlock(features, code_dim) for _ in range(blocks))
        self.head = Head(features)

    def residual(self, x, code):  # noqa: D102
        maps = self.stem(x)
        large = MAPS * len(self.body) * maps.numel() > LARGEST
        for block in self.body:
            maps = (
                checkpoint(block, maps, code, use_reentrant=False) if large else block(maps, code)
            )
        return self.head(maps)
