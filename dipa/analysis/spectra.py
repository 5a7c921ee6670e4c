r"""Spectra of a preconditioned operator, on the range and into the null space apart.

Linearised at a gradient, a preconditioned step multiplies the error by :math:`I-\alpha J H^\top H`.
On the whole image space :math:`J H^\top H` has a zero singular value for every direction H does not
see, whatever P: its condition number there is infinite and says nothing. What P can improve is the
block from :math:`\mathrm{range}(H^\top)` to itself; what else P does is to send a seen error into
the null space. With orthonormal rows V spanning the range:

.. math::
    R = V\,J\,H^\top H\,V^\top\in\mathbb{R}^{r\times r},\qquad
    N = (I-V^\top V)\,J\,H^\top H\,V^\top\in\mathbb{R}^{n\times r}
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from deepinv.physics import LinearPhysics

from .. import device
from ..checks import foreign, require, require_images, require_kind, require_number
from ..operators import Basis, range_basis
from ..physics import image_size, numbers_of, require_beside, require_operator, require_takes
from ..solvers.proximal import PreconditionerLike, takes_fit
from .jacobian import directional, is_linear

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Spectra:
    r"""Singular values of the two blocks of :math:`J H^\top H`, largest first.

    Attributes:
        range_block: R, (r, r), in the coordinates of the basis.
        range_values: singular values of R, (r,); they do not depend on which orthonormal basis of
            the range was used.
        null_values: singular values of N, (r,): how strongly a seen error is turned into unseen
            image content.
        tolerance: values at or below this times the largest of R count as zero.
    """

    range_block: torch.Tensor
    range_values: torch.Tensor
    null_values: torch.Tensor
    tolerance: float = TOLERANCE

    @property
    def range_rank(self) -> int:
        """How many directions of the range the preconditioned Gram keeps, by the tolerance."""
        return int((self.range_values > self.tolerance * self.range_values.max()).sum())

    @property
    def null_rank(self) -> int:
        """How many directions P sends into the null space, by the tolerance relative to the
        largest value on the range.
        """
        return int((self.null_values > self.tolerance * self.range_values.max()).sum())

    @property
    def condition_number(self) -> float:
        """Largest over smallest singular value on the range; infinite where P loses a direction
        of it (by the tolerance).
        """
        full = self.range_rank == len(self.range_values)
        return (self.range_values.max() / self.range_values.min()).item() if full else math.inf

    def eigenvalues(self) -> torch.Tensor:
        r"""Eigenvalues of R, (r,) complex: without prior and momentum a step converges where
        all :math:`|1-\alpha\lambda|<1`.
        """
        return torch.linalg.eigvals(device.able(self.range_block))

    def radius(self, stepsize: float) -> float:
        r"""The largest :math:`|1-\alpha\lambda|`: what a step of this size leaves, in the long
        run, of the slowest error.
        """
        return (1 - stepsize * self.eigenvalues()).abs().max().item()

    def summary(self) -> dict[str, float]:
        """The figures of a table, as plain values."""
        return {
            "condition_number": self.condition_number,
            "range_largest": self.range_values.max().item(),
            "range_smallest": self.range_values.min().item(),
            "range_rank": self.range_rank,
            "null_largest": self.null_values.max().item(),
            "null_rank": self.null_rank,
        }


@takes_fit
@torch.no_grad()
def spectra(
    preconditioner: PreconditionerLike,
    physics: LinearPhysics,
    gradient: torch.Tensor | None = None,
    iterate: torch.Tensor | None = None,
    k: int = 1,
    *,
    basis: Basis | None = None,
    tolerance: float = TOLERANCE,
    chunk: int = 32,
) -> Spectra:
    r"""Spectra of :math:`J_P(g)\,H^\top H` on :math:`\mathrm{range}(H^\top)` and into its
    complement.

    Args:
        preconditioner: ``P(gradient, iterate, k) -> direction``.
        physics: the operator H.
        gradient: where P is linearised, one image (1, C, H, W); None for a P that declares itself
            linear.
        iterate: z, (1, C, H, W); None is zero.
        k: iteration number from 1.
        basis: coordinates of the range; None is :func:`dipa.operators.range_basis`.
        tolerance: relative size in [0, 1] below which a singular value counts as zero.
        chunk: directions at once.

    Returns:
        :class:`Spectra`.

    Raises:
        InputError: no gradient for a P that is not linear, a tolerance outside [0, 1].

    Source: D2GP Fig. 3(c), which shows singular values and condition number of the whole
    preconditioned Gram matrix.
    """
    tolerance = require_number("tolerance", tolerance, 0, 1)
    require_operator("physics", physics)
    if basis is not None:
        require_kind("basis", basis, Basis)
    if gradient is None:
        require(
            is_linear(preconditioner),
            "gradient",
            None,
            "one image (1, C, H, W), for a preconditioner that is not linear",
        )
        size = basis.img_size if basis is not None else image_size(physics)
        gradient = numbers_of(physics, size).new_zeros(1, *size)
    require_images("gradient", gradient)
    require_takes("physics", physics, gradient)
    basis = range_basis(physics, tuple(gradient.shape[1:])) if basis is None else basis
    require_beside("basis", basis, "gradient", gradient)
    with foreign(
        "basis",
        f"{type(basis).__name__} of images {basis.img_size}",
        "one of images that the operator takes",
    ):
        seen = physics.A_adjoint_A(basis.image(torch.eye(basis.dim).to(gradient)))
    sent = directional(preconditioner, gradient, seen, iterate, k, chunk=chunk)
    inside = basis.coordinates(sent)
    outside = (sent - basis.image(inside)).flatten(1)
    range_values, null_values = (
        torch.linalg.svdvals(device.able(part).double()).to(part) for part in (inside, outside)
    )
    return Spectra(inside.T, range_values, null_values, tolerance)
