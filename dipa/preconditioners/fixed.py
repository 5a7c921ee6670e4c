r"""Preconditioners made from the operator alone: nothing is trained, so nothing is saved.

On an operator whose Gram :math:`H^\top H` is an orthogonal projector (single-pixel camera,
single-coil MRI) each of them multiplies every data gradient by one number: there they are
stepsizes.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from deepinv.optim.linear import conjugate_gradient
from deepinv.physics import LinearPhysics

from ..checks import in_a_row, require, require_int, require_number
from ..physics import declared_size, image_size, lipschitz, require_operator, require_takes
from .base import Preconditioner, Traits

MAX_DEGREE = 8  # beyond it, powers of H^T H lose more than two digits in float32
EIGENVALUE_RATIO = 30.0
SCALES = (1e-30, 1e30)  # of the eigenvalues: the ninth powers of both are finite numbers above 0


class Hessian(Preconditioner):
    r"""Newton's direction :math:`d=(H^\top H+\lambda I)^{-1}\nabla g`.

    By the operator's ``prox_l2`` where it has one of its own (closed forms of decomposable
    operators, periodic blurs), else by deepinv's conjugate gradients from zero, at most
    ``max_iter`` of them, to a relative residual of ``tol``. (deepinv's general ``prox_l2`` starts
    them from :math:`\nabla g/\lambda`: in float32 that ends far off for small :math:`\lambda`.) The
    operator is copied.

    Args:
        physics: a deepinv linear operator H.
        img_size: (C, H, W) where ``physics`` carries none.
        regularization: :math:`\lambda>0`, in units of the eigenvalues of :math:`H^\top H`.
        max_iter: of the conjugate gradients, >= 1.
        tol: of the conjugate gradients, in ]0, 1].

    Source: D2GP Table I, row Hessian (printed without :math:`\lambda`, where the inverse need not
    exist).
    """

    traits = Traits(linear=True, iteration_dependent=False)

    def __init__(
        self,
        physics: LinearPhysics,
        img_size: tuple[int, int, int] | None = None,
        *,
        regularization: float,
        max_iter: int = 500,
        tol: float = 1e-6,
    ):
        super().__init__()
        regularization = require_number("regularization", regularization, 0, open_low=True)
        max_iter, tol = (
            require_int("max_iter", max_iter, 1),
            require_number("tol", tol, 0, 1, open_low=True),
        )
        require_operator("physics", physics)
        self.img_size = image_size(physics, img_size)
        self.physics = copy.deepcopy(physics).requires_grad_(False)
        self.regularization, self.options = (
            float(regularization),
            {"max_iter": max_iter, "tol": tol},
        )

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The inverse applied to the gradient; the iterate and k are not used."""
        if getattr(type(self.physics), "prox_l2", LinearPhysics.prox_l2) is LinearPhysics.prox_l2:
            return self._iterated(gradient)
        nothing = torch.zeros_like(self.physics.A(gradient))
        return self.physics.prox_l2(
            gradient / self.regularization, nothing, 1 / self.regularization
        )

    def check(self, images: torch.Tensor) -> None:  # noqa: D102
        self.require_fits(images)
        require_takes("preconditioner", self.physics, images, several=True)

    def require_fits(self, images: torch.Tensor) -> None:  # noqa: D102
        require_size(images, self.img_size)

    def _iterated(self, gradient: torch.Tensor) -> torch.Tensor:
        # deepinv's conjugate gradients add 1e-8 to squared norms: each image is solved at a norm
        # where that is nothing
        scale = 1e4 / gradient.detach().flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, 1, 1, 1)
        return conjugate_gradient(self._system, gradient * scale, **self.options) / scale

    def _system(self, images: torch.Tensor) -> torch.Tensor:
        return self.physics.A_adjoint_A(images) + self.regularization * images


