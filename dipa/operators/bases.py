r"""Orthonormal coordinates of the only subspace a data gradient can reach.

Every data gradient :math:`\nabla g = H^\top(Hx-y)` lies in :math:`\mathrm{range}(H^\top)`. With orthonormal rows
:math:`V\in\mathbb{R}^{r\times n}` spanning it, :math:`\nabla g = V^\top V\nabla g`, so a preconditioner
:math:`P\in\mathbb{R}^{n\times n}` acts through the block :math:`PV^\top\in\mathbb{R}^{n\times r}` alone.
"""

from __future__ import annotations

import deepinv
import torch
from torch import nn

from .. import linalg
from ..checks import InputError, require
from ..declared import image_size, numbers_like


def hadamard_matrix(size: int) -> torch.Tensor:
    """The symmetric orthonormal Hadamard matrix (size, size) in deepinv's row order; ``size`` is a power of two."""
    return deepinv.physics.singlepixel.hadamard_1d(torch.eye(size))


class Basis(nn.Module):
    """Coordinates on a subspace: ``coordinates`` is V (images (B, C, H, W) -> (B, r)), ``image`` is its transpose."""

    kind: str
    img_size: tuple[int, int, int]
    dim: int

    def coordinates(self, images: torch.Tensor) -> torch.Tensor:
        """V x: images (B, C, H, W) -> coordinates (B, r)."""
        raise TypeError(f"{type(self).__name__} does not define coordinates")

    def image(self, coordinates: torch.Tensor) -> torch.Tensor:
        """V^T c: coordinates (B, r) -> images (B, C, H, W)."""
        raise TypeError(f"{type(self).__name__} does not define image")

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """V^T V x: the part of each image inside the subspace."""
        return self.image(self.coordinates(images))


class PixelBasis(Basis):
    """The whole image space: r = n and V is the identity. It makes L-DIPA dense, as the papers write it."""

    kind = "pixel"

    def __init__(self, img_size: tuple[int, int, int]):
        super().__init__()
        self.img_size = tuple(img_size)
        self.dim = int(torch.tensor(img_size).prod())

    def coordinates(self, images):  # noqa: D102
        return images.flatten(1)

    def image(self, coordinates):  # noqa: D102
        return coordinates.reshape(-1, *self.img_size)


class HadamardBasis(Basis):
    """Selected orthonormal 2-D Hadamard functions, applied as two small matrix products (a Kronecker product).

    ``index`` (r,) holds the flat positions of the selected coefficients in (C, H, W).
    """

    kind = "hadamard"

    def __init__(self, img_size: tuple[int, int, int], index: torch.Tensor):
        super().__init__()
        self.img_size, self.dim = tuple(img_size), len(index)
        self.register_buffer("index", index.long())
        self.register_buffer("rows", hadamard_matrix(img_size[1]), persistent=False)
        self.register_buffer("columns", hadamard_matrix(img_size[2]), persistent=False)

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """The full orthonormal 2-D Hadamard transform; it is its own inverse."""
        return self.rows @ images @ self.columns

    def coordinates(self, images):  # noqa: D102
        return self.transform(images).flatten(1)[:, self.index]

    def image(self, coordinates):  # noqa: D102
        full = coordinates.new_zeros(len(coordinates), int(torch.tensor(self.img_size).prod()))
        return self.transform(full.index_copy(1, self.index, coordinates).reshape(-1, *self.img_size))


class MatrixBasis(Basis):
    """Any subspace, by its orthonormal rows V (r, n) kept as a matrix."""

    kind = "matrix"

    def __init__(self, img_size: tuple[int, int, int], rows: torch.Tensor):
        super().__init__()
        self.img_size, self.dim = tuple(img_size), len(rows)
        self.register_buffer("rows", rows)

    def coordinates(self, images):  # noqa: D102
        return images.flatten(1) @ self.rows.T

    def image(self, coordinates):  # noqa: D102
        return (coordinates @ self.rows).reshape(-1, *self.img_size)


def range_basis(
    physics: deepinv.physics.LinearPhysics, img_size: tuple[int, int, int] | None = None, *, max_pixels: int = 4096
) -> Basis:
    """Orthonormal coordinates of range(H^T): the operator's own fast ones, else a dense SVD of its matrix.

    ``img_size`` (C, H, W) is needed when the operator does not carry one. The basis is the caller's own, in the
    operator's dtype and on its device. Raises :class:`InputError` when nobody says the size, or when the operator has
    no fast basis and n exceeds ``max_pixels`` (the SVD costs n^3).
    """
    if hasattr(physics, "range_basis"):
        return physics.range_basis()
    img_size, like = image_size(physics, img_size), numbers_like(physics)
    if int(torch.tensor(img_size).prod()) > max_pixels:
        raise InputError(f"img_size: got {img_size}; allowed: at most {max_pixels} pixels for an operator without range_basis()")
    matrix = linalg.dense(physics.A, img_size, dtype=like.dtype, device=like.device)
    return MatrixBasis(img_size, linalg.orthonormal_range(matrix))


def rebuild_basis(kind: str, img_size: tuple[int, int, int], buffers: dict[str, torch.Tensor]) -> Basis:
    """A basis from what its ``kind`` and ``state_dict`` say, as stored beside a saved preconditioner."""
    makers = {
        "pixel": lambda: PixelBasis(img_size),
        "hadamard": lambda: HadamardBasis(img_size, buffers["index"]),
        "matrix": lambda: MatrixBasis(img_size, buffers["rows"]),
    }
    require(kind in makers, "basis", kind, ", ".join(makers))
    return makers[kind]()
