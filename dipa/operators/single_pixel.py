"""The single-pixel camera, a subsampled 2-D Hadamard transform over deepinv's physics, and which
Hadamard rows it measures first.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from deepinv.physics import DecomposablePhysics, SinglePixelCamera
from deepinv.physics.singlepixel import cake_cutting_seq, get_permutation_list, sequency_order

from ..checks import require, require_choice, require_int, require_number
from ..choices import ORDERINGS
from .bases import HadamardBasis
from .measure import gaussian_noise, operator_sides, sigma_of

POWER_OF_TWO = "a power of two >= 2 (Hadamard transform)"
DEEPINV_ORDERINGS = ("zig_zag", "xy", "sequency")


def power_of_two(side: int) -> bool:
    """Whether the Hadamard transform has such a side."""
    return side >= 2 and side & (side - 1) == 0


def _deepinv(ordering: str):
    def mask(height: int, width: int, m: int) -> torch.Tensor:
        return SinglePixelCamera(m, (1, height, width), ordering=ordering).mask[0, 0]

    return mask


def _cake_cutting(height: int, width: int, m: int) -> torch.Tensor:
    """deepinv's, whose sort leaves the order of functions with equally many pieces to the
    processor: here they keep their sequence.
    """
    pieces = [count for i in range(1, height + 1) for count in cake_cutting_seq(i, height)]
    order = np.argsort(pieces, kind="stable")
    index = torch.as_tensor(np.asarray(sequency_order(height * width))[order][:m])
    mask = torch.zeros(width * height)
    mask[index] = 1
    return mask.reshape(width, height).T


def _sequency_permutation(height: int, width: int, m: int) -> torch.Tensor:
    mask = torch.zeros(width * height)
    mask[get_permutation_list(height * width)[:m]] = 1
    return mask.reshape(width, height).T


def _sequency_rows(height: int, width: int, m: int) -> torch.Tensor:
    mask, entry = torch.zeros(height, width), torch.arange(m)
    mask[
        get_permutation_list(height)[entry // width], get_permutation_list(width)[entry % width]
    ] = 1
    return mask


MASKS = {"cake_cutting": _cake_cutting}
MASKS |= {name: _deepinv(name) for name in DEEPINV_ORDERINGS}
MASKS |= {"sequency_permutation": _sequency_permutation, "sequency_rows": _sequency_rows}


def hadamard_mask(height: int, width: int, m: int, ordering: str) -> torch.Tensor:
    """Mask (height, width) with ``m`` ones on the 2-D Hadamard coefficients that come first in
    ``ordering``.

    Four orderings are deepinv's own (0.5.0), ``cake_cutting`` with ties broken the same way on
    every processor. Two more are what the word "sequency" meant in earlier releases, kept because
    published single-pixel results depend on it:

    ``sequency``
        today's deepinv: one-dimensional Walsh order of the column-major flattened image.
    ``sequency_permutation``
        deepinv 0.3.1 to 0.4.0 (``ordering="old_sequency"``): a one-dimensional bit-reversed
        Gray-code permutation.
    ``sequency_rows``
        deepinv between releases 0.3.0 and 0.3.1, as vendored by the papers' group
        (juliogr7/DistillPool): the first m entries, row by row, of the grid whose rows and columns
        follow that same permutation. (Releases up to 0.3.0 kept a block of more than m
        coefficients, 448 for m = 205 at 32 x 32; it is no ordering and is not offered.)

    Raises :class:`InputError` for sides that are no powers of two (or, for ``cake_cutting``,
    differ), another m or ordering.
    """
    _, height, width = operator_sides((1, height, width), power_of_two, POWER_OF_TWO)
    m = require_int("m", m, 1, height * width)
    require_choice("ordering", ordering, ORDERINGS)
    require(
        height == width or ordering != "cake_cutting",
        "height and width",
        (height, width),
        "equal for 'cake_cutting'",
    )
    return MASKS[ordering](height, width, m).contiguous()


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
        ordering: one of :data:`~dipa.operators.ORDERINGS`; see :func:`hadamard_mask`.
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
