r"""Orthonormal coordinates of the only subspace a data gradient can reach.

Every data gradient :math:`\nabla g = H^\top(Hx-y)` lies in :math:`\mathrm{range}(H^\top)`. With
orthonormal rows :math:`V\in\mathbb{R}^{r\times n}` spanning it, :math:`\nabla g = V^\top V\nabla
g`, so a preconditioner :math:`P\in\mathbb{R}^{n\times n}` acts through the block
:math:`PV^\top\in\mathbb{R}^{n\times r}` alone.

Spans of the gradients as images of C channels are made by :func:`~dipa.operators.range_basis`,
those of their channels, each taken as a real image of its own, by
:func:`~dipa.operators.plane_basis`, for a preconditioner that all channels share: so D2GP Table I
counts its linear ones for MRI, with n = H W = 2500 although images are complex (20 n pointwise,
20 n^2 full-linear parameters).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import deepinv
import torch
from deepinv.utils.mixins import MRIMixin
from torch import nn

from ..checks import (
    InputError,
    foreign,
    require,
    require_choice,
    require_img_size,
    require_same_images,
    require_tensor,
)
from .measure import operator_sides


def hadamard_matrix(size: int) -> torch.Tensor:
    """The symmetric orthonormal Hadamard matrix (size, size) in deepinv's row order, float64;
    ``size`` is a power of two.
    """
    return deepinv.physics.singlepixel.hadamard_1d(torch.eye(size, dtype=torch.float64))


class Exact(nn.Module):
    """A module that knows some of its buffers in float64: one that is moved to another dtype gets
    them from there.

    ``single.double()`` would else hold the rounding of float32 for ever.
    """

    def exact(self) -> dict[str, torch.Tensor]:
        """The buffers that are known, by name, in float64."""
        raise TypeError(f"{type(self).__name__} does not define exact")

    def _apply(self, fn: Any, recurse: bool = True) -> Exact:
        before = {tensor.dtype for tensor in self.buffers()}
        super()._apply(fn, recurse)
        if {tensor.dtype for tensor in self.buffers()} != before:
            for name, values in self.exact().items():
                self.get_buffer(name).copy_(values)
        return self


class Basis(nn.Module):
    """Coordinates on a subspace: ``coordinates`` is V (images (B, C, H, W) -> (B, r)),
    ``image`` is its transpose.
    """

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
        require_same_images(images=images)
        with foreign(
            "images",
            f"{tuple(images.shape)}, {images.dtype}",
            f"images {self.img_size} in the dtype of this basis",
        ):
            return self.image(self.coordinates(images))


class PixelBasis(Basis):
    """The whole image space: r = n and V is the identity. It makes L-DIPA dense, as the papers
    write it.
    """

    kind = "pixel"

    def __init__(self, img_size: tuple[int, int, int]):
        super().__init__()
        self.img_size = require_img_size(img_size)
        self.dim = math.prod(self.img_size)

    def coordinates(self, images):  # noqa: D102
        return images.flatten(1)

    def image(self, coordinates):  # noqa: D102
        return coordinates.reshape(-1, *self.img_size)


class MatrixBasis(Basis):
    """Any subspace, by its orthonormal rows V (r, n) kept as a matrix."""

    kind = "matrix"
    rows: torch.Tensor

    def __init__(self, img_size: tuple[int, int, int], rows: torch.Tensor):
        super().__init__()
        self.img_size = require_img_size(img_size)
        require_rows("rows", rows, math.prod(self.img_size))
        self.dim = len(rows)
        self.register_buffer("rows", rows)

    def coordinates(self, images):  # noqa: D102
        return images.flatten(1) @ self.rows.T

    def image(self, coordinates):  # noqa: D102
        return (coordinates @ self.rows).reshape(-1, *self.img_size)


def require_rows(name: str, rows: torch.Tensor, n: int | None = None) -> None:
    """Refuse anything but a real matrix (r, n), r >= 1, on any n where that is None."""
    require_tensor(name, rows, "a tensor (r, n)")
    require(rows.is_floating_point(), f"{name}.dtype", rows.dtype, "a real floating-point type")
    shaped = rows.ndim == 2 and len(rows) > 0 and rows.shape[1] == (n or rows.shape[1])
    require(shaped, f"{name}.shape", tuple(rows.shape), f"(r, {n or 'n'}) with r >= 1")


def require_index(index: torch.Tensor, count: int) -> None:
    """Refuse anything but integers (r,) in [0, count)."""
    require_tensor("index", index, "a tensor of integers (r,)")
    whole = not (index.is_floating_point() or index.is_complex() or index.dtype == torch.bool)
    require(
        whole and index.ndim == 1, "index", f"{tuple(index.shape)}, {index.dtype}", "integers (r,)"
    )
    inside = bool(((index >= 0) & (index < count)).all())
    require(inside, "index", "positions outside the coefficients", f"integers in [0, {count - 1}]")


class TransformBasis(Basis):
    """Selected coefficients of a fast transform with orthonormal rows.

    ``index`` (r,) holds their flat positions among the coefficients (C, p, q) of an image (C, H,
    W). A subclass gives ``transform`` and its transpose ``synthesis``.
    """

    index: torch.Tensor

    def __init__(
        self,
        img_size: tuple[int, int, int],
        index: torch.Tensor,
        shape: tuple[int, int, int] | None = None,
    ):
        super().__init__()
        self.img_size, self.shape = (
            require_img_size(img_size),
            require_img_size(img_size if shape is None else shape),
        )
        require_index(index, math.prod(self.shape))
        self.dim = len(index)
        self.register_buffer("index", index.long())

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """All coefficients: images (B, C, H, W) -> (B, C, p, q)."""
        raise TypeError(f"{type(self).__name__} does not define transform")

    def synthesis(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The transpose of ``transform``; here the transform itself, as for any symmetric
        involution.
        """
        return self.transform(coefficients)

    def coordinates(self, images):  # noqa: D102
        return self.transform(images).flatten(1)[:, self.index]

    def image(self, coordinates):  # noqa: D102
        full = coordinates.new_zeros(len(coordinates), int(torch.tensor(self.shape).prod()))
        return self.synthesis(full.index_copy(1, self.index, coordinates).reshape(-1, *self.shape))


