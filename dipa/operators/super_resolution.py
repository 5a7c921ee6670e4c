"""Super-resolution: a 9 x 9 Gaussian blur of standard deviation 1 and decimation, over
deepinv's physics.
"""

from __future__ import annotations

import copy

import torch
from deepinv.physics import Downsampling
from deepinv.physics.functional import gaussian_blur

from ..checks import require, require_int
from .bases import Exact, KroneckerBasis
from .measure import gaussian_noise, operator_sides, sigma_of

# as linalg.orthonormal_range: singular values below this part of the largest count as zero
RANK_TOLERANCE = 1e-6


class SuperResolution(Exact, Downsampling):
    r"""Blur then decimation, :math:`y = D B x + \varepsilon`, on every channel alike.

    B is the circular convolution with deepinv's 9 x 9 Gaussian of standard deviation 1, D keeps
    every ``factor``-th pixel from the first on; images (B, C, H, W) give measurements (B, C, ceil(H
    / factor), ceil(W / factor)). The Gaussian is a product of two profiles, so that H is a
    Kronecker product, :math:`Hx = R\,x\,C^\top` with R and C decimated circulant matrices. Their
    singular value decompositions give in closed form what deepinv computes iteratively, or (the
    proximity operator, where the factor does not divide the size) not at all:
    :math:`\|H\|^2=\|R\|^2\|C\|^2`, :math:`H^\dagger`, :math:`(H^\top H+\lambda I)^{-1}` and
    :math:`\mathrm{range}(H^\top)`. Blur and factor are fixed at construction. Made by
    :func:`super_resolution`.

    Source: D2GP Sec. II.A item 3, Sec. III (9 x 9 kernel, standard deviation 1); DIPA Scenario 3.
    """

    factor: int
    rows: torch.Tensor
    columns: torch.Tensor
    left_rows: torch.Tensor
    left_columns: torch.Tensor
    values: torch.Tensor

    def __init__(self, img_size: tuple[int, int, int], *, factor: int, noise_sigma: float):
        kernel = gaussian_blur(sigma=(1, 1))
        noise = gaussian_noise(noise_sigma)
        super().__init__(
            img_size=img_size, filter=kernel, factor=factor, padding="circular", noise_model=noise
        )
        self.img_size, self.noise_sigma = (*img_size,), noise_sigma
        parts = self.exact()
        for name in ("rows", "columns", "left_rows", "left_columns", "values"):
            self.register_buffer(name, parts[name])
        self.norm_sq = self.values.max().item() ** 2
        seen = (self.values > RANK_TOLERANCE * self.values.max()).expand(img_size[0], -1, -1)
        index = seen.flatten().nonzero().flatten()
        self.basis = KroneckerBasis(
            self.img_size, index, parts["basis.rows"], parts["basis.columns"]
        )
        self.float()

    def exact(self):  # noqa: D102
        rows, columns = (decimated_blur(side, self.factor) for side in self.img_size[1:])
        decomposed = (torch.linalg.svd(matrix, full_matrices=False) for matrix in (rows, columns))
        (left_rows, row_values, right_rows), (left_columns, column_values, right_columns) = (
            decomposed
        )
        parts = {
            "rows": rows,
            "columns": columns,
            "left_rows": left_rows,
            "left_columns": left_columns,
        }
        parts |= {"values": torch.outer(row_values, column_values)}
        return parts | {"basis.rows": right_rows, "basis.columns": right_columns}

    def update_parameters(self, filter=None, factor=None, **kwargs):  # noqa: A002
        """Nothing to update: raises :class:`InputError` for another ``filter`` or ``factor``
        than the one built with.
        """
        got = {"filter": filter, "factor": factor}
        given = [name for name, value in got.items() if value is not None]
        require(
            not given,
            "update_parameters",
            given,
            "neither filter nor factor; make another operator",
        )

    def A(self, x: torch.Tensor, **kwargs) -> torch.Tensor:
        """H x: images (B, C, H, W) -> measurements (B, C, ceil(H / factor), ceil(W / factor))."""
        self.update_parameters(**kwargs)
        return self.rows @ x @ self.columns.T

    def A_adjoint(self, y: torch.Tensor, **kwargs) -> torch.Tensor:
        """H^T y: measurements -> images (B, C, H, W)."""
        self.update_parameters(**kwargs)
        return self.rows.T @ y @ self.columns

    def A_dagger(self, y: torch.Tensor, **kwargs) -> torch.Tensor:
        """The pseudo-inverse, by singular values above 1e-6 of the largest."""
        kept = self.values > RANK_TOLERANCE * self.values.max()
        return self._filtered(y, torch.where(kept, 1 / self.values, torch.zeros_like(self.values)))

    def prox_l2(
        self, z: torch.Tensor | float | None, y: torch.Tensor, gamma: float | torch.Tensor, **kwargs
    ) -> torch.Tensor:
        r""":math:`\arg\min_x\frac\gamma2\|Hx-y\|^2+\frac12\|x-z\|^2 =
        z+H^\top(HH^\top+\tfrac1\gamma I)^{-1}(y-Hz)`, exactly.

        ``z`` may be a number or None (zero); ``gamma`` > 0 a number or one per image (B,).
        """
        z = torch.zeros_like(self.A_adjoint(y)) + (0.0 if z is None else z)
        gamma = torch.as_tensor(gamma).to(self.values).reshape(-1, 1, 1, 1)
        return z + self._filtered(y - self.A(z), self.values / (self.values**2 + 1 / gamma))

    def _filtered(self, y: torch.Tensor, gains: torch.Tensor) -> torch.Tensor:
        """V diag(gains) U^T y, of the decomposition H = U diag(values) V^T."""
        return self.basis.synthesis(gains * (self.left_rows.T @ y @ self.left_columns))

    def range_basis(self) -> KroneckerBasis:
        """Orthonormal coordinates of range(H^T), products of singular vectors of R and C; the
        caller's own copy.
        """
        return copy.deepcopy(self.basis)

    def plane_basis(self) -> KroneckerBasis:
        """Those of one channel, (1, H, W); the caller's own copy."""
        basis, per_channel = self.range_basis(), self.basis.dim // self.img_size[0]
        return KroneckerBasis(
            (1, *self.img_size[1:]), basis.index[:per_channel], basis.rows, basis.columns
        )

    def describe(self) -> dict:
        """What makes this operator, as plain values (for cache keys and run folders)."""
        record = {
            "kind": "super_resolution",
            "img_size": list(self.img_size),
            "factor": self.factor,
        }
        return record | {"noise_sigma": self.noise_sigma}


