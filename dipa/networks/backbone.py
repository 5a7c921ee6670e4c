"""What every backbone shares: the residual connection, the check at the door, the start, and
the entry of the code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from ..checks import foreign, require, require_img_size, require_int, require_tensor

INITIAL = ("identity", "random")
MAX_SIZE = {"features": 2**16, "blocks": 256, "code_dim": 2**16}
MAX_NUMBERS = 2**28  # parameters: one gigabyte in float32


def require_buildable(make: Callable[[], nn.Module]) -> None:
    """Refuse a network of more than ``MAX_NUMBERS`` parameters, counted on the device ``meta``,
    where they take no memory.
    """
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in make().parameters())
    require(
        count <= MAX_NUMBERS,
        "features and blocks",
        f"a network of {count:,} parameters",
        f"at most {MAX_NUMBERS:,}",
    )


class Backbone(nn.Module):
    r"""A network on single planes, :math:`\mathcal{N}(x,\phi)=x+r(x,\phi)`: (B, 1, H, W) -> the
    same shape and dtype.

    A subclass defines ``residual(x, code)`` and names its last layer ``head``. No layer looks
    across the batch (no batch statistics, no dropout), so every image is treated alone.

    Args:
        img_size: (1, H, W) of the images it is meant for; only the MLP is bound to it.
        features: width, >= 1; each subclass says of what.
        blocks: depth, >= 1; each subclass says of what.
        code_dim: length d of the iteration code, 0 for a network that does not know its iteration.

    Raises:
        InputError: a size out of range; in a call, images that are not single planes or a code of
            another length.

    Source: D2GP Sec. III.B, "a residual connection in the last layer".
    """

    head: nn.Module

    def __init__(self, img_size: tuple[int, int, int], features: int, blocks: int, code_dim: int):
        super().__init__()
        sides = require_img_size(img_size, "(1, H, W)")
        require(sides[0] == 1, "img_size", sides, "(1, H, W)")
        sizes = (("features", features, 1), ("blocks", blocks, 1), ("code_dim", code_dim, 0))
        self.features, self.blocks, self.code_dim = (
            require_int(name, value, low, MAX_SIZE[name]) for name, value, low in sizes
        )
        self.img_size = sides

    def forward(self, x: torch.Tensor, code: torch.Tensor | None = None) -> torch.Tensor:
        """x plus the network's residual; ``code`` of shape (code_dim,), None exactly where
        ``code_dim`` is 0.
        """
        require_tensor("x", x, "a tensor (B, 1, H, W)")
        if code is not None:
            require_tensor("code", code, "a tensor, or None")
        require(
            x.ndim == 4 and x.shape[1] == 1 and x.numel() > 0,
            "x.shape",
            tuple(x.shape),
            "(B, 1, H, W)",
        )
        got = (0,) if code is None else tuple(code.shape)
        require(got == (self.code_dim,), "code.shape", got, f"({self.code_dim},), and None for 0")
        with foreign(
            "x",
            f"{tuple(x.shape)}, {x.dtype} on {x.device}",
            f"planes that this {type(self).__name__} takes",
        ):
            return self.unchecked(x, code)

    def unchecked(self, x: torch.Tensor, code: torch.Tensor | None) -> torch.Tensor:
        """The same, for images and a code that are known to fit."""
        return x + self.residual(x, code).to(x.dtype)

    def residual(self, x: torch.Tensor, code: torch.Tensor | None) -> torch.Tensor:
        """What the network adds to its input."""
        raise TypeError(f"{type(self).__name__} does not define residual")

    def zero_head(self) -> None:
        """Set the last layer to zero: the network is then the identity, and learns from its
        first step on.
        """
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)


class CodeShift(nn.Module):
    """One number per feature from the iteration code: Linear(SiLU(code)), (d,) -> (features,); 0
    without a code.

    Source: how the iteration enters D2GP's ConvNeXt, and the time InDI's U-Net (public code of
    both).
    """

    def __init__(self, code_dim: int, features: int):
        super().__init__()
        self.linear = nn.Linear(code_dim, features) if code_dim else None

    def forward(self, code: torch.Tensor | None) -> torch.Tensor | float:
        """The shift to add to every position, 0.0 for a network without a code."""
        return 0.0 if self.linear is None else self.linear(F.silu(cast(torch.Tensor, code)))

    def maps(self, code: torch.Tensor | None) -> torch.Tensor | float:
        """The shift shaped (features, 1, 1), for maps (B, features, H, W)."""
        return 0.0 if self.linear is None else self(code)[:, None, None]


class Stem(nn.Conv2d):
    """3x3 convolution of one plane, zero padding: (B, 1, H, W) -> (B, features, H, W), channels
    last in memory.

    One matrix product on 3x3 neighbourhoods: the output lies as the next layers read it fastest.
    """

    def __init__(self, features: int):
        super().__init__(1, features, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution."""
        patches = F.unfold(x, 3, padding=1).transpose(1, 2)
        maps = F.linear(patches, self.weight.flatten(1), self.bias)
        return maps.unflatten(1, x.shape[-2:]).permute(0, 3, 1, 2)


class Head(nn.Conv2d):
    """Convolution back to one plane, ``size`` odd, zero padding: (B, features, H, W) -> (B, 1,
    H, W).
    """

    def __init__(self, features: int, size: int = 3):
        super().__init__(features, 1, size, padding=size // 2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """The convolution, its kernel laid out like the maps: else oneDNN copies them."""
        weight = self.weight.to(maps.dtype).contiguous(memory_format=torch.channels_last)
        return F.conv2d(maps, weight, self.bias, padding=self.padding)


def pad_to_multiple(x: torch.Tensor, multiple: int) -> torch.Tensor:
    """Repeat the last row and column of (B, C, H, W) until both sides are multiples; the caller
    crops the result back.
    """
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
