r"""Are the images of a measurement like those a preconditioner was made of? What tells is the first
step from zero: its gradient :math:`H^\top y`, and how much of it the step leaves.

A learned P guesses what H does not see from its training images, and on others it guesses wrong:
trained on digits, it makes digits of photographs. Its measurements give that away before anything
is reconstructed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from deepinv.physics import LinearPhysics

from ..adjoint import Measurements
from ..operators.measure import measure

FEWEST = 128  # images below which nothing is said
MOST = 1024  # images looked at
EDGES = (0.0, 1e-6, 0.08, 0.17, 0.28, 0.42, 0.64, 0.92, 10.0)  # of the bands, over Nyquist's
CELLS = 4  # in a row and in a column
MARGIN = 1.5  # of the distance: what is this much farther than the farthest of its own is foreign
LEFT_MARGIN = 2.0  # the same of the share that is left
SHRUNK = 0.01  # of the covariance towards a sphere
LEAST = 1e-4  # share of the energy that is told from none

Direction = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def first_step(
    preconditioner: Direction, physics: LinearPhysics, y: Measurements, stepsize: float
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""What the first step from zero shows of each image: its features (B, F), and the share
    :math:`\|(I-\alpha H^\top HP)H^\top y\|/\|H^\top y\|` of the gradient that it leaves (B,).

    The features are the logarithms of the shares that 8 bands of spatial frequency, from the mean
    to the corners, and 4 x 4 parts of the image have in the energy of :math:`H^\top y`.
    """
    gradient = -physics.A_adjoint(y)
    direction = getattr(preconditioner, "unchecked", preconditioner)(
        gradient, torch.zeros_like(gradient), 1
    )
    left = gradient - stepsize * physics.A_adjoint_A(direction)
    size = gradient.flatten(1).norm(dim=1).clamp_min(1e-30)
    return _features(gradient), left.flatten(1).norm(dim=1) / size


def _features(images: torch.Tensor) -> torch.Tensor:
    height, width = images.shape[-2:]
    rows, columns = torch.fft.fftfreq(height).abs(), torch.fft.rfftfreq(width)
    radius = (2 * torch.sqrt(rows[:, None] ** 2 + columns**2)).to(images.device)
    power = torch.fft.rfft2(images).abs().square().sum(dim=1)
    bands = torch.stack(
        [
            (power * ((low <= radius) & (radius < high))).sum(dim=(1, 2))
            for low, high in zip(EDGES[:-1], EDGES[1:], strict=True)
        ],
        dim=1,
    )
    cells = F.adaptive_avg_pool2d(images.square().sum(dim=1, keepdim=True), CELLS).flatten(1)
    return torch.cat([_logarithms(bands), _logarithms(cells)], dim=1)


def _logarithms(energies: torch.Tensor) -> torch.Tensor:
    shares = energies / energies.sum(dim=1, keepdim=True).clamp_min(1e-30)
    return torch.log(shares + LEAST)


@torch.no_grad()
def measured(
    preconditioner: Direction,
    physics: LinearPhysics,
    images: torch.Tensor,
    stepsize: float,
    seed: int = 0,
) -> dict[str, Any]:
    """``{"trust": ...}``, what :func:`trusted` needs to know of the images that P was made of, as
    plain values; nothing where they are fewer than 128.

    Looks at 1,024 of them at most, and at their mirror images: those P has not seen, and what they
    show is closer to what other images of the same kind will.
    """
    if len(images) < FEWEST:
        return {}
    sample = images[:: max(1, len(images) // MOST)][:MOST]
    parts = [
        first_step(preconditioner, physics, measure(physics, batch, seed=seed), stepsize)
        for batch in (*sample.split(64), *sample.flip(-1).split(64))
    ]
    features, left = (torch.cat(part).cpu().double() for part in zip(*parts, strict=True))
    if not bool(torch.isfinite(features).all() and torch.isfinite(left).all()):
        return {}
    mean, covariance = features.mean(dim=0), torch.cov(features.T)
    level = SHRUNK * covariance.diagonal().mean()
    covariance = (1 - SHRUNK) * covariance + level * torch.eye(len(mean), dtype=torch.float64)
    inverse = torch.linalg.inv(covariance)
    farthest = _distance(features, mean, inverse).max()
    known = {"stepsize": float(stepsize), "mean": mean.tolist(), "inverse": inverse.tolist()}
    known |= {"distance": MARGIN * farthest.item(), "left": LEFT_MARGIN * left.max().item()}
    return {"trust": known}


def _distance(features: torch.Tensor, mean: torch.Tensor, inverse: torch.Tensor) -> torch.Tensor:
    apart = features - mean
    return torch.sqrt(((apart @ inverse) * apart).sum(dim=1) / len(mean))


@torch.no_grad()
def trusted(
    known: dict[str, Any], preconditioner: Direction, physics: LinearPhysics, y: Measurements
) -> torch.Tensor:
    """Which of the images measured as ``y`` are like those that ``known`` tells of: (B,), true or
    false. An image of zeros is.
    """
    features, left = first_step(preconditioner, physics, y, known["stepsize"])
    mean, inverse = (torch.tensor(known[name], dtype=torch.float64) for name in ("mean", "inverse"))
    near = _distance(features.cpu().double(), mean, inverse) <= known["distance"]
    return (near.to(left.device) & (left <= known["left"])) | (left == 0)
