"""A low-rank sketch of the Gram, inverted: made from the operator alone."""

from __future__ import annotations

import math

import torch
from deepinv.physics import LinearPhysics

from .. import seeding
from ..checks import require_int, require_number
from ..memory import require_room
from ..physics import image_size, numbers_of, require_applies
from .base import Preconditioner, Traits
from .fixed import require_size

CHUNK = 64  # images of the sketch at a time


class Nystrom(Preconditioner):
    r"""Nyström's preconditioner :math:`d=P\nabla g` of a sketch
    :math:`U\Lambda U^\top\approx H^\top H` of rank r,

    .. math::
        P=U(\Lambda+\lambda I)^{-1}U^\top+\frac1{\lambda_r+\lambda}\,(I-UU^\top),

    U orthonormal (n, r), :math:`\lambda_r` the smallest of :math:`\Lambda`: as the Hessian's on
    the directions that H sees best, one number on all others. The sketch costs r applications of
    the Gram to random images; nothing of the operator is kept.

    Args:
        physics: a deepinv linear operator H.
        img_size: (C, H, W) where ``physics`` carries none.
        rank: r, in [1, n].
        regularization: :math:`\lambda>0`, in units of the eigenvalues of :math:`H^\top H`.
        seed: of the random images.

    Raises:
        InputError: numbers out of range; a sketch larger than the free memory.

    Source: Z. Frangella, J. A. Tropp and M. Udell, "Randomized Nyström preconditioning", SIAM J.
    Matrix Anal. Appl. 44(2), 2023, up to a factor.
    """

    traits = Traits(linear=True, iteration_dependent=False)
    basis: torch.Tensor
    values: torch.Tensor

    def __init__(
        self,
        physics: LinearPhysics,
        img_size: tuple[int, int, int] | None = None,
        *,
        rank: int,
        regularization: float,
        seed: int = 0,
    ):
        super().__init__()
        size = image_size(physics, img_size)
        pixels = math.prod(size)
        rank, seed = require_int("rank", rank, 1, pixels), require_int("seed", seed, 0)
        regularization = require_number("regularization", regularization, 0, open_low=True)
        require_applies("physics", physics, size, several=True)
        like = numbers_of(physics, size)
        room = torch.empty(0, dtype=torch.float64)  # the algebra is the processor's
        require_room("rank", rank, (4, pixels, rank), room)
        basis, values = _sketch(physics, size, rank, seed, like)
        self.img_size, self.regularization = size, float(regularization)
        self.register_buffer("basis", basis)
        self.register_buffer("values", values)

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """P applied to the gradient; the iterate and k are not used."""
        inverse = 1 / (self.values + self.regularization)
        beside, flat = inverse[-1], gradient.flatten(1)
        inside = (flat @ self.basis) * (inverse - beside)
        return (beside * flat + inside @ self.basis.T).reshape_as(gradient)

    def require_fits(self, images: torch.Tensor) -> None:  # noqa: D102
        require_size(images, self.img_size)


@torch.no_grad()
def _sketch(
    physics: LinearPhysics, size: tuple[int, int, int], rank: int, seed: int, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """U (n, r) and the eigenvalues (r,), largest first; a shift keeps the small system positive."""
    drawn = torch.randn(
        size[0] * size[1] * size[2], rank, generator=seeding.generator(seed, "sketch")
    )
    probes = torch.linalg.qr(drawn.double())[0]
    images = probes.T.reshape(rank, *size).to(like)
    seen = torch.cat([physics.A_adjoint_A(part) for part in images.split(CHUNK)])
    seen = seen.cpu().double().flatten(1).T
    shift = torch.finfo(like.dtype).eps * seen.norm()
    seen = seen + shift * probes
    small = probes.T @ seen
    lower = torch.linalg.cholesky((small + small.T) / 2)
    half = torch.linalg.solve_triangular(lower, seen.T, upper=False).T
    basis, singular, _ = torch.linalg.svd(half, full_matrices=False)
    values = (singular.square() - shift).clamp_min(0)
    return basis.to(like), values.to(like)
