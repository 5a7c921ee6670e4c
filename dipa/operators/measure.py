"""Measurements whose noise depends on the seed and the image's index alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from deepinv.physics import LinearPhysics
from deepinv.physics.noise import GaussianNoise, NoiseModel, ZeroNoise

from .. import seeding
from ..checks import foreign, require, require_same_images, require_tensor
from ..physics import require_beside, require_operator


class _Gaussian(GaussianNoise):
    """Gaussian noise drawn on the processor, the same on every device; deepinv's own draws
    where the measurements are.
    """

    def forward(
        self,
        x: torch.Tensor,
        sigma: float | torch.Tensor | None = None,
        seed: int | None = None,
        **kwargs: object,
    ):
        self.update_parameters(sigma=sigma, **kwargs)
        noise = self.randn_like(x.cpu(), seed=seed).to(x.device)
        return x + noise * self.sigma.to(x.device)[(...,) + (None,) * (x.dim() - 1)]


def gaussian_noise(sigma: float) -> NoiseModel:
    """Gaussian noise of standard deviation ``sigma`` with a generator of its own, so that it
    can be seeded; none at 0.
    """
    return _Gaussian(sigma, rng=torch.Generator()) if sigma > 0 else ZeroNoise()


def measure(
    physics: LinearPhysics,
    images: torch.Tensor,
    *,
    seed: int = 0,
    indices: torch.Tensor | None = None,
    stream: str = "noise",
) -> torch.Tensor:
    r""":math:`y=Hx+\varepsilon` for images (B, C, H, W); image i draws its noise from (seed,
    stream, index i).

    So the same image gets the same noise in any batch, order or resumed run and on any device (it
    is drawn on the processor), also from a deepinv noise model made without a generator.
    ``indices`` (B,) defaults to 0, 1, ...
    """
    require_operator("physics", physics)
    require_same_images(images=images)
    require_beside("images", images, "physics", physics)
    with foreign(
        "images",
        f"{tuple(images.shape)}, {images.dtype}",
        f"images that this {type(physics).__name__} takes",
    ):
        clean = physics.A(images)
    noise_model = getattr(physics, "noise_model", None)
    if not isinstance(noise_model, NoiseModel) or isinstance(noise_model, ZeroNoise):
        return clean
    indices = torch.arange(len(images)) if indices is None else indices
    require_tensor("indices", indices, "a tensor of integers (B,)")
    require(
        tuple(indices.shape) == (len(images),),
        "indices.shape",
        tuple(indices.shape),
        f"({len(images)},), one an image",
    )
    seeds = [seeding.derive(seed, stream, int(i)) for i in indices]
    with _on_processor(physics):
        return torch.cat(
            [physics.noise(y[None], seed=s) for y, s in zip(clean, seeds, strict=True)]
        )


class _OnProcessor(NoiseModel):
    """A copy of a noise model that draws with generators of the processor, there, whatever
    device the measurements are on.
    """

    def __init__(self, noise_model: NoiseModel):
        super().__init__()
        generators = {
            id(part.rng): torch.Generator()
            for part in noise_model.modules()
            if getattr(part, "rng", None)
        }
        self.noise_model = copy.deepcopy(noise_model, generators).cpu()
        if self.noise_model.rng is None:  # deepinv would ignore the seed
            self.noise_model.rng = torch.Generator()

    def forward(self, y: torch.Tensor, seed: int) -> torch.Tensor:
        return self.noise_model(y.cpu(), seed=seed).to(y.device)


@contextmanager
def _on_processor(physics: LinearPhysics) -> Iterator[None]:
    """Lend an operator the copy of its noise model that draws on the processor; its own stays
    as it is.
    """
    own = physics.noise_model
    physics.noise_model = _OnProcessor(own)
    try:
        yield
    finally:
        physics.noise_model = own
