"""Linear algebra on callables: operator norm, dot test, dense matrices, orthonormal bases of a
range.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from . import device, seeding

Map = Callable[[torch.Tensor], torch.Tensor]


def squared_norm(
    gram: Map,
    shape: tuple[int, ...],
    *,
    count: int = 1,
    like: torch.Tensor | None = None,
    tol: float = 1e-6,
    max_iter: int = 2000,
    seed: int = 0,
) -> float:
    r"""Largest eigenvalue of a symmetric positive semidefinite map, :math:`\|H\|_2^2` for ``gram``
    :math:`= H^\top H`.

    Power method from a seeded start, on one image of ``shape`` (C, H, W), or on ``count`` of them
    for a map that acts on each in its own way (the largest of all is found), until the Rayleigh
    quotient moves by less than ``tol`` (relative), in dtype and on the device of ``like`` (None:
    float32 on the CPU). Deterministic; the estimate is never above the true value by more than
    rounding.
    """
    v = torch.randn(
        (count, *shape), generator=seeding.generator(seed, "power method"), dtype=torch.float32
    )
    v, value = v if like is None else v.to(like), 0.0
    for _ in range(max_iter):
        v = v / v.norm()
        image = gram(v)
        previous, value = value, torch.sum(v * image).item()
        if abs(value - previous) <= tol * abs(value) or value == 0:
            break
        v = image
    return value


def dot_test_error(forward: Map, adjoint: Map, x: torch.Tensor, y: torch.Tensor) -> float:
    r"""Relative mismatch :math:`|\langle Hx,y\rangle-\langle x,H^\top y\rangle| /
    (\|Hx\|\|y\|)`.
    """
    image = forward(x)
    mismatch = torch.sum(image * y) - torch.sum(x * adjoint(y))
    return (mismatch.abs() / (image.norm() * y.norm()).clamp_min(1e-30)).item()


def dense(
    forward: Map,
    shape: tuple[int, ...],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """The matrix of a linear map on images of ``shape`` (C, H, W): column j is the image of
    unit vector j.
    """
    n = int(torch.tensor(shape).prod())
    return (
        forward(torch.eye(n, dtype=dtype, device=device).reshape(n, *shape))
        .reshape(n, -1)
        .T.contiguous()
    )


def orthonormal_range(matrix: torch.Tensor, *, tol: float = 1e-6) -> torch.Tensor:
    """Orthonormal rows spanning the row space of ``matrix`` (m, n): those with singular value
    above ``tol`` x the largest.
    """
    _, values, rows = torch.linalg.svd(device.able(matrix).double(), full_matrices=False)
    return rows[values > tol * values.max()].to(matrix)
