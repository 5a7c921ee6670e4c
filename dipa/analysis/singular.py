r"""Norm, condition number and rank of an operator H, as far as they can be afforded.

Of small images exactly, from the matrix of H; of larger ones exactly where :math:`H^\top H`
commutes with shifts, else by Lanczos steps: bounds and estimates, and ``how`` says so.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from deepinv.physics import LinearPhysics

from .. import device
from ..adjoint import TINY, normal_like, parts
from ..checks import FOREIGN, InputError
from ..operators import range_basis

TOLERANCE = 1e-6  # of singular values, relative to the largest: at or below, they count as zero
LANCZOS_TOLERANCE = 1e-3  # the same of estimates
STEPS, PROBES, PROBE_STEPS = 60, 3, 30  # of Lanczos
COLUMNS = 64  # of a matrix at once
SECONDS = 120.0  # that estimates may take
Gram = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Spectrum:
    r"""What is known of the singular values :math:`\sigma` of H on images of n numbers.

    Attributes:
        squared_norm: :math:`L=\|H\|_2^2`; None where it was not computed.
        condition_number: :math:`\sigma_{\max}/\sigma_{\min}` over those that are not zero, >= 1;
            None where nothing is known or H is zero.
        condition_exact: False where the condition number is a lower bound.
        rank: the number of those that are not zero, 0 to n; None where it was not computed.
        rank_exact: False where the rank is an estimate.
        how: where the numbers come from, in words.
    """

    squared_norm: float | None
    condition_number: float | None
    condition_exact: bool
    rank: int | None
    rank_exact: bool
    how: str


NOTHING = Spectrum(None, None, False, None, False, "not computed")


def exact_copy(
    physics: LinearPhysics, like: torch.Tensor, size: tuple[int, ...]
) -> tuple[LinearPhysics, torch.Tensor]:
    """The operator in float64 with an empty tensor of its kind, or both as they are where numbers
    of its own do not follow.
    """
    exact = device.able(like[:0]).double()
    try:
        twin = copy.deepcopy(physics).to(exact.device).double()
        back = twin.A_adjoint(twin.A(exact.new_zeros(1, *size)))
    except FOREIGN:
        return physics, like
    return (twin, exact) if back.dtype == torch.float64 else (physics, like)


def flat(measured: Any) -> torch.Tensor:
    """Measurements of B images as one real matrix (B, m), complex ones as two numbers each."""
    rows = [tensor.flatten(1) for tensor in parts(measured)]
    real = [torch.view_as_real(row).flatten(1) if row.is_complex() else row for row in rows]
    return torch.cat(real, dim=1)


def matrix(physics: LinearPhysics, size: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """The real matrix (m, n) of H on images ``size``, a few columns at once."""
    n = math.prod(size)
    columns = []
    for start in range(0, n, COLUMNS):
        units = like.new_zeros(min(COLUMNS, n - start), n)
        units[:, start:].fill_diagonal_(1)
        columns.append(flat(physics.A(units.reshape(-1, *size))))
    return torch.cat(columns).T


def from_matrix(physics: LinearPhysics, size: tuple[int, ...], like: torch.Tensor) -> Spectrum:
    r"""Exact: the eigenvalues of :math:`H^\top H` or :math:`HH^\top`, whichever is smaller."""
    physics, like = exact_copy(physics, like, size)
    dense = device.able(matrix(physics, size, like)).double()
    gram = dense.T @ dense if len(dense) >= dense.shape[1] else dense @ dense.T
    rounding = 10 * torch.finfo(like.dtype).eps * math.sqrt(max(dense.shape))
    tolerance = max(TOLERANCE, rounding)
    how = f"from the matrix of H in {_name(like)}, singular values above {tolerance:.1g} ||H||"
    return from_eigenvalues(torch.linalg.eigvalsh(gram), tolerance, how)


def from_shifts(physics: LinearPhysics, size: tuple[int, ...], like: torch.Tensor) -> Spectrum:
    r"""Exact where :math:`H^\top H` commutes with shifts: at each frequency the eigenvalues of the
    C x C matrix that the responses to one bright pixel in each channel give.
    """
    physics, like = exact_copy(physics, like, size)
    pixels = like.new_zeros(size[0], *size)
    pixels[range(size[0]), range(size[0]), 0, 0] = 1
    seen = torch.cat([physics.A_adjoint_A(pixel[None]) for pixel in pixels])
    blocks = torch.fft.fft2(device.able(seen)).permute(2, 3, 0, 1)
    values = torch.linalg.eigvalsh((blocks + blocks.mH) / 2).flatten()
    tolerance = max(TOLERANCE, math.sqrt(100 * torch.finfo(like.dtype).eps))
    how = f"from the Fourier transform of H^T H, singular values above {tolerance:.1g} ||H||"
    return from_eigenvalues(values, tolerance, how)


def from_eigenvalues(values: torch.Tensor, tolerance: float, how: str) -> Spectrum:
    r"""Of all eigenvalues of :math:`H^\top H` but zeros; singular values up to ``tolerance`` times
    the largest count as zero.
    """
    largest = max(values.max().item(), 0.0)
    kept = values[values > tolerance**2 * largest]
    rank = len(kept) if largest > 0 else 0
    condition = math.sqrt(largest / kept.min().item()) if rank else None
    return Spectrum(largest, condition, True, rank, True, how)


def by_lanczos(
    physics: LinearPhysics, size: tuple[int, ...], like: torch.Tensor, seconds: float
) -> Spectrum:
    r"""Bounds and estimates from products with :math:`H^\top H`, each of which takes ``seconds``.

    Started in the range, the Ritz values lie between its smallest and largest eigenvalue: L from
    below, converged to many digits, and a condition number from below. The rank is the operator's
    own where it tells its range, else n times the mean weight that random images have above
    zero (stochastic Lanczos quadrature; Ubaru, Chen, Saad 2017).
    """
    slow = seconds * (STEPS + PROBES * PROBE_STEPS) > SECONDS
    steps = 10 if slow else STEPS
    first = physics.A_adjoint_A(normal_like(like.new_zeros(1, *size), 0, "Lanczos"))
    values, _, ended = lanczos(physics.A_adjoint_A, first, steps)
    spectrum = from_eigenvalues(values, LANCZOS_TOLERANCE, "")
    rank = own_rank(physics, size)
    known, told = rank is not None, ", the rank from the operator's own basis"
    if not known and slow:
        told = f", the rank not computed: a product takes {seconds:.2g} s"
    elif not known:
        rank, told = _probed_rank(physics, size, like), f", the rank from {PROBES} random images"
    how = f"by {len(values)} Lanczos steps{told}; singular values above {LANCZOS_TOLERANCE} ||H||"
    norm = float(getattr(physics, "norm_sq", spectrum.squared_norm or 0.0))
    return Spectrum(norm, spectrum.condition_number, ended, rank, known, how)


def own_rank(physics: LinearPhysics, size: tuple[int, ...]) -> int | None:
    """The dimension of the range where the operator, or Fourier, tells it without a matrix."""
    try:
        return range_basis(physics, size, max_pixels=1).dim
    except InputError:
        return None


def _probed_rank(physics: LinearPhysics, size: tuple[int, ...], like: torch.Tensor) -> int:
    n, shares = math.prod(size), []
    for i in range(PROBES):
        start = normal_like(like.new_zeros(1, *size), i, "rank")
        values, weights, _ = lanczos(physics.A_adjoint_A, start, PROBE_STEPS)
        shares.append(weights[values > LANCZOS_TOLERANCE**2 * values.max()].sum().item())
    measured = flat(physics.A(like.new_zeros(1, *size))).shape[1]
    return min(round(n * sum(shares) / PROBES), n, measured)


def lanczos(gram: Gram, start: torch.Tensor, steps: int) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Ritz values and the weights of ``start`` on them, and whether the space of all powers was
    exhausted: the values are then eigenvalues.
    """
    diagonal: list[float] = []
    beside: list[float] = []
    ended = False
    for alpha, beta in _recurrence(gram, start, steps):
        diagonal.append(alpha)
        beside.append(beta)
        ended = beta <= 1e-5 * max(abs(value) for value in diagonal)
        if ended:
            break
    side = torch.tensor(beside[:-1], dtype=torch.float64)
    tridiagonal = torch.tensor(diagonal, dtype=torch.float64).diag() + side.diag(1) + side.diag(-1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    return values, vectors[0].square(), ended


def _recurrence(gram: Gram, start: torch.Tensor, steps: int) -> Iterator[tuple[float, float]]:
    """Diagonal and off-diagonal of the tridiagonal matrix, each new vector orthogonal to all."""
    basis: list[torch.Tensor] = []
    vector = start / max(start.norm().item(), TINY)
    for _ in range(min(steps, start.numel())):
        basis.append(vector)
        seen = gram(vector)
        alpha = (seen * vector).sum().item()
        for _ in range(2):  # twice is enough
            for other in basis:
                seen = seen - (seen * other).sum() * other
        beta = seen.norm().item()
        yield alpha, beta
        vector = seen / max(beta, TINY)


def _name(like: torch.Tensor) -> str:
    return str(like.dtype).removeprefix("torch.")
