"""Checks and small things shared by the tests: a battery per noun; what they run over is in
:mod:`members`.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable

import deepinv
import pytest
import torch

import dipa
from dipa import linalg


def downsampling(size: int = 16, channels: int = 1):
    """The papers' super-resolution operator: 9 x 9 Gaussian of standard deviation 1, then every
    second pixel.
    """
    kernel = deepinv.physics.functional.gaussian_blur(sigma=(1, 1))
    return deepinv.physics.Downsampling(
        img_size=(channels, size, size), filter=kernel, factor=2, padding="circular"
    )


def inpainting(size: int = 8):
    """Deterministic missing pixels: every third one."""
    mask = (torch.arange(size * size) % 3 > 0).float().reshape(1, size, size)
    return deepinv.physics.Inpainting((1, size, size), mask=mask)


def size_of(physics) -> tuple[int, int, int]:
    """(C, H, W) of the images an operator acts on; deepinv's blurs call it
    ``imsize``.
    """
    return getattr(physics, "img_size", None) or physics.imsize


def matrix_physics(
    matrix: torch.Tensor, img_size: tuple[int, int, int]
) -> deepinv.physics.LinearPhysics:
    """A deepinv operator y = M x on flattened images, for comparisons with linear algebra."""
    return deepinv.physics.LinearPhysics(
        A=lambda x, **_: x.flatten(1) @ matrix.T,
        A_adjoint=lambda y, **_: (y @ matrix).reshape(-1, *img_size),
    )


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Uniform random images in [0, 1]."""
    return torch.rand(shape, generator=rng(seed), dtype=dtype)


def smooth_images(
    count: int, size: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Random ramps and bumps in [0, 1]: images with structure that a preconditioner can learn."""
    axis = torch.linspace(0, math.pi, size, dtype=dtype)
    a, b, c, d = torch.rand((4, count, 1, 1, 1), generator=rng(seed), dtype=dtype)
    rows, columns = torch.sin(axis * (1 + a) + 3 * c), torch.cos(axis * (1 + b) + 3 * d)
    return 0.5 + 0.5 * rows.transpose(-1, -2) * columns


def tiny_denoiser(seed: int = 0, strength: float = 0.2) -> deepinv.models.DnCNN:
    """A frozen 3-layer DnCNN close to the identity, so that iterations stay bounded."""
    net = deepinv.models.DnCNN(1, 1, depth=3, nf=8, pretrained=None)
    for parameter in net.parameters():
        parameter.data = 0.15 * torch.randn(parameter.shape, generator=rng(seed))
    net.out_conv.weight.data *= strength
    return net.eval().requires_grad_(False)


def identity_denoiser(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return x


class Counting(torch.nn.Module):
    """A denoiser that counts how many images it was called on, and how often."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.calls, self.planes = denoiser, 0, 0

    def forward(self, x, sigma):
        self.calls, self.planes = self.calls + 1, self.planes + len(x)
        return self.denoiser(x, sigma)


class Bare:
    """A prior that is a step and nothing else: ISTA on a quadratic."""

    def step(self, z, direction, stepsize):
        return z - stepsize * direction


def solver(iterations: int = 3, denoiser=None, **kwargs) -> dipa.FISTA:
    return dipa.FISTA(prior=dipa.PnP(denoiser or tiny_denoiser()), iterations=iterations, **kwargs)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative distance of a to b."""
    return ((a - b).norm() / b.norm().clamp_min(1e-30)).item()


def refuses(call: Callable[[], object], *words: str) -> str:
    """``call`` must raise InputError: one line that holds each of ``words``. Returns the text."""
    with pytest.raises(dipa.InputError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text, text
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"
    return text


def printed(program: str, *arguments: str):
    """What a program of its own prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def check_adjoint(physics, img_size: tuple[int, int, int], tol: float, dtype: torch.dtype) -> None:
    x = torch.randn((3, *img_size), generator=rng(1), dtype=dtype)
    y = torch.randn(physics.A(x).shape, generator=rng(2), dtype=dtype)
    assert physics.A(x).dtype == dtype
    assert linalg.dot_test_error(physics.A, physics.A_adjoint, x, y) < tol


def check_linear(physics, img_size: tuple[int, int, int]) -> None:
    a, b = (torch.randn((2, *img_size), generator=rng(seed)) for seed in (3, 4))
    assert relative(physics.A(2 * a - 3 * b), 2 * physics.A(a) - 3 * physics.A(b)) < 1e-5


def check_preconditioner(P, img_size: tuple[int, int, int]) -> None:
    """The contract: shape and dtype kept, every image alone, traits true."""
    gradient, iterate = (torch.randn((3, *img_size), generator=rng(seed)) for seed in (5, 6))
    direction = P(gradient, iterate, 1)
    assert direction.shape == gradient.shape and direction.dtype == gradient.dtype
    alone = torch.cat([P(g[None], z[None], 1) for g, z in zip(gradient, iterate, strict=True)])
    assert relative(direction, alone) < 1e-5
    if P.traits.linear:
        other = torch.randn(gradient.shape, generator=rng(7))
        assert (
            relative(P(2 * gradient - other, iterate, 1), 2 * direction - P(other, iterate, 1))
            < 1e-5
        )
    if not P.traits.iteration_dependent:
        assert torch.equal(P(gradient, iterate, 5), direction)


def finite_difference(
    function: Callable[[torch.Tensor], float],
    point: torch.Tensor,
    along: torch.Tensor,
    step: float = 1e-6,
) -> float:
    """Central difference of ``function`` at ``point`` along ``along``; float64 only."""
    assert point.dtype == torch.float64
    return (function(point + step * along) - function(point - step * along)) / (2 * step)
