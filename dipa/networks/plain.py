"""The small networks of the architecture study: MLP, CNN, CNN with attention, two-scale CNN."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .backbone import Backbone, CodeShift, Head, Stem, pad_to_multiple


class MLP(Backbone):
    r"""Linear n -> h, ``blocks`` x Linear h -> h, Linear h -> n on flattened images, ReLU between;
    h = ``features``.

    The published net has three layers (``blocks`` = 1) and more parameters than a dense P, so h of
    about n. The code shifts the first hidden layer (the published net ignores the iteration). Bound
    to the size of its images.

    Parameters: (n + 1) h + blocks (h + 1) h + (h + 1) n, and (d + 1) h for a code.

    Source: D2GP Sec. III.A; layers from the public code of its authors.
    """

    def __init__(self, img_size: tuple[int, int, int], features: int, blocks: int, code_dim: int):
        super().__init__(img_size, features, blocks, code_dim)
        n = img_size[1] * img_size[2]
        self.first = nn.Linear(n, features)
        self.shift = CodeShift(code_dim, features)
        self.middle = nn.ModuleList(nn.Linear(features, features) for _ in range(blocks))
        self.head = nn.Linear(features, n)

    def residual(self, x, code):  # noqa: D102
        hidden = F.relu(self.first(x.flatten(1)) + self.shift(code))
        for layer in self.middle:
            hidden = F.relu(layer(hidden))
        return self.head(hidden).unflatten(1, x.shape[1:])


class CNN(Backbone):
    """3x3 convolutions 1 -> C, ``blocks`` x (C -> C, normalised), C -> 1, ReLU between; C =
    ``features``.

    Published size C = 64, five layers (``blocks`` = 3). The published net normalises with batch
    statistics; here each image is normalised over all its channels and positions (group norm, one
    group; as many parameters), so that no image sees another. The code shifts the first maps (the
    published net ignores the iteration). Any image size.

    Parameters: 10 C + blocks (9 C^2 + 3 C) + 9 C + 1, and (d + 1) C for a code.

    Source: D2GP Sec. III.A; layers from the public code of its authors.
    """

    def __init__(self, img_size: tuple[int, int, int], features: int, blocks: int, code_dim: int):
        super().__init__(img_size, features, blocks, code_dim)
        self.stem = Stem(features)
        self.shift = CodeShift(code_dim, features)
        self.middle = nn.ModuleList(
            nn.Conv2d(features, features, 3, padding=1) for _ in range(blocks)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, features) for _ in range(blocks))
        self.head = Head(features)

    def residual(self, x, code):  # noqa: D102
        maps = F.relu(self.stem(x) + self.shift.maps(code))
        for convolution, norm in zip(self.middle, self.norms, strict=True):
            maps = F.relu(norm(convolution(maps)))
        return self.head(maps)


class SelfAttention(nn.Module):
    r"""Single-head attention between all positions: :math:`x + \gamma\,V\,\mathrm{softmax}(Q^\top
    K)^\top`, unscaled scores.

    Queries and keys have max(1, C // 8) channels; :math:`\gamma` starts at 0. Memory grows as (H
    W)^2.

    Source: Zhang et al. 2019 (self-attention GAN), as in the public code of D2GP's authors.
    """

    def __init__(self, features: int):
        super().__init__()
        narrow = max(1, features // 8)
        self.query = nn.Conv2d(features, narrow, 1)
        self.key = nn.Conv2d(features, narrow, 1)
        self.value = nn.Conv2d(features, features, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> the same shape."""
        query, key, value = (layer(x).flatten(2) for layer in (self.query, self.key, self.value))
        weights = torch.softmax(query.transpose(1, 2) @ key, dim=-1).to(value.dtype)
        return x + self.gamma.to(value.dtype) * (value @ weights.transpose(1, 2)).unflatten(
            2, x.shape[-2:]
        )


class AttentionCNN(Backbone):
    """3x3 convolution 1 -> C, ReLU, ``blocks`` self-attentions, 3x3 convolution C -> 1; C =
    ``features``.

    Published size C = 64, one attention. The code shifts the first maps (the published net ignores
    the iteration). Any image size that memory allows: (H W)^2 numbers per image and attention.

    Parameters, with q = max(1, C // 8): 10 C + blocks (2 (C + 1) q + (C + 1) C + 1) + 9 C + 1, and
    (d + 1) C for a code.

    Source: D2GP Sec. III.A; layers from the public code of its authors.
    """

    def __init__(self, img_size: tuple[int, int, int], features: int, blocks: int, code_dim: int):
        super().__init__(img_size, features, blocks, code_dim)
        self.stem = Stem(features)
        self.shift = CodeShift(code_dim, features)
        self.attention = nn.Sequential(*(SelfAttention(features) for _ in range(blocks)))
        self.head = Head(features)

    def residual(self, x, code):  # noqa: D102
        return self.head(self.attention(F.relu(self.stem(x) + self.shift.maps(code))))


class MultiScale(Backbone):
    """3x3 convolution 1 -> C, maximum over 2x2, ``blocks`` x (3x3 C -> C, ReLU), 2x2 transposed
    convolution C -> 1.

    Published size C = ``features`` = 64, one middle layer. The code shifts the first maps (the
    published net ignores the iteration). Odd sides are padded and cropped back.

    Parameters: 10 C + blocks (9 C^2 + C) + 4 C + 1, and (d + 1) C for a code.

    Source: D2GP Sec. III.A; layers from the public code of its authors.
    """

    def __init__(self, img_size: tuple[int, int, int], features: int, blocks: int, code_dim: int):
        super().__init__(img_size, features, blocks, code_dim)
        self.stem = Stem(features)
        self.shift = CodeShift(code_dim, features)
        self.middle = nn.ModuleList(
            nn.Conv2d(features, features, 3, padding=1) for _ in range(blocks)
        )
        self.head = nn.ConvTranspose2d(features, 1, 2, stride=2)

    def residual(self, x, code):  # noqa: D102
        maps = F.max_pool2d(self.stem(pad_to_multiple(x, 2)) + self.shift.maps(code), 2)
        for convolution in self.middle:
            maps = F.relu(convolution(maps))
        return self.head(maps)[..., : x.shape[-2], : x.shape[-1]]
