"""Measurements whose noise depends on the seed and the image's index alone."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from deepinv.physics.noise import NoiseModel, ZeroNoise

from .. import seeding


def measure(
    physics: LinearPhysics, images: torch.Tensor, *, seed: int = 0, indices: torch.Tensor | None = None, stream: str = "noise"
) -> torch.Tensor:
    r""":math:`y=Hx+\varepsilon` for images (B, C, H, W); image i draws its noise from (seed, stream, index i).

    So the same image gets the same noise in any batch, order or resumed run. ``indices`` (B,) defaults to 0, 1, ...
    """
    clean = physics.A(images)
    noise_model = getattr(physics, "noise_model", None)
    if not isinstance(noise_model, NoiseModel) or isinstance(noise_model, ZeroNoise):
        return clean
    indices = torch.arange(len(images)) if indices is None else indices
    noisy = [physics.noise(y[None], seed=seeding.derive(seed, stream, int(i))) for y, i in zip(clean, indices, strict=True)]
    return torch.cat(noisy)
