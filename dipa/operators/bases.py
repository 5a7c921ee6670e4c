r"""Orthonormal coordinates of the only subspace a data gradient can reach.

Every data gradient :math:`\nabla g = H^\top(Hx-y)` lies in :math:`\mathrm{range}(H^\top)`. With
orthonormal rows :math:`V\in\mathbb{R}^{r\times n}` spanning it, :math:`\nabla g = V^\top V\nabla
g`, so a preconditioner :math:`P\in\mathbb{R}^{n\times n}` acts through the block
:math:`PV^\top\in\mathbb{R}^{n\times r}` alone.

:func:`range_basis` spans the gradients as images of C channels; :func:`plane_basis` spans their
channels, each taken as a real image of its own, for a preconditioner that all channels share: so
D2GP Table I counts its linear ones for MRI, with n = H W = 2500 although images are complex (20 n
pointwise, 20 n^2 full-linear parameters).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import deepinv
import torch
from deepinv.utils.mixins import MRIMixin
from torch import nn

from .. import device, linalg, seeding
from ..checks import (
    InputError,
    foreign,
    require,
    require_choice,
    require_img_size,
    require_int,
    require_same_images,
    require_tensor,
)
from ..physics import image_size, numbers_like, require_applies, require_operator
from .measure import operator_sides

RANK_TOLERANCE = 1e-6  # of the largest singular value, as in linalg.orthonormal_range


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


def range_basis(
    physics: deepinv.physics.LinearPhysics,
    img_size: tuple[int, ...] | None = None,
    *,
    max_pixels: int = 4096,
) -> Basis:
    """Orthonormal coordinates of range(H^T): the operator's own fast ones, or Fourier's for what
    deepinv makes of them, else a dense SVD of its matrix.

    Fourier's are those of deepinv's ``MRI``, ``BlurFFT``, ``Blur`` and ``Downsampling`` with
    ``padding="circular"`` (and a factor that divides the sides), at any size. ``img_size`` (C, H,
    W) is needed when the operator does not carry one. The basis is the caller's own, in the
    operator's dtype and on its device. Raises :class:`InputError` when nobody says the size, or
    when the operator has no fast basis and n exceeds ``max_pixels`` (the SVD costs n^3).
    """
    require_operator("physics", physics)
    if hasattr(physics, "range_basis"):
        return physics.range_basis()
    img_size = image_size(physics, img_size)
    fast = _by_fourier(physics, img_size, planes=False)
    if fast is not None:
        return fast
    rows = linalg.orthonormal_range(_matrix(physics, img_size, max_pixels, "range_basis"))
    return MatrixBasis(img_size, rows.to(numbers_like(physics)))


def plane_basis(
    physics: deepinv.physics.LinearPhysics,
    img_size: tuple[int, ...] | None = None,
    *,
    max_pixels: int = 4096,
) -> Basis:
    """Orthonormal coordinates (1, H, W) of the smallest space of real planes that holds every
    channel of every H^T r.

    The operator's own fast ones or Fourier's, else a dense SVD of the channel planes of H^T; for
    one channel :func:`range_basis`. Arguments and errors as there.
    """
    require_operator("physics", physics)
    if hasattr(physics, "plane_basis"):
        return physics.plane_basis()
    channels, height, width = img_size = image_size(physics, img_size)
    if channels == 1:
        return range_basis(physics, img_size, max_pixels=max_pixels)
    fast = _by_fourier(physics, img_size, planes=True)
    if fast is not None:
        return fast
    planes = _matrix(physics, img_size, max_pixels, "plane_basis").reshape(-1, height * width)
    return MatrixBasis(
        (1, height, width), linalg.orthonormal_range(planes).to(numbers_like(physics))
    )


def _by_fourier(
    physics: deepinv.physics.LinearPhysics, img_size: tuple[int, int, int], *, planes: bool
) -> Basis | None:
    """The basis of one of deepinv's operators that commute with shifts, or that mask a Fourier
    transform; None for any other.
    """
    if type(physics) is deepinv.physics.MRI:
        return _of_mask(physics, img_size, planes=planes)
    circular = getattr(physics, "padding", "circular") == "circular"
    filters = (deepinv.physics.Blur, deepinv.physics.BlurFFT, deepinv.physics.Downsampling)
    factor = getattr(physics, "factor", 1)
    if type(physics) not in filters or not circular or any(n % factor for n in img_size[1:]):
        return None
    found = _transfer(physics, img_size, factor)
    if found is None:
        return None
    gain = found.abs().square().sum(dim=(1, 2)).sqrt()
    gain = (gain + gain.flip(-2, -1).roll((1, 1), (-2, -1))) / 2  # omega and -omega go together
    kept = gain > RANK_TOLERANCE * gain.max()
    if planes:
        if factor > 1 and bool((found - found[:1]).abs().max() > 1e-12 * gain.max()):
            return None  # channels that alias in ways of their own
        img_size = (1, *img_size[1:])
        kept, gain, found = kept.any(dim=0, keepdim=True), gain[:1], found[:1]
    place = numbers_like(physics)
    index = _positions(kept).to(place.device)
    if factor == 1:
        return HartleyBasis(img_size, index)
    whitened = torch.where(kept, 1 / gain, 0)[:, None, None] * found
    return PolyphaseBasis(img_size, index, torch.fft.ifft2(whitened).real.to(place))


def _of_mask(
    physics: deepinv.physics.MRI, img_size: tuple[int, int, int], *, planes: bool
) -> Basis | None:
    mask = physics.mask
    if physics.three_d or tuple(mask.shape) != (1, *img_size) or img_size[0] != 2:
        return None
    kept = (mask[0].abs() > RANK_TOLERANCE * mask.abs().max()).cpu()
    if not planes:
        return FourierBasis(img_size, kept.flatten().nonzero().flatten().to(mask.device))
    one = torch.fft.ifftshift(kept.any(dim=0, keepdim=True), dim=(-2, -1))
    one = one | one.flip(-2, -1).roll((1, 1), (-2, -1))
    return HartleyBasis((1, *img_size[1:]), _positions(one).to(mask.device))


def _positions(kept: torch.Tensor) -> torch.Tensor:
    """Where frequencies (C, p, q) that start at 0 are in centred coefficients."""
    return torch.fft.fftshift(kept, dim=(-2, -1)).flatten().nonzero().flatten()


def _transfer(
    physics: deepinv.physics.LinearPhysics, img_size: tuple[int, int, int], factor: int
) -> torch.Tensor | None:
    """What H does to each phase of an image, by its answers to points: spectra (C, f, f, H / f, W /
    f), in float64.

    None where that is not all it does to an image, or where it cannot compute in float64.
    """
    channels, height, width = img_size
    place = device.able(numbers_like(physics)).device
    points = torch.zeros(factor, factor, *img_size, dtype=torch.float64, device=place)
    for row in range(factor):
        for column in range(factor):
            points[row, column, :, row, column] = 1
    x = torch.rand(
        1, *img_size, dtype=torch.float64, generator=seeding.generator(0, "transfer")
    ).to(place)
    try:
        exact = copy.deepcopy(physics).to(place).double()
        answers, whole = exact.A(points.flatten(0, 1)), exact.A(x)
    except (RuntimeError, TypeError, ValueError):
        return None  # the dense matrix says why
    if tuple(answers.shape[1:]) != (channels, height // factor, width // factor):
        return None
    spectra = torch.fft.fft2(answers).unflatten(0, (factor, factor)).permute(2, 0, 1, 3, 4)
    split = x[0].reshape(channels, height // factor, factor, width // factor, factor)
    made = torch.fft.ifft2(
        (torch.fft.fft2(split.permute(0, 2, 4, 1, 3)) * spectra).sum(dim=(1, 2))
    ).real
    same = (made - whole[0]).norm() <= 1e-6 * whole[0].norm()
    return spectra if bool(same) and bool(whole.norm() > 0) else None


def _matrix(
    physics: deepinv.physics.LinearPhysics,
    img_size: tuple[int, int, int],
    max_pixels: int,
    kind: str,
) -> torch.Tensor:
    """The real matrix of H (m, n), in float64 where the operator can compute in it; refused
    where n exceeds ``max_pixels``.
    """
    if math.prod(img_size) > require_int("max_pixels", max_pixels, 1):
        raise InputError(
            f"img_size: got {img_size}; allowed: at most {max_pixels} pixels for an "
            f"operator without {kind}()"
        )
    like = numbers_like(physics)
    place = device.able(like).device
    try:
        matrix = linalg.dense(
            copy.deepcopy(physics).to(place).double().A, img_size, dtype=torch.float64, device=place
        )
    except (RuntimeError, TypeError):
        # numbers of its own that do not follow, unless it cannot take such images at all
        require_applies("physics", physics, img_size)
        matrix = linalg.dense(physics.A, img_size, dtype=like.dtype, device=like.device)
    return torch.cat([matrix.real, matrix.imag]) if matrix.is_complex() else matrix


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
