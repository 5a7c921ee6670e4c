"""L-DIPA: one trainable matrix shared by all iterations, dense or restricted to what it can ever see."""

from __future__ import annotations

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from ..checks import require, require_choice, require_images, require_number
from ..declared import image_size, numbers_like
from ..operators import Basis, PixelBasis, range_basis
from .base import Preconditioner, Traits

FORMS = ("low_rank", "dense")


class LinearPreconditioner(Preconditioner):
    r"""L-DIPA: direction :math:`d=P\nabla g` with :math:`P=BV`, B trainable (n, r), V orthonormal rows (r, n).

    With V the identity, B is the paper's dense :math:`P\in\mathbb{R}^{n\times n}`. With V spanning
    :math:`\mathrm{range}(H^\top)` only the block of P that a data gradient can excite is kept: the iterates are the
    same, with r / n of the parameters. P is not constrained to be symmetric or positive.

    Args:
        matrix: B, (n, r), n = C H W.
        basis: coordinates V, see :class:`dipa.operators.Basis`.

    Source: DIPA Sec. 3.3; the low-rank form is this project's.
    """

    traits = Traits(linear=True, iteration_dependent=False)

    def __init__(self, matrix: torch.Tensor, basis: Basis):
        super().__init__()
        n = int(torch.tensor(basis.img_size).prod())
        require(tuple(matrix.shape) == (n, basis.dim), "matrix.shape", tuple(matrix.shape), f"({n}, {basis.dim})")
        self.basis = basis
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """P applied to the gradient; the iterate and k are not used."""
        return (self.basis.coordinates(gradient) @ self.matrix.T).reshape_as(gradient)

    @classmethod
    def identity(
        cls, physics: LinearPhysics, img_size: tuple[int, int, int] | None = None, *, form: str = "low_rank"
    ) -> LinearPreconditioner:
        """P = I on every data gradient of ``physics``: the start the papers use.

        ``form`` is ``low_rank`` (n x r) or ``dense`` (n x n); ``img_size`` (C, H, W) where ``physics`` carries none.
        dtype and device are those of ``physics``.
        """
        require_choice("form", form, FORMS)
        basis = range_basis(physics, img_size) if form == "low_rank" else PixelBasis(image_size(physics, img_size))
        rows = basis.image(torch.eye(basis.dim).to(numbers_like(physics))).flatten(1)
        return cls(rows.T, basis)

    @classmethod
    def ridge(
        cls,
        physics: LinearPhysics,
        images: torch.Tensor,
        *,
        stepsize: float,
        regularization: float = 1e-3,
        null_weight: float = 1.0,
        form: str = "low_rank",
    ) -> LinearPreconditioner:
        r"""The closed-form linear predictor as a preconditioner, fitted on clean images of shape (N, C, H, W).

        .. math::
            B = \arg\min_B \sum_i \|x_i-\alpha B\,V H^\top Hx_i\|_2^2+\lambda N\|\alpha B\|_F^2

        so that one step of size :math:`\alpha` from zero lands on the ridge estimate of x from y. ``regularization``
        is :math:`\lambda` (> 0), in units of squared intensity. ``null_weight`` in [0, 1] then scales what P adds
        outside :math:`\mathrm{range}(H^\top)`: repeated for K iterations with momentum, the full guess overshoots on
        hard images (at 1, P is the ridge solution; at 0, no direction leaves the range). Raises :class:`InputError`
        for other values.
        """
        require_images("images", images)
        require_number("stepsize", stepsize, 0, open_low=True)
        require_number("regularization", regularization, 0, open_low=True)
        require_number("null_weight", null_weight, 0, 1)
        start = cls.identity(physics, tuple(images.shape[1:]), form=form)
        covariance = torch.zeros(start.basis.dim, start.basis.dim, dtype=torch.float64, device=images.device)
        cross = torch.zeros(start.matrix.shape, dtype=torch.float64, device=images.device)
        for batch in images.split(4096):
            seen = start.basis.coordinates(physics.A_adjoint_A(batch)).double()
            covariance += seen.T @ seen
            cross += batch.flatten(1).double().T @ seen
        covariance.diagonal().add_(regularization * len(images))
        columns = (torch.linalg.solve(covariance, cross.T) / stepsize).to(images.dtype).reshape(-1, *images.shape[1:])
        seen = range_basis(physics, tuple(images.shape[1:])).project(columns)
        return cls((seen + null_weight * (columns - seen)).flatten(1).T, start.basis)

    def dense(self) -> torch.Tensor:
        """P as an (n, n) matrix acting on flattened images; zero outside the subspace for the low-rank form."""
        return self.matrix @ self.basis.image(torch.eye(self.basis.dim).to(self.matrix)).flatten(1)