class HadamardBasis(Exact, TransformBasis):
    """Selected orthonormal 2-D Hadamard functions, applied as two small matrix products (a
    Kronecker product).
    """

    kind = "hadamard"
    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, img_size: tuple[int, int, int], index: torch.Tensor):
        super().__init__(
            operator_sides(img_size, lambda side: side & (side - 1) == 0, "a power of two"), index
        )
        for name, matrix in self.exact().items():
            self.register_buffer(name, matrix.to(torch.get_default_dtype()), persistent=False)

    def exact(self):  # noqa: D102
        return {
            "rows": hadamard_matrix(self.img_size[1]),
            "columns": hadamard_matrix(self.img_size[2]),
        }

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """The full orthonormal 2-D Hadamard transform; it is its own inverse."""
        return self.rows @ images @ self.columns


class FourierBasis(TransformBasis):
    """Selected real and imaginary parts of the centred unitary 2-D Fourier transform of a
    complex image (2, H, W).
    """

    kind = "fourier"

    def __init__(self, img_size: tuple[int, int, int], index: torch.Tensor):
        require(require_img_size(img_size)[0] == 2, "img_size channels", img_size, "2 (re and im)")
        super().__init__(img_size, index)

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """F x, (re, im) channels to (re, im) channels."""
        return MRIMixin().im_to_kspace(images)

    def synthesis(self, coefficients: torch.Tensor) -> torch.Tensor:
        """F^H c, which is also the transpose of F on (re, im) channels."""
        return MRIMixin().kspace_to_im(coefficients)


class HartleyBasis(TransformBasis):
    r"""Selected real Hartley functions :math:`\cos\theta+\sin\theta`,
    :math:`\theta=2\pi(ux/H+vy/W)`, of each channel.

    The transform is Re - Im of the centred unitary Fourier transform: symmetric, orthonormal, its
    own inverse. On a set of frequencies that holds -k with every k, its functions span the real
    images whose spectrum lies on that set.
    """

    kind = "hartley"

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """Re(F x) - Im(F x), every channel a real image."""
        return _hartley(images)


def _hartley(images: torch.Tensor) -> torch.Tensor:
    spectrum = MRIMixin.fft(images)
    return spectrum.real - spectrum.imag


