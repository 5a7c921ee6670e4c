"""Varied copies of images: mirrored, shifted, turned, scaled, so that few images stand for many.

What a closed form or a network learns from is what its images have in common. Where a picture that
is moved a little is as likely as the picture itself, its moved copies are more images of the kind.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from . import seeding
from .checks import require, require_images, require_int, require_kind
from .gathered import Images, images_of
from .settings import Variations

MODES = {"zeros": "zeros", "edge": "border"}  # what torch calls them


def varied(
    images: Images,
    variations: Variations,
    *,
    seed: int = 0,
    draw: int = 0,
    indices: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""One varied copy of every image, all its channels together (a complex image stays one).

    .. math::
        x'(u)=x\big(F\,R_\theta\,u/s+t\big),

    u the place of a pixel seen from the centre; F mirrors left and right or is the identity, with
    equal chances; :math:`\theta`, the parts of t and :math:`\log s` are uniform in
    :math:`[-\mathrm{rotation},\mathrm{rotation}]`, :math:`[-\mathrm{shift},\mathrm{shift}]` and
    :math:`[-\log(1+\mathrm{zoom}),\log(1+\mathrm{zoom})]`. Between pixels images are bicubic, and
    so may leave their range a little; what comes from outside is as ``border`` says.

    Args:
        images: (N, C, H, W), or what holds them.
        variations: how far.
        seed: of all draws, with ``draw``, the number of the copy or training step, and the image's
            own number: a copy is the same in whatever batch it is made.
        draw: at least 0.
        indices: (N,) the images' own numbers, whole; None counts them from 0.

    Returns:
        (N, C, H, W), of the images' dtype and device; the images themselves where nothing varies.

    Raises:
        InputError: arguments of another kind, shape or range.

    Source: this project's; affine copies of training images are as old as LeCun et al.,
    "Gradient-based learning applied to document recognition", 1998.
    """
    images = images_of("images", images)
    require_images("images", images)
    require_kind("variations", variations, Variations)
    seed, draw = require_int("seed", seed, 0), require_int("draw", draw, 0)
    numbers = torch.arange(len(images)) if indices is None else indices
    whole = isinstance(numbers, torch.Tensor) and not numbers.is_floating_point()
    fits = whole and numbers.shape == (len(images),)
    require(fits, "indices", indices, f"{len(images)} whole numbers, one for each image")
    return _moved(images, variations, _draws(numbers, seed, draw)) if variations.active else images


def _draws(numbers: torch.Tensor, seed: int, draw: int) -> torch.Tensor:
    """Five numbers in [-1, 1) for each image: for its mirror, its shifts, its angle, its scale."""
    streams = (seeding.generator(seed, "varied", draw, number) for number in numbers.tolist())
    rows = [torch.rand(5, generator=stream, dtype=torch.float64) for stream in streams]
    return 2 * torch.stack(rows) - 1


def _moved(images: torch.Tensor, variations: Variations, draws: torch.Tensor) -> torch.Tensor:
    if variations.flip:
        mirrored = (draws[:, 0] < 0).to(images.device)[:, None, None, None]
        images = torch.where(mirrored, images.flip(-1), images)
    if not variations.moves:
        return images
    matrices = _matrices(variations, draws, images.shape[-2:]).to(images)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    mode = MODES[variations.border]
    return F.grid_sample(images, grid, mode="bicubic", padding_mode=mode, align_corners=False)


def _matrices(
    variations: Variations, draws: torch.Tensor, sides: tuple[int, ...] | torch.Size
) -> torch.Tensor:
    """(N, 2, 3): where each pixel of a copy is taken from, in units of half the sides, x first."""
    height, width = sides
    shift = draws[:, 1:3] * variations.shift * 2 / torch.tensor([width, height])
    angle = draws[:, 3] * math.radians(variations.rotation)
    scale = torch.exp(draws[:, 4] * math.log1p(variations.zoom))
    cosine, sine = torch.cos(angle) / scale, torch.sin(angle) / scale
    rows = (cosine, -sine * height / width, shift[:, 0], sine * width / height, cosine, shift[:, 1])
    return torch.stack(rows, dim=1).reshape(-1, 2, 3)
