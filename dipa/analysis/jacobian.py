r"""The Jacobian of a preconditioner at a gradient: exact by forward-mode differentiation, and
the papers' differences.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..checks import (
    answer,
    in_a_row,
    plain_value,
    require,
    require_images,
    require_int,
    require_number,
    require_same_images,
    require_tensor,
)
from ..physics import require_beside
from ..solvers.proximal import PreconditionerLike, takes_fit

Apply = Callable[[torch.Tensor], torch.Tensor]
MOST_AT_ONCE = 2**31 - 1


def is_linear(preconditioner: PreconditionerLike) -> bool:
    """Whether P declares itself linear in the gradient; a function that declares nothing counts
    as not.
    """
    return getattr(getattr(preconditioner, "traits", None), "linear", False)


@takes_fit
@torch.no_grad()
def directional(
    preconditioner: PreconditionerLike,
    gradient: torch.Tensor,
    directions: torch.Tensor,
    iterate: torch.Tensor | None = None,
    k: int = 1,
    *,
    chunk: int = 32,
) -> torch.Tensor:
    r"""Exact directional derivatives :math:`J_P(g)\,v` of :math:`P(\cdot,z,k)` at one gradient,
    along many directions.

    A P that declares itself linear is its own derivative and is applied to the directions. Any
    other is differentiated in forward mode by :mod:`torch.func`, ``chunk`` directions at once;
    memory grows with ``chunk``.

    Args:
        preconditioner: ``P(gradient, iterate, k) -> direction``.
        gradient: the point g, one image (1, C, H, W).
        directions: v, (M, C, H, W).
        iterate: z, (1, C, H, W); None is zero.
        k: iteration number from 1.
        chunk: directions at once, >= 1.

    Returns:
        (M, C, H, W), in the dtype P gives.

    Raises:
        InputError: shapes other than these.
    """
    k, chunk = _check_point(preconditioner, gradient, iterate, k, chunk)
    require_images("directions", directions, tuple(gradient.shape[1:]))
    require_beside("directions", directions, "gradient", gradient)
    apply = _applied(preconditioner, torch.zeros_like(gradient) if iterate is None else iterate, k)
    if is_linear(preconditioner):
        return torch.cat([apply(part) for part in directions.split(chunk)])

    def derivative(v: torch.Tensor) -> torch.Tensor:
        return torch.func.jvp(apply, (gradient,), (v[None],))[1][0]

    with _forward_mode():
        return torch.func.vmap(derivative, chunk_size=chunk)(directions)


@takes_fit
def jacobian(
    preconditioner: PreconditionerLike,
    gradient: torch.Tensor,
    iterate: torch.Tensor | None = None,
    k: int = 1,
    *,
    columns: Sequence[int] | None = None,
    chunk: int = 32,
) -> torch.Tensor:
    r"""Exact Jacobian :math:`J_{ij}=\partial P(g,z,k)_i/\partial g_j` at one gradient, for all or
    some input pixels.

    Args:
        preconditioner: ``P(gradient, iterate, k) -> direction``; a linear one gives its own matrix,
            whatever g.
        gradient: the point g, one image (1, C, H, W).
        iterate: z, (1, C, H, W); None is zero.
        k: iteration number from 1.
        columns: flat indices j in [0, n), n = C H W; None is all.
        chunk: columns at once, >= 1.

    Returns:
        (n, number of columns). Column j is the impulse response of pixel j.

    Raises:
        InputError: shapes other than these, an index outside the image.

    Source: what D2GP Sec. III.D and DIPA Sec. 4.8 approximate by :func:`finite_differences`.
    """
    k, chunk = _check_point(preconditioner, gradient, iterate, k, chunk)
    images = (
        directional(preconditioner, gradient, v, iterate, k, chunk=chunk)
        for v in _units(gradient, columns, chunk)
    )
    return torch.cat([image.flatten(1) for image in images]).T.contiguous()


@takes_fit
@torch.no_grad()
def finite_differences(
    preconditioner: PreconditionerLike,
    gradient: torch.Tensor,
    iterate: torch.Tensor | None = None,
    k: int = 1,
    *,
    step: float = 1e-3,
    columns: Sequence[int] | None = None,
    chunk: int = 32,
) -> torch.Tensor:
    r"""The papers' Jacobian by one-sided differences: :math:`J_{ij}\approx (P(g+\epsilon
    e_j)_i-P(g)_i)/\epsilon`.

    The error is :math:`O(\epsilon)` from curvature plus :math:`O(u/\epsilon)` from rounding, u the
    unit of the dtype: about 1e-4 of P(g) in float32 at the default ``step``, a value the papers do
    not give. Other arguments, shapes and errors as for :func:`jacobian`; ``step`` > 0.

    Source: D2GP Sec. III.D; DIPA Sec. 4.8.
    """
    k, chunk = _check_point(preconditioner, gradient, iterate, k, chunk)
    step = require_number("step", step, 0, open_low=True)
    apply = _applied(preconditioner, torch.zeros_like(gradient) if iterate is None else iterate, k)
    unperturbed = apply(gradient)
    images = (
        (apply(gradient + step * v) - unperturbed) / step for v in _units(gradient, columns, chunk)
    )
    return torch.cat([image.flatten(1) for image in images]).T.contiguous()


@takes_fit
def difference_errors(
    preconditioner: PreconditionerLike,
    gradient: torch.Tensor,
    steps: Sequence[float],
    iterate: torch.Tensor | None = None,
    k: int = 1,
    *,
    columns: Sequence[int] | None = None,
    chunk: int = 32,
) -> list[float]:
    r"""How far :func:`finite_differences` of each of ``steps`` is from :func:`jacobian`:
    :math:`\|\tilde J-J\|_F/\|J\|_F`.

    The exact columns are computed once. Over falling steps the error falls with the curvature of P,
    then rises again with rounding. Other arguments, shapes and errors as there; every step > 0.

    Source: the approximation is that of D2GP Sec. III.D and DIPA Sec. 4.8, which print no step.
    """
    require(in_a_row(steps), "steps", steps, "numbers in a row")
    steps = [require_number("steps", step, 0, open_low=True) for step in steps]
    exact = jacobian(preconditioner, gradient, iterate, k, columns=columns, chunk=chunk)
    matrices = (
        finite_differences(
            preconditioner, gradient, iterate, k, step=step, columns=columns, chunk=chunk
        )
        for step in steps
    )
    return [relative_distance(approximate, exact) for approximate in matrices]


@takes_fit
@torch.no_grad()
def linearity_index(
    preconditioner: PreconditionerLike,
    a: torch.Tensor,
    b: torch.Tensor,
    iterate: torch.Tensor | None = None,
    k: int = 1,
) -> torch.Tensor:
    r"""How far P is from additive on two gradients:
    :math:`\|P(a+b)-P(a)-P(b)\|/(\|P(a)\|+\|P(b)\|)`, one number an image.

    0 for a linear P (up to rounding), 1/2 for a constant one. ``a`` and ``b`` are (B, C, H, W), the
    result is (B,).
    """
    z = torch.zeros_like(a) if iterate is None and isinstance(a, torch.Tensor) else iterate
    require_same_images(a=a, b=b, iterate=z)
    k = require_int("k", k, 1)
    of_a, of_b, of_both = (
        answer("preconditioner", preconditioner, g, z, k).flatten(1) for g in (a, b, a + b)
    )
    mismatch = of_both - of_a - of_b
    return mismatch.norm(dim=1) / (of_a.norm(dim=1) + of_b.norm(dim=1)).clamp_min(1e-12)


def antisymmetric_share(matrix: torch.Tensor) -> float:
    r""":math:`\|J-J^\top\|_F/(2\|J\|_F)` of a square matrix: 0 for the gradient field of an
    energy, 1 for a rotation.
    """
    _require_numbers("matrix", matrix)
    require(
        matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1],
        "matrix.shape",
        tuple(matrix.shape),
        "(n, n)",
    )
    return ((matrix - matrix.T).norm() / (2 * matrix.norm()).clamp_min(1e-30)).item()


def relative_distance(matrix: torch.Tensor, reference: torch.Tensor) -> float:
    r""":math:`\|A-B\|_F/\|B\|_F` of two tensors of one shape, ``reference`` B not zero."""
    _require_numbers("matrix", matrix)
    _require_numbers("reference", reference)
    require_beside("matrix", matrix, "reference", reference)
    require(
        matrix.shape == reference.shape,
        "matrix.shape",
        tuple(matrix.shape),
        f"{tuple(reference.shape)}, as the reference",
    )
    return ((matrix - reference).norm() / reference.norm()).item()


def _require_numbers(name: str, tensor: torch.Tensor) -> None:
    require_tensor(name, tensor, "a tensor of numbers")
    require(
        tensor.is_floating_point() and tensor.numel() > 0,
        f"{name}.dtype",
        tensor.dtype,
        "real floating-point numbers",
    )


def _check_point(
    preconditioner: PreconditionerLike,
    gradient: torch.Tensor,
    iterate: torch.Tensor | None,
    k: int,
    chunk: int,
) -> tuple[int, int]:
    """Refuse a point that is not one image, with an iterate and P beside it; returns k and
    chunk as Python's own integers.
    """
    require_images("gradient", gradient)
    require(len(gradient) == 1, "gradient.shape", tuple(gradient.shape), "(1, C, H, W), one image")
    require_beside("preconditioner", preconditioner, "gradient", gradient)
    if iterate is not None:
        require_beside("iterate", iterate, "gradient", gradient)
        require_images("iterate", iterate, tuple(gradient.shape[1:]))
        require(len(iterate) == 1, "iterate.shape", tuple(iterate.shape), "(1, C, H, W), one image")
    return require_int("k", k, 1), require_int("chunk", chunk, 1, MOST_AT_ONCE)


def _applied(preconditioner: PreconditionerLike, iterate: torch.Tensor, k: int) -> Apply:
    """P at one iterate and iteration, as a function of a batch of gradients."""
    return lambda gradients: answer(
        "preconditioner", preconditioner, gradients, iterate.expand(len(gradients), -1, -1, -1), k
    )


def _units(
    gradient: torch.Tensor, columns: Sequence[int] | None, chunk: int
) -> Iterator[torch.Tensor]:
    """Unit images of the chosen pixels, ``chunk`` at once."""
    n = gradient.numel()
    require(columns is None or in_a_row(columns), "columns", columns, "integers in a row")
    chosen = (
        list(range(n))
        if columns is None
        else list(map(plain_value, columns.tolist() if hasattr(columns, "tolist") else columns))
    )
    inside = all(isinstance(j, int) and not isinstance(j, bool) and 0 <= j < n for j in chosen)
    require(chosen and inside, "columns", columns, f"integers in [0, {n - 1}], at least one")
    index = torch.tensor(chosen)
    for part in index.to(gradient.device).split(chunk):
        units = gradient.new_zeros(len(part), n)
        units[torch.arange(len(part), device=part.device), part] = 1
        yield units.reshape(-1, *gradient.shape[1:])


@contextmanager
def _forward_mode() -> Iterator[None]:
    """Attention by plain matrix products, as PyTorch's fused kernels have no forward-mode
    derivative.

    Silent about ``torch.jit.script``, which PyTorch itself calls (and deprecates) at its first
    forward-mode derivative.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.script", FutureWarning)
            warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