def decimated_blur(size: int, factor: int) -> torch.Tensor:
    """R (ceil(size / factor), size), float64: row i is the Gaussian's profile around pixel i x
    factor, wrapped around.
    """
    profile = gaussian_blur(sigma=(1, 1), dtype=torch.float64)[0, 0].sum(dim=1)
    centres = torch.arange(0, size, factor)
    matrix = torch.zeros(len(centres), size, dtype=torch.float64)
    for tap, weight in enumerate(profile, start=-(len(profile) // 2)):
        matrix[torch.arange(len(centres)), (centres + tap) % size] += weight
    return matrix


def super_resolution(
    img_size: tuple[int, int, int], *, factor: int, noise_sigma: float = 0.0
) -> SuperResolution:
    r"""The super-resolution operator of resize factor :math:`\mathrm{RF}=\sqrt{n/m}`.

    Args:
        img_size: (C, H, W), any channels, H and W >= 4 (half the kernel), not necessarily multiples
            of ``factor``: 110 at factor 4 gives 28 samples, the last of them two pixels from the
            first around the edge.
        factor: keep every ``factor``-th pixel, an integer in [1, min(H, W)]; 1 is a blur alone.
        noise_sigma: standard deviation of the Gaussian noise on each sample, >= 0. Draw it with
            :func:`~dipa.operators.measure.measure`, or ``physics(x, seed=...)``.

    Raises:
        InputError: a size that is not three such integers, a factor outside its range, negative
            noise.
    """
    sides = operator_sides(
        img_size, lambda side: side >= 4, "an integer >= 4 (a 9 x 9 kernel that wraps around once)"
    )
    factor = require_int("factor", factor, 1, min(sides[1:]))
    return SuperResolution(sides, factor=factor, noise_sigma=sigma_of(noise_sigma))
