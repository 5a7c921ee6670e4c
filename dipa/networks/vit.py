"""The vision transformer of the architecture study."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from ..checks import require
from .backbone import Backbone, CodeShift, pad_to_multiple

PATCH = 4
HEADS = 4


class TransformerLayer(nn.Module):
    """Self-attention, then two linear layers with ReLU (32 C wide), each added to its input and
    normalised after.

    Source: Vaswani et al. 2017; 32 C = 2048 at the published C = 64.
    """

    def __init__(self, features: int):
        super().__init__()
        self.qkv = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)
        self.attention_norm = nn.LayerNorm(features)
        self.expand = nn.Linear(features, 32 * features)
        self.reduce = nn.Linear(32 * features, features)
        self.norm = nn.LayerNorm(features)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> the same shape."""
        tokens = self.attention_norm(tokens + self.out(self._attend(tokens)))
        return self.norm(tokens + self.reduce(F.relu(self.expand(tokens))))

    def _attend(self, tokens: torch.Tensor) -> torch.Tensor:
        # (3, B, heads, N, C / heads)
        heads = self.qkv(tokens).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        return (scores.softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)


class ViT(Backbone):
    """Patches of 4x4 as tokens of C = ``features`` numbers, ``blocks`` transformer layers with 4
    heads, patches back.

    Published size C = 64, two layers, without a code of the position. Unlike the published net,
    whose attention runs along the batch (its tokens enter with the axes in the other order) and
    drops out at random, attention here runs along the patches of one image and nothing is random.
    The code shifts every token (the published net ignores the iteration). Sides are padded to
    multiples of 4 and cropped back; C is a multiple of 4.

    Parameters: 17 C + blocks (68 C^2 + 41 C) + 16 C + 1, and (d + 1) C for a code.

    Source: Dosovitskiy et al. 2020; D2GP Sec. III.A; layers from the public code of its authors.
    """

    def __init__(self, img_size: tuple[int, int, int], features: int, blocks: int, code_dim: int):
        super().__init__(img_size, features, blocks, code_dim)
        require(
            features % HEADS == 0, "features", features, f"a multiple of {HEADS} (attention heads)"
        )
        self.project = nn.Conv2d(1, features, PATCH, stride=PATCH)
        self.shift = CodeShift(code_dim, features)
        self.layers = nn.Sequential(*(TransformerLayer(features) for _ in range(blocks)))
        self.head = nn.ConvTranspose2d(features, 1, PATCH, stride=PATCH)

    def residual(self, x, code):  # noqa: D102
        maps = self.project(pad_to_multiple(x, PATCH))
        tokens = self.layers(maps.flatten(2).transpose(1, 2) + self.shift(code))
        image = self.head(tokens.transpose(1, 2).unflatten(2, maps.shape[-2:]))
        return image[..., : x.shape[-2], : x.shape[-1]]
