"""L-DIPA: one trainable matrix shared by all iterations, dense or restricted to what it can
ever see.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .. import device
from ..checks import (
    require,
    require_choice,
    require_flag,
    require_images,
    require_img_size,
    require_int,
    require_kind,
    require_number,
)
from ..choices import FORMS
from ..gathered import Images, Streamed, sample_of, stream_or_images
from ..memory import require_room
from ..operators import Basis, PixelBasis, plane_basis, range_basis, rebuild_basis
from ..physics import image_size, lipschitz, numbers_of, require_operator, require_takes
from ..settings import Variations
from ..variations import varied
from . import trust
from .base import COPIES, Preconditioner, Traits, require_planes

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_SIDE = 4096  # of the images of a matrix read from a file


class LinearPreconditioner(Preconditioner):
    r"""L-DIPA: direction :math:`d=P\nabla g`, :math:`P=BV+c\,(I-V^\top V)`, B trainable (n, r), V
    orthonormal rows (r, n).

    With V the identity, B is the paper's dense :math:`P\in\mathbb{R}^{n\times n}`. With V spanning
    :math:`\mathrm{range}(H^\top)` only the block of P that a data gradient can excite is kept: the
    iterates are the same, with r / n of the parameters. P is not constrained to be symmetric or
    positive.

    A basis of one channel, (1, H, W), serves images of any channels: each is then an image of its
    own under the same P (the papers' complex MRI images: n = H W).

    Args:
        matrix: B, (n, r), n = C H W of the basis.
        basis: coordinates V, see :class:`dipa.operators.Basis`.
        complement: c >= 0, P on what lies outside the subspace. Gradients of the operator that V
            belongs to have no such part; meeting *another* operator, 1 acts as the dense P trained
            from the identity would, whose unexcited block is still the identity.

    Source: DIPA Sec. 3.3; the low-rank form is this project's.
    """

    kind = "linear"
    traits = Traits(linear=True, iteration_dependent=False)

    def __init__(self, matrix: torch.Tensor, basis: Basis, complement: float = 0.0):
        super().__init__()
        require(isinstance(basis, Basis), "basis", basis, "a dipa.operators.Basis")
        real = isinstance(matrix, torch.Tensor) and matrix.is_floating_point()
        require(
            real,
            "matrix",
            getattr(matrix, "dtype", type(matrix).__name__),
            "a real floating-point tensor (n, r)",
        )
        n = int(torch.tensor(basis.img_size).prod())
        require(
            tuple(matrix.shape) == (n, basis.dim),
            "matrix.shape",
            tuple(matrix.shape),
            f"({n}, {basis.dim})",
        )
        self.basis, self.complement = basis, float(require_number("complement", complement, 0))
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """P applied to the gradient; the iterate and k are not used."""
        return matrix_product(self.matrix, self.basis, self.complement, gradient)

    def require_fits(self, images: torch.Tensor) -> None:  # noqa: D102
        require_planes(images, self.basis.img_size)

    @classmethod
    def identity(
        cls,
        physics: LinearPhysics,
        img_size: tuple[int, int, int] | None = None,
        *,
        form: str = "low_rank",
        planes: bool = False,
        complement: float = 0.0,
    ) -> LinearPreconditioner:
        """P = I on every data gradient of ``physics``: the start the papers use.

        ``form`` is ``low_rank`` (n x r) or ``dense`` (n x n); ``img_size`` (C, H, W) where
        ``physics`` carries none; ``planes``: one P, n = H W, for every channel. dtype and device
        are those of ``physics``.
        """
        require_choice("form", form, FORMS)
        require_operator("physics", physics)
        size = image_size(physics, img_size)
        basis = subspace(physics, size, form=form, planes=planes)
        rows = basis.image(torch.eye(basis.dim).to(numbers_of(physics, size))).flatten(1)
        return cls(rows.T, basis, complement)

    @classmethod
    def ridge(
        cls,
        physics: LinearPhysics,
        images: Images,
        *,
        stepsize: float | None = None,
        regularization: float = 1e-3,
        null_weight: float = 1.0,
        form: str = "low_rank",
        planes: bool = False,
        complement: float = 0.0,
        variations: Variations | None = None,
        seed: int = 0,
    ) -> LinearPreconditioner:
        r"""The closed-form linear predictor as a preconditioner, fitted on clean images of shape
        (N, C, H, W), or a :class:`~dipa.data.Streamed` of them.

        .. math::
            B = \arg\min_B \sum_i \|x_i-\alpha B\,V H^\top Hx_i\|_2^2+\lambda N\|\alpha B\|_F^2

        so that one step of size :math:`\alpha` from zero lands on the ridge estimate of x from y;
        None is 1/L, and a solver steps by it unless it is told otherwise.
        ``regularization`` is :math:`\lambda` (> 0), in units of squared intensity. ``null_weight``
        in [0, 1] then scales what P adds outside the subspace: repeated for K iterations with
        momentum, the full guess overshoots on hard images (at 1, P is the ridge solution; at 0, no
        direction leaves the subspace). With ``planes`` the samples are the channels of the images:
        :math:`x_i` is one channel, seen through the same channel of its image's data gradient.
        ``variations`` enters ``copies`` varied copies of every image into the same sums beside it,
        drawn by ``seed`` (:func:`dipa.variations.varied`): N counts them too. Few images then do
        for many, where moved ones are as likely. ``form``, ``planes`` and ``complement`` as in
        :meth:`identity`. Raises :class:`InputError` for other values.
        """
        images = stream_or_images("images", images)
        sample = sample_of(images)
        require_images("images", sample)
        require_takes("physics", physics, sample)
        if stepsize is None:
            stepsize = 1 / lipschitz(physics, tuple(images.shape[1:]), sample)
        stepsize = require_number("stepsize", stepsize, 0, open_low=True)
        regularization = require_number("regularization", regularization, 0, open_low=True)
        null_weight = require_number("null_weight", null_weight, 0, 1)
        require_choice("form", form, FORMS)
        variations = Variations() if variations is None else variations
        require_kind("variations", variations, Variations)
        seed = require_int("seed", seed, 0)
        basis = subspace(physics, tuple(images.shape[1:]), planes=planes)
        solution = _predictor(physics, images, basis, regularization, variations, seed)
        columns = (solution.T / stepsize).to(sample)
        columns = columns.reshape(-1, *basis.img_size)
        seen = basis.project(columns)
        P = cls((seen + null_weight * (columns - seen)).flatten(1).T, basis, complement)
        if form == "dense":
            P = cls(P.dense().detach(), PixelBasis(basis.img_size))
        P.setting = {"stepsize": float(stepsize), "operator is": type(physics).__name__}
        P.setting |= trust.measured(P, physics, sample, stepsize)
        return P

    def dense(self) -> torch.Tensor:
        """P as an (n, n) matrix acting on flattened images; outside the subspace it is
        ``complement`` times the identity.
        """
        return dense_matrix(self.matrix, self.basis, self.complement)

    def header(self) -> dict[str, Any]:  # noqa: D102
        return basis_header(self.basis, self.complement)

    @classmethod
    def rebuild(cls, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Self:  # noqa: D102
        return cls(tensors["matrix"], *basis_from(header, tensors, tensors["matrix"]))


def subspace(
    physics: LinearPhysics,
    img_size: tuple[int, ...] | None,
    *,
    form: str = "low_rank",
    planes: bool = False,
) -> Basis:
    """Coordinates of the smallest subspace that holds every data gradient, or ``dense`` of all
    images; ``planes`` of channels.
    """
    channels, height, width = size = image_size(physics, img_size)
    planes = require_flag("planes", planes)
    if form == "low_rank":
        basis = plane_basis(physics, size) if planes else range_basis(physics, size)
    else:
        basis = PixelBasis((1 if planes else channels, height, width))
    shape = (COPIES, math.prod(basis.img_size), basis.dim)
    require_room("img_size", size, shape, numbers_of(physics, size))
    return basis


def matrix_product(
    matrix: torch.Tensor, basis: Basis, complement: float, gradient: torch.Tensor
) -> torch.Tensor:
    """(B V + c (I - V^T V)) g for gradients (B, C, H, W); for a basis of one channel, of every
    channel alone.
    """
    images = gradient.reshape(-1, *basis.img_size)
    coordinates = basis.coordinates(images)
    direction = (coordinates @ matrix.T).reshape_as(images)
    if complement:
        direction = direction + complement * (images - basis.image(coordinates))
    return direction.reshape_as(gradient)


def dense_matrix(matrix: torch.Tensor, basis: Basis, complement: float) -> torch.Tensor:
    """B V + c (I - V^T V) as an (n, n) matrix acting on flattened images of the basis' size."""
    rows = basis.image(torch.eye(basis.dim).to(matrix)).flatten(1)
    inside = matrix @ rows
    return (
        inside + complement * (torch.eye(len(matrix)).to(matrix) - rows.T @ rows)
        if complement
        else inside
    )


def basis_header(basis: Basis, complement: float) -> dict[str, Any]:
    """Basis and complement as plain values, beside the buffers that ``state_dict()`` holds."""
    header = {"basis": basis.kind, "img_size": list(basis.img_size)}
    return header | ({"complement": complement} if complement else {})


def basis_from(
    header: dict[str, Any], tensors: dict[str, torch.Tensor], matrix: torch.Tensor
) -> tuple[Basis, float]:
    """The inverse of :func:`basis_header`, for a matrix B (n, r) of whose n and dtype the basis
    must be.
    """
    sides = require_img_size(header["img_size"])
    fits = matrix.ndim == 2 and math.prod(sides) == len(matrix) and max(sides) <= MAX_SIDE
    require(
        fits,
        "img_size",
        sides,
        f"(C, H, W) of the {len(matrix):,} rows of its matrix, sides up to {MAX_SIDE:,}",
    )
    buffers = {
        name.removeprefix("basis."): tensor
        for name, tensor in tensors.items()
        if name.startswith("basis.")
    }
    basis = rebuild_basis(header["basis"], sides, buffers).to(matrix.dtype)
    blank = basis.image(
        basis.coordinates(torch.zeros(1, *sides, dtype=matrix.dtype))
    )  # fails on positions or rows that do not fit
    require(
        tuple(blank.shape[1:]) == sides,
        "basis",
        tuple(blank.shape[1:]),
        f"a basis of images {sides}",
    )
    return basis, header.get("complement", 0.0)


def _samples(
    images: torch.Tensor | Streamed, size: int, variations: Variations, seed: int
) -> Iterator[torch.Tensor]:
    """Batches of at most ``size`` images, then of their varied copies."""
    indices = torch.arange(len(images))
    for draw in range(variations.copies + 1):
        for batch, numbers in zip(images.split(size), indices.split(size), strict=True):
            yield (
                varied(batch, variations, seed=seed, draw=draw, indices=numbers) if draw else batch
            )


def _predictor(
    physics: LinearPhysics,
    images: torch.Tensor | Streamed,
    basis: Basis,
    regularization: float,
    variations: Variations,
    seed: int,
) -> torch.Tensor:
    """The ridge solution (n, r) that predicts images from the coordinates of H^T H x, in
    float64.
    """
    n = int(torch.tensor(basis.img_size).prod())
    exact = device.able(images[:1]).double()
    covariance, cross, samples = (
        exact.new_zeros(basis.dim, basis.dim),
        exact.new_zeros(n, basis.dim),
        0,
    )
    for batch in _samples(images, max(1, min(4096, 2**22 // n)), variations, seed):
        seen = device.able(
            basis.coordinates(physics.A_adjoint_A(batch).reshape(-1, *basis.img_size))
        ).double()
        covariance += seen.T @ seen
        cross += device.able(batch.reshape(len(seen), -1)).double().T @ seen
        samples += len(seen)
    covariance.diagonal().add_(regularization * samples)
    return torch.linalg.solve(covariance, cross.T).T
