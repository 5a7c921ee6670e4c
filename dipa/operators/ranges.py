"""Which subspace the data gradients of an operator can reach: its coordinates, by a fast transform
where there is one.
"""

from __future__ import annotations

import copy
import math

import deepinv
import torch

from .. import device, linalg, seeding
from ..checks import InputError, require_int
from ..physics import image_size, numbers_like, numbers_of, require_applies, require_operator
from .bases import Basis, FourierBasis, HartleyBasis, MatrixBasis, PolyphaseBasis

MAX_PIXELS = 4096  # of a dense SVD
RANK_TOLERANCE = 1e-6  # of the largest singular value, as in linalg.orthonormal_range


def range_basis(
    physics: deepinv.physics.LinearPhysics,
    img_size: tuple[int, ...] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
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
    return MatrixBasis(img_size, rows.to(numbers_of(physics, img_size)))


def has_range_basis(physics: deepinv.physics.LinearPhysics, img_size: tuple[int, int, int]) -> bool:
    """Whether :func:`range_basis` gives one: by a fast transform, or for so few pixels."""
    fast = hasattr(physics, "range_basis") or math.prod(img_size) <= MAX_PIXELS
    return fast or _by_fourier(physics, img_size, planes=False) is not None


def plane_basis(
    physics: deepinv.physics.LinearPhysics,
    img_size: tuple[int, ...] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
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
        (1, height, width), linalg.orthonormal_range(planes).to(numbers_of(physics, img_size))
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
    transfer = _transfer(physics, img_size, factor)
    if transfer is None:
        return None
    gain = transfer.abs().square().sum(dim=(1, 2)).sqrt()
    gain = (gain + gain.flip(-2, -1).roll((1, 1), (-2, -1))) / 2  # omega and -omega go together
    kept = gain > RANK_TOLERANCE * gain.max()
    if planes:
        if factor > 1 and bool((transfer - transfer[:1]).abs().max() > 1e-12 * gain.max()):
            return None  # channels that alias in ways of their own
        img_size = (1, *img_size[1:])
        kept, gain, transfer = kept.any(dim=0, keepdim=True), gain[:1], transfer[:1]
    place = numbers_like(physics)
    index = _positions(kept).to(place.device)
    if factor == 1:
        return HartleyBasis(img_size, index)
    whitened = torch.where(kept, 1 / gain, 0)[:, None, None] * transfer
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
    repeated = torch.fft.ifft2(
        (torch.fft.fft2(split.permute(0, 2, 4, 1, 3)) * spectra).sum(dim=(1, 2))
    ).real
    same = (repeated - whole[0]).norm() <= 1e-6 * whole[0].norm()
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
    like = numbers_of(physics, img_size)
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
