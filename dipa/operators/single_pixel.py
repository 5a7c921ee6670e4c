"""The single-pixel camera: a subsampled 2-D Hadamard transform over deepinv's physics."""

from __future__ import annotations

import copy

import torch
from deepinv.physics import DecomposablePhysics

from ..checks import require, require_choice, require_number
from .bases import HadamardBasis
from .measure import gaussian_noise
from .orderings import ORDERINGS, hadamard_mask
from .sizes import POWER_OF_TWO, operator_sides, power_of_two, sigma_of


class SinglePixel(DecomposablePhysics):
    r"""Single-pixel camera :math:`y = M W x + \varepsilon`, W the orthonormal 2-D Hadamard
    transform, M a 0/1 mask.

    Measurements are kept as the full masked spectrum (B, C, H, W), as in deepinv, but noise falls
    on the measured coefficients only. W is applied as two matrix products instead of deepinv's
    butterflies (the same numbers, faster). :math:`H^\top H` is an orthogonal projector: its
    eigenvalues are 1 (m of them) and 0, so :math:`\|H\|^2=1` and :math:`H^\dagger=H^\top`.
    Everything else (pseudo-inverse, proximity operator, ...) comes from
    :class:`deepinv.physics.DecomposablePhysics`. Made by :func:`single_pixel`.

    Source: D2GP Sec. II.A item 1 and DIPA Scenario 2 (both write H with entries +-1; here rows have
    unit norm).
    """

    def __init__(self, mask: torch.Tensor, *, ordering: str, ratio: float, noise_sigma: float):
        super().__init__(
            mask=mask[None], img_size=tuple(mask.shape), noise_model=gaussian_noise(noise_sigma)
        )
        self.ordering, self.ratio, self.noise_sigma, self.norm_sq = (
            ordering,
            ratio,
            noise_sigma,
            1.0,
        )
        self.basis = HadamardBasis(self.img_size, mask.flatten().nonzero().flatten())

    def V_adjoint(self, x, **kwargs):  # noqa: D102, N802
        return self.basis.transform(x)

    def V(self, y, **kwargs):  # noqa: D102, N802
        return self.basis.transform(y)

    def U(self, y, **kwargs):  # noqa: D102, N802
        return y

    def U_adjoint(self, y, **kwargs):  # noqa: D102, N802
        return y

    def noise(self, y, **kwargs):
        """Add noise to the measured coefficients only; unmeasured ones stay exactly zero."""
        return self.mask * super().noise(y, **kwargs)

    def range_basis(self) -> HadamardBasis:
        """Orthonormal coordinates of range(H^T): the m measured Hadamard functions a channel;
        the caller's own copy.
        """
        return copy.deepcopy(self.basis)

    def plane_basis(self) -> HadamardBasis:
        """The Hadamard functions measured in any channel, as planes (1, H, W)."""
        seen = self.mask[0].amax(dim=0).flatten().nonzero().flatten()
        return HadamardBasis((1, *self.img_size[1:]), seen).to(self.mask)

    def describe(self) -> dict:
        """What makes this operator, as plain values (for cache keys and run folders)."""
        shape = list(self.img_size)
        return {
            "kind": "single_pixel",
            "img_size": shape,
            "ratio": self.ratio,
            "ordering": self.ordering,
            "noise_sigma": self.noise_sigma,
        }


def single_pixel(
    img_size: tuple[int, int, int],
    *,
    ratio: float,
    ordering: str = "cake_cutting",
    noise_sigma: float = 0.0,
) -> SinglePixel:
    r"""A single-pixel camera that measures the first :math:`m=\mathrm{round}(\gamma n)` Hadamard
    coefficients a channel.

    Args:
        img_size: (C, H, W), H and W powers of two (H = W for ``cake_cutting``).
        ratio: compression ratio :math:`\gamma=m/n` in ]0, 1], n = H W.
        ordering: one of :data:`~dipa.operators.ORDERINGS`; see :mod:`dipa.operators.orderings`.
        noise_sigma: standard deviation of the Gaussian noise on each measured coefficient, in units
            of the orthonormal transform (so equal to a pixel noise of the same size). Draw it with
            :func:`~dipa.operators.measure.measure`, or ``physics(x, seed=...)``.

    Raises:
        InputError: a size that is not three integers, the last two powers of two; a ratio outside
            ]0, 1], an unknown ordering, negative noise.
    """
    channels, height, width = operator_sides(img_size, power_of_two, POWER_OF_TWO)
    ratio, sigma = float(require_number("ratio", ratio, 0, 1, open_low=True)), sigma_of(noise_sigma)
    require_choice("ordering", ordering, ORDERINGS)
    require(
        height == width or ordering != "cake_cutting",
        "img_size",
        tuple(img_size),
        "H = W for ordering 'cake_cutting'",
    )
    m = max(1, round(ratio * height * width))
    mask = hadamard_mask(height, width, m, ordering).expand(channels, -1, -1).contiguous()
    return SinglePixel(mask, ordering=ordering, ratio=ratio, noise_sigma=sigma)
