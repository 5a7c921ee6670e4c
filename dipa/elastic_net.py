"""A prior with learned levels on wavelet coefficients, whose step contracts."""

from __future__ import annotations

import torch
from torch import nn

from .checks import require, require_img_size, require_int, require_number


class ElasticNet(nn.Module):
    r"""Of orthonormal wavelet coefficients c (:func:`dipa.operators.in_wavelets`), with one learned
    level :math:`\lambda_s` for each subband s of a scale and direction,

    .. math::
        \psi(c)=\sum_s\lambda_s\|c_s\|_1+\frac\rho2\|c\|_2^2,\qquad
        \mathrm{prox}_{\alpha\psi}(v)_s=\frac{\mathrm{soft}(v_s,\alpha\lambda_s)}{1+\alpha\rho}.

    A step of proximal gradient with :math:`\alpha\le2/\|H\|^2` contracts by
    :math:`1/(1+\alpha\rho)` then, whatever the levels are.

    Args:
        img_size: (C, H, W) of the coefficients.
        level: scales of the transform; H and W are multiples of :math:`2^{level}`.
        start: all levels before training, > 0.
        curvature: :math:`\rho\ge0`; not learned.

    Source: H. Zou and T. Hastie, "Regularization and variable selection via the elastic net", J. R.
    Stat. Soc. B 67(2), 2005; regularization levels are what L. Davy, L. Briceno-Arias and N.
    Pustelnik learn at equilibrium, 2025 (its abstract).
    """

    def __init__(
        self,
        img_size: tuple[int, int, int],
        *,
        level: int = 3,
        start: float = 1e-2,
        curvature: float = 1e-2,
    ):
        super().__init__()
        self.img_size = require_img_size(img_size)
        level = require_int("level", level, 1)
        fine = all(side % 2**level == 0 for side in self.img_size[1:])
        require(fine, "img_size", img_size, f"sides that are multiples of {2**level}")
        start = require_number("start", start, 0, open_low=True)
        self.curvature = float(require_number("curvature", curvature, 0))
        self.logarithms = nn.Parameter(torch.full((3 * level + 1,), float(start)).log())
        self.subband: torch.Tensor
        self.register_buffer("subband", subbands(self.img_size[1:], level), persistent=False)

    @property
    def levels(self) -> torch.Tensor:
        r""":math:`\lambda_s`, the approximation first, then three directions from coarse to fine:
        (3 level + 1,).
        """
        return self.logarithms.exp()

    def step(
        self, z: torch.Tensor, direction: torch.Tensor, stepsize: float | torch.Tensor
    ) -> torch.Tensor:
        """The next iterate from the point z (B, C, H, W) and the direction there."""
        require(z.shape[1:] == self.img_size, "images", tuple(z.shape), f"(B, *{self.img_size})")
        v = z - stepsize * direction
        threshold = stepsize * self.levels[self.subband]
        return v.sign() * (v.abs() - threshold).clamp_min(0) / (1 + stepsize * self.curvature)

    def describe(self) -> dict:
        """The prior as plain values; its levels are described by their owner."""
        return {"kind": "ElasticNet", "curvature": self.curvature, "levels": len(self.logarithms)}


def subbands(sides: tuple[int, int], level: int) -> torch.Tensor:
    """To which subband each coefficient belongs, as :class:`dipa.operators.WaveletSynthesis` lays
    them out: 0 the approximation, then three directions from the coarsest scale to the finest,
    (H, W).
    """
    found = torch.zeros(sides, dtype=torch.long)
    for scale in range(1, level + 1):
        height, width = (side >> scale for side in sides)
        first = 3 * (level - scale) + 1
        found[height : 2 * height, :width] = first
        found[:height, width : 2 * width] = first + 1
        found[height : 2 * height, width : 2 * width] = first + 2
    return found
