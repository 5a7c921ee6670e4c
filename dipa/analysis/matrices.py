"""A preconditioner looked at as a matrix: as a multiple of the identity, between coordinates,
row by row.
"""

from __future__ import annotations

import torch

from .. import device
from ..checks import (
    answer,
    foreign,
    refuse,
    require,
    require_images,
    require_img_size,
    require_int,
    require_same_images,
    require_tensor,
)
from ..operators import Basis
from ..operators.bases import TransformBasis
from ..physics import numbers_like, require_beside
from ..preconditioners import Preconditioner
from ..solvers.proximal import PreconditionerLike, takes_fit
from .jacobian import directional, is_linear


@takes_fit
@torch.no_grad()
def as_stepsize(
    preconditioner: PreconditionerLike,
    gradient: torch.Tensor,
    iterate: torch.Tensor | None = None,
    k: int = 1,
) -> tuple[float, float]:
    r"""The one number that comes closest to P on a batch of gradients, and what it leaves of P.

    .. math::
        t=\arg\min_t\|P(g)-t\,g\|=\frac{\langle P(g),g\rangle}{\|g\|^2},\qquad
        \rho=\frac{\|P(g)-t\,g\|}{\|P(g)\|}

    One t for all images. With :math:`\rho=0` P is a stepsize on these gradients: every function of
    :math:`H^\top H` is, where that is an orthogonal projector and the gradients are in its range.

    Args:
        preconditioner: ``P(gradient, iterate, k) -> direction``.
        gradient: g, (B, C, H, W), not all zero.
        iterate: z, (B, C, H, W); None is zero.
        k: iteration number from 1.

    Returns:
        t and :math:`\rho\in[0,1]`; a P that sends g to zero has both 0.

    Raises:
        InputError: shapes other than these, a gradient of zero.
    """
    require_images("gradient", gradient)
    require(bool(gradient.any()), "gradient", "zero everywhere", "a gradient that is not zero")
    z = torch.zeros_like(gradient) if iterate is None else iterate
    require_same_images(gradient=gradient, iterate=z)
    direction = answer("preconditioner", preconditioner, gradient, z, require_int("k", k, 1))
    direction, g = (device.able(images).double() for images in (direction, gradient))
    factor = (direction * g).sum() / g.square().sum()
    return factor.item(), (
        (direction - factor * g).norm() / direction.norm().clamp_min(1e-30)
    ).item()


@takes_fit
@torch.no_grad()
def coordinate_blocks(
    preconditioner: Preconditioner, basis: Basis
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""A linear P between the functions of an orthonormal transform, as two blocks.

    With the n functions as rows of W, and V those r of them that span
    :math:`\mathrm{range}(H^\top)`, the entries of :math:`W P V^\top`: a gradient has no other
    coordinates. What P does within the range stands apart from what it adds outside; for the
    identity the blocks are I and 0.

    Args:
        preconditioner: P, one that declares itself linear.
        basis: V as selected functions of a transform, such as the range basis of a single-pixel
            camera or of MRI.

    Returns:
        The rows of the r selected functions, (r, r), in the order of ``basis.index``, and those of
        the others, (n - r, r), in the order of the transform.

    Raises:
        InputError: a P that is not linear, a basis without a transform.
    """
    require(
        is_linear(preconditioner),
        "preconditioner",
        type(preconditioner).__name__,
        "one that declares itself linear",
    )
    if not isinstance(basis, TransformBasis):
        refuse("basis", type(basis).__name__, "selected functions of a transform")
    require_beside("basis", basis, "preconditioner", preconditioner)
    with foreign(
        "basis",
        f"{type(basis).__name__} on {basis.img_size}",
        "one in the dtype and size of the preconditioner",
    ):
        functions = basis.image(torch.eye(basis.dim).to(numbers_like(preconditioner)))
        answers = (
            basis.transform(directional(preconditioner, functions[:1], functions)).flatten(1).T
        )
    others = torch.ones(len(answers), dtype=torch.bool, device=answers.device).index_fill(
        0, basis.index, False
    )
    return answers[basis.index], answers[others]


def border_share(matrix: torch.Tensor, img_size: tuple[int, int, int], width: int) -> float:
    r"""How much of the energy in the rows of inner pixels lies on the border F of the image, a
    frame of ``width`` pixels.

    .. math::
        \sum_{i\notin F,\,j\in F}M_{ij}^2\Big/\sum_{i\notin F,\,j}M_{ij}^2

    Args:
        matrix: M, (n, n), n = C H W; its transpose asks the same of columns.
        img_size: (C, H, W).
        width: at least 1 and less than half of H and of W.

    Returns:
        A share in [0, 1]; 0 for inner rows of zero.

    Raises:
        InputError: a width out of range, a matrix of another size.
    """
    channels, height, columns = img_size = require_img_size(img_size)
    require_tensor("matrix", matrix, "a tensor (n, n)")
    require(matrix.is_floating_point(), "matrix.dtype", matrix.dtype, "a real floating-point type")
    n = channels * height * columns
    require(tuple(matrix.shape) == (n, n), "matrix.shape", tuple(matrix.shape), f"({n}, {n})")
    width = require_int("width", width, 1, (min(height, columns) - 1) // 2)
    border = torch.ones(img_size, dtype=torch.bool, device=matrix.device)
    border[:, width:-width, width:-width] = False
    energy = matrix[~border.flatten()].square().sum(dim=0)
    return (energy[border.flatten()].sum() / energy.sum().clamp_min(1e-30)).item()
