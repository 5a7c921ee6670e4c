"""Directions of fixed kinds in learned proportions: polynomials of the Gram, smoothed."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from deepinv.physics import LinearPhysics

from .. import device
from ..checks import in_a_row, require, require_flag, require_int, require_number
from ..physics import lipschitz, require_operator
from .base import Traits
from .fixed import MAX_DEGREE
from .per_iteration import LEAST, PerIteration

MAX_WIDTHS = 32
WIDEST = 1000.0  # pixels


class CombinedSteps(PerIteration):
    r"""A weighted sum of directions that need no training:

    .. math::
        d=\sum_{i,j}p_{k,ji}\,G_i\,T_j\!\Big(\tfrac2LH^\top H-I\Big)\nabla g,

    :math:`T_j` the Chebyshev polynomials up to ``degree``, which even out the spectrum of
    :math:`H^\top H`, :math:`G_0=I` and :math:`G_i` a Gaussian of the standard deviations
    ``widths``, which carries what is measured to the pixels around, into the null space too. With
    ``mixed`` each of them a second time, averaged over the channels.

    It starts as the identity. An iteration costs ``degree`` applications of the Gram, and one
    Fourier transform. The weights have no units (L takes those of H) and belong to no image size,
    so that what is learned with several operators serves others of their kind.

    :func:`~dipa.training.fit_steps` finds p in closed form. P acts with the operator that it is
    used with: a solver says which; elsewhere :meth:`on` does.

    Args:
        iterations: K >= 1, as for the other steps; 1 is one set of weights for all iterations.
        degree: of the polynomials, in [0, 8].
        widths: of the Gaussians in pixels, each > 0; none leaves polynomials alone.
        mixed: whether directions averaged over the channels (colours) are among them.

    Source: polynomials of the Gram as preconditioners: Iyer, Ong, Cao, Liao, Daniel, Tamir and
    Setsompop, SIAM J. Imaging Sci. 17(1), 2024; per-iteration weights in closed form: Ehrhardt,
    Fahy and Golbabaee, arXiv 2406.00260, 2024; both together, and the Gaussians, are this
    project's.
    """

    kind = "combined_steps"
    _operator: LinearPhysics | None = None

    def __init__(
        self,
        iterations: int,
        *,
        degree: int = 4,
        widths: Sequence[float] = (0.5, 1.0, 2.0, 4.0, 8.0),
        mixed: bool = False,
    ):
        degree, mixed = require_int("degree", degree, 0, MAX_DEGREE), require_flag("mixed", mixed)
        known = in_a_row(widths) and len(widths) <= MAX_WIDTHS
        require(known, "widths", widths, f"at most {MAX_WIDTHS} numbers in a row")
        start = torch.zeros(1 + mixed, 1 + degree, 1 + len(widths))
        start[0, 0, 0] = 1
        super().__init__(iterations, start)
        self.traits = Traits(linear=True, iteration_dependent=self.iterations > 1)
        self.degree, self.mixed = degree, mixed
        self.widths = tuple(
            float(require_number("widths", width, 0, WIDEST, open_low=True)) for width in widths
        )

    def on(self, physics: LinearPhysics) -> CombinedSteps:
        """This P, its weights shared, for one operator."""
        require_operator("physics", physics)
        acting = copy.copy(self)
        object.__setattr__(acting, "_operator", physics)
        return acting

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The directions in the proportions of iteration k."""
        powers = torch.stack(self._polynomials(gradient))
        sums = torch.einsum("mji,jbchw->imbchw", self._step(k), powers)
        direction = sums[0] + self._smoothed(sums[1:]).sum(dim=0)
        mean = direction[1:].mean(dim=2, keepdim=True).sum(dim=0)  # 0 where nothing is mixed
        return direction[0] + mean

    def normal_equations(  # noqa: D102
        self, error: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        powers = torch.stack(self._polynomials(direction))
        same = powers.expand(len(self.widths), *powers.shape)
        parts = torch.cat([powers[None], self._smoothed(same)]).transpose(0, 1)
        if self.mixed:
            mean = parts.mean(dim=3, keepdim=True).expand_as(parts)
            parts = torch.stack([parts, mean])
        flat = device.able(parts).double().reshape(self.steps[0].numel(), -1)
        return flat @ flat.T, flat @ device.able(error).double().flatten()

    def solution(  # noqa: D102
        self, gram: torch.Tensor, right: torch.Tensor, regularization: float
    ) -> torch.Tensor:
        scale = gram.diagonal().clamp_min(LEAST).sqrt()
        system = gram / scale / scale[:, None]
        level = regularization * torch.eye(len(scale)).to(gram)
        return (torch.linalg.solve(system + level, right / scale) / scale).reshape_as(self.steps[0])

    def _polynomials(self, gradient: torch.Tensor) -> list[torch.Tensor]:
        r""":math:`T_j(2H^\top H/L-I)` of the gradient, j = 0, ..., degree."""
        terms = [gradient]
        if not self.degree:
            return terms
        physics = self._operator
        allowed = "P.on(physics): the polynomials are those of an operator"
        require(physics is not None, "preconditioner", "CombinedSteps of no operator", allowed)
        assert physics is not None
        norm = lipschitz(physics, tuple(gradient.shape[1:]), gradient)
        for j in range(self.degree):
            moved = (2 / max(norm, LEAST)) * physics.A_adjoint_A(terms[-1]) - terms[-1]
            terms.append(moved if j == 0 else 2 * moved - terms[-2])
        return terms

    def _smoothed(self, images: torch.Tensor) -> torch.Tensor:
        """Images (widths, ..., H, W), each by its Gaussian, periodic at the edges."""
        if not self.widths:
            return images
        height, width = images.shape[-2:]
        rows = torch.fft.fftfreq(height, dtype=torch.float64)
        columns = torch.fft.rfftfreq(width, dtype=torch.float64)
        squared = rows[:, None].square() + columns.square()
        sigmas = torch.tensor(self.widths, dtype=torch.float64).reshape(-1, 1, 1)
        filters = torch.exp(-2 * (math.pi * sigmas).square() * squared).to(images)
        shape = (len(sigmas), *[1] * (images.ndim - 3), *squared.shape)
        return torch.fft.irfft2(torch.fft.rfft2(images) * filters.reshape(shape), s=(height, width))

    def header(self) -> dict[str, Any]:  # noqa: D102
        header = {"iterations": self.iterations, "degree": self.degree, "widths": list(self.widths)}
        return header | {"mixed": self.mixed}
