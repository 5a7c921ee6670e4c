"""Priors: what turns a preconditioned gradient step into the next iterate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .checks import require, require_choice, require_number

Denoiser = Callable[[torch.Tensor, float], torch.Tensor]


@dataclass(frozen=True)
class PnP:
    r"""Plug-and-play proximal step: :math:`x = D(z-\alpha d)`, the denoiser D in the place of the proximity operator.

    Args:
        denoiser: ``denoiser(images, sigma)`` on (B, 1, H, W) in [0, 1]; every deepinv denoiser qualifies. It acts on
            each channel alone.
        sigma: noise level handed to the denoiser, in [0, 1] units (DnCNN ignores it).
        precision: ``float32``, or ``bf16`` to run the denoiser (and nothing else) under bfloat16 autocast.

    Source: DIPA Eq. (2) and (4); D2GP Algorithm 1, lines 3-4.
    """

    denoiser: Denoiser
    sigma: float = 2 / 255
    precision: str = "float32"

    def __post_init__(self):
        require(callable(self.denoiser), "denoiser", self.denoiser, "a callable denoiser(images, sigma)")
        require_choice("precision", self.precision, ("float32", "bf16"))
        require_number("sigma", self.sigma, 0)

    def denoise(self, images: torch.Tensor) -> torch.Tensor:
        """D(x) on each channel alone: (B, C, H, W) -> the same shape and dtype."""
        planes = images.reshape(-1, 1, *images.shape[-2:])
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.denoiser(planes, self.sigma).to(images.dtype).reshape(images.shape)

    def step(self, z: torch.Tensor, direction: torch.Tensor, stepsize: float) -> torch.Tensor:
        """The next iterate from the extrapolated point ``z`` and the preconditioned gradient ``direction``."""
        return self.denoise(z - stepsize * direction)

    def describe(self) -> dict:
        """The prior as plain values (for cache keys and run folders); the denoiser is described by its owner."""
        return {"kind": type(self).__name__, "sigma": self.sigma, "precision": self.precision}