class Polynomial(Preconditioner):
    r""":math:`d=p(H^\top H)\nabla g` with :math:`p(s)=\sum_j c_j s^j`, by Horner's rule: degree
    applications of the Gram.

    The error of a gradient step moves by :math:`1-s\,p(s)` along each eigenvector of eigenvalue s,
    so p imitates :math:`1/s` on the spectrum, in the sense of :meth:`chebyshev` or :meth:`l2`. The
    operator is copied.

    Args:
        physics: a deepinv linear operator H.
        coefficients: :math:`c_0, c_1, \dots`, finite.

    Source: Iyer, Ong, Cao, Liao, Daniel, Tamir and Setsompop, "Polynomial preconditioners for
    regularized linear inverse problems", SIAM J. Imaging Sci. 17(1), 2024; D2GP Table I, row
    Polynomial (5 numbers, so degree 4).
    """

    traits = Traits(linear=True, iteration_dependent=False)

    def __init__(self, physics: LinearPhysics, coefficients: Sequence[float] | np.ndarray):
        super().__init__()
        require_operator("physics", physics)
        require(in_a_row(coefficients), "coefficients", coefficients, "numbers in a row")
        coefficients = (
            coefficients.tolist() if isinstance(coefficients, torch.Tensor) else coefficients
        )
        numbers = tuple(
            float(require_number("coefficients", number, -np.inf)) for number in coefficients
        )
        require(len(numbers) > 0, "coefficients", numbers, "at least one number")
        self.physics, self.coefficients = copy.deepcopy(physics).requires_grad_(False), numbers

    @property
    def coefficient_count(self) -> int:
        """Numbers that make p: degree + 1 (what the papers' tables count; none of them is
        trained).
        """
        return len(self.coefficients)

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """p(H^T H) applied to the gradient; the iterate and k are not used."""
        direction = self.coefficients[-1] * gradient
        for coefficient in reversed(self.coefficients[:-1]):
            direction = self.physics.A_adjoint_A(direction) + coefficient * gradient
        return direction

    def check(self, images: torch.Tensor) -> None:  # noqa: D102
        self.require_fits(images)
        require_takes("preconditioner", self.physics, images, several=True)

    def require_fits(self, images: torch.Tensor) -> None:  # noqa: D102
        require_size(images, declared_size(self.physics) or tuple(images.shape[1:]))

    @classmethod
    def chebyshev(
        cls,
        physics: LinearPhysics,
        degree: int = 4,
        interval: tuple[float, float] | None = None,
        *,
        img_size: tuple[int, int, int] | None = None,
    ) -> Polynomial:
        r"""The p of this degree that minimises :math:`\max_{s\in[l,L]}|1-s\,p(s)|`.

        The minimiser has :math:`1-s\,p(s)=T_{q+1}(\frac{L+l-2s}{L-l})/T_{q+1}(\frac{L+l}{L-l})`, q
        the degree in [0, 8]. ``interval`` (l, L), 0 < l < L, is by default :math:`[L/30, L]` with
        :math:`L=\|H\|^2`: an operator with a null space has no smaller floor to offer, and the
        ratio 30 is this project's choice, not a paper's. ``img_size`` is needed only where neither
        interval nor operator says what L is.
        """
        low, high = _interval(physics, interval, img_size, 1 / EIGENVALUE_RATIO)
        require(low > 0, "interval", (low, high), "(l, L) with 0 < l < L")
        _check_degree(degree)
        residual = np.polynomial.Chebyshev.basis(degree + 1, domain=[low, high])
        powers = residual.convert(
            kind=np.polynomial.Polynomial, domain=[-1, 1], window=[-1, 1]
        ).coef
        return cls(physics, -powers[1:] / powers[0])

    @classmethod
    def l2(
        cls,
        physics: LinearPhysics,
        degree: int = 4,
        interval: tuple[float, float] | None = None,
        *,
        img_size: tuple[int, int, int] | None = None,
    ) -> Polynomial:
        r"""The p of this degree that minimises :math:`\int_l^L(1-s\,p(s))^2\,ds` (Iyer et al. with
        w = 1).

        Solved at Gauss-Legendre nodes that make the integral exact. ``interval`` (l, L), 0 <= l <
        L, is by default :math:`[0,\|H\|^2]`; degree in [0, 8], ``img_size`` as in
        :meth:`chebyshev`.
        """
        low, high = _interval(physics, interval, img_size, 0.0)
        _check_degree(degree)
        nodes, weights = np.polynomial.legendre.leggauss(degree + 2)
        s, powers = (low + high + (high - low) * nodes) / 2, np.arange(1, degree + 2)
        scaled = (s / high)[:, None] ** powers * np.sqrt(weights)[:, None]
        return cls(physics, np.linalg.lstsq(scaled, np.sqrt(weights), rcond=None)[0] / high**powers)


def _interval(
    physics: LinearPhysics,
    interval: tuple[float, float] | None,
    img_size: tuple[int, int, int] | None,
    floor: float,
) -> tuple[float, float]:
    """(l, L) as given, checked, else (floor L, L) with L the operator's squared norm."""
    require_operator("physics", physics)
    if interval is None:
        high = lipschitz(physics, img_size)
        require_number("L = |H|^2 of physics", high, *SCALES)
        return floor * high, high
    require(isinstance(interval, Sequence) and len(interval) == 2, "interval", interval, "(l, L)")
    low = require_number("interval l", interval[0], 0)
    high = require_number("interval L", interval[1], low, open_low=True)
    require_number("interval L", high, *SCALES)
    return float(low), float(high)


def require_size(images: torch.Tensor, img_size: tuple[int, ...]) -> None:
    """Refuse images (B, C, H, W) of another size than the operator's."""
    require(
        tuple(images.shape[1:]) == img_size,
        "gradient.shape",
        tuple(images.shape),
        f"images of this operator, {img_size}",
    )


def _check_degree(degree: int) -> None:
    require_int("degree", degree, 0, MAX_DEGREE)
