"""What every operator shares: the size of its images and the level of its noise, checked at the
door, and measurements whose noise depends on the seed and the image's index alone.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from deepinv.physics import LinearPhysics, StackedPhysics
from deepinv.physics.noise import GaussianNoise, NoiseModel, ZeroNoise
from deepinv.utils import TensorList

from .. import paired, seeding
from ..adjoint import Measurements
from ..checks import (
    foreign,
    image_sides,
    require,
    require_number,
    require_same_images,
    require_tensor,
)
from ..physics import require_beside, require_operator

MAX_NUMBERS = 2**26  # in one image: a quarter of a gigabyte
MAX_SIGMA = 1e6  # images are in [0, 1]; far beyond, noise is no finite number


def operator_sides(
    img_size: object, side_allowed: Callable[[int], bool], allowed: str
) -> tuple[int, int, int]:
    """(C, H, W) as three integers with C >= 1 and H, W by ``side_allowed`` (``allowed`` in words).

    Raises :class:`InputError` naming the one that is not.
    """
    sides = image_sides(img_size)
    require(len(sides) == 3, "img_size", img_size, "(C, H, W), three integers")
    require(sides[0] >= 1, "img_size channels", sides[0], "an integer >= 1")
    for name, side in zip(("height", "width"), sides[1:], strict=True):
        require(side_allowed(side), f"img_size {name}", side, allowed)
    require(
        math.prod(sides) <= MAX_NUMBERS,
        "img_size",
        sides,
        f"at most {MAX_NUMBERS:,} numbers in an image",
    )
    channels, height, width = sides
    return channels, height, width


def sigma_of(noise_sigma: float) -> float:
    """The standard deviation of the noise as a float; refuses what is not a number in [0,
    ``MAX_SIGMA``].
    """
    return float(require_number("noise_sigma", noise_sigma, 0, MAX_SIGMA))


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
) -> Measurements:
    r""":math:`y=Hx+\varepsilon` for images (B, C, H, W); image i draws its noise from (seed,
    stream, index i).

    So the same image gets the same noise in any batch, order or resumed run and on any device (it
    is drawn on the processor), also from a deepinv noise model made without a generator.
    ``indices`` (B,) defaults to 0, 1, ... Of stacked operators each part has noise of its own.
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
    if isinstance(physics, StackedPhysics):
        several = [
            measure(part, images, seed=seed, indices=indices, stream=f"{stream}, part {number}")
            for number, part in enumerate(physics.physics_list)
        ]
        return TensorList(several)
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
        first = physics.noise(clean[:1], seed=seeds[0])
        if len(first) == 1:
            rest = [
                physics.noise(y[None], seed=s) for y, s in zip(clean[1:], seeds[1:], strict=True)
            ]
            return torch.cat([first, *rest])
        # one image with the noise of several: each has parameters of its own
        rows = torch.arange(len(first))
        allowed = f"{len(rows)}, as many as this {type(physics).__name__} has parameters for"
        require(len(clean) == len(rows), "images", len(clean), allowed)
        each = [paired.of_images(physics, row, len(rows)) for row in rows.split(1)]
        return torch.cat(
            [one.noise(y[None], seed=s) for one, y, s in zip(each, clean, seeds, strict=True)]
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
    noise_model = physics.noise_model
    physics.noise_model = _OnProcessor(noise_model)
    try:
        yield
    finally:
        physics.noise_model = noise_model