class PolyphaseBasis(TransformBasis):
    r"""Selected Hartley functions of the images that every f-th pixel of a filtered image makes.

    An image (C, H, W) is f x f images of every f-th pixel, its phases. ``kernels`` (C, f, f, H / f,
    W / f) holds a periodic kernel for each: the coefficients are the Hartley transform of the sum
    of the phases, each convolved with its own. The rows are orthonormal where, at the selected
    frequencies, the squared magnitudes of the kernels' spectra add up to 1.
    """

    kind = "polyphase"
    kernels: torch.Tensor

    def __init__(self, img_size: tuple[int, int, int], index: torch.Tensor, kernels: torch.Tensor):
        channels, height, width = require_img_size(img_size)
        require_tensor("kernels", kernels, "a tensor (C, f, f, H / f, W / f)")
        require(
            kernels.is_floating_point(),
            "kernels.dtype",
            kernels.dtype,
            "a real floating-point type",
        )
        factor = kernels.shape[1] if kernels.ndim == 5 else 0
        shape = (channels, height // max(factor, 1), width // max(factor, 1))
        fits = (
            tuple(kernels.shape) == (channels, factor, factor, *shape[1:])
            and (shape[1] * factor, shape[2] * factor) == (height, width)
            and factor > 0
        )
        require(
            fits,
            "kernels.shape",
            tuple(kernels.shape),
            f"({channels}, f, f, {height} / f, {width} / f)",
        )
        super().__init__(img_size, index, shape)
        self.factor = factor
        self.register_buffer("kernels", kernels)

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """The coefficients (B, C, H / f, W / f) of images (B, C, H, W)."""
        channels, height, width = self.shape
        split = images.reshape(-1, channels, height, self.factor, width, self.factor)
        phases = split.permute(0, 1, 3, 5, 2, 4)
        spectrum = (torch.fft.rfft2(phases) * torch.fft.rfft2(self.kernels)).sum(dim=(2, 3))
        return _hartley(torch.fft.irfft2(spectrum, s=(height, width)))

    def synthesis(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The transpose of ``transform``."""
        spectrum = torch.fft.rfft2(_hartley(coefficients))[:, :, None, None]
        phases = torch.fft.irfft2(spectrum * torch.fft.rfft2(self.kernels).conj(), s=self.shape[1:])
        return phases.permute(0, 1, 4, 2, 5, 3).reshape(-1, *self.img_size)


class KroneckerBasis(TransformBasis):
    """Selected products of row functions (p, H) and column functions (q, W), each set
    orthonormal.
    """

    kind = "kronecker"
    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(
        self,
        img_size: tuple[int, int, int],
        index: torch.Tensor,
        rows: torch.Tensor,
        columns: torch.Tensor,
    ):
        channels, height, width = require_img_size(img_size)
        require_rows("rows", rows, height)
        require_rows("columns", columns, width)
        super().__init__(img_size, index, (channels, len(rows), len(columns)))
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """Every product function's coefficient, (B, C, p, q)."""
        return self.rows @ images @ self.columns.T

    def synthesis(self, coefficients: torch.Tensor) -> torch.Tensor:
        """The transpose of ``transform``."""
        return self.rows.T @ coefficients @ self.columns


def rebuild_basis(
    kind: str, img_size: tuple[int, int, int], buffers: dict[str, torch.Tensor]
) -> Basis:
    """A basis from what its ``kind`` and ``state_dict`` say, as stored beside a saved
    preconditioner.
    """
    makers = {
        "pixel": lambda: PixelBasis(img_size),
        "matrix": lambda: MatrixBasis(img_size, buffers["rows"]),
        "hadamard": lambda: HadamardBasis(img_size, buffers["index"]),
        "fourier": lambda: FourierBasis(img_size, buffers["index"]),
        "hartley": lambda: HartleyBasis(img_size, buffers["index"]),
        "polyphase": lambda: PolyphaseBasis(img_size, buffers["index"], buffers["kernels"]),
        "kronecker": lambda: KroneckerBasis(
            img_size, buffers["index"], buffers["rows"], buffers["columns"]
        ),
    }
    require_choice("basis", kind, makers)
    require(isinstance(buffers, Mapping), "buffers", buffers, "a mapping of names to tensors")
    try:
        return makers[kind]()
    except KeyError as error:
        raise InputError(
            f"buffers: got {', '.join(map(str, buffers))}; allowed: those of a {kind} "
            f"basis, with {error}"
        ) from error
