r"""Learned steps of every iteration: K scalars, kernels, images of weights, or matrices.

All are linear in the gradient, start as the identity and know K iterations; in a longer run every
iteration beyond K uses the last one's parameters. :func:`~dipa.training.fit_steps` finds them in
closed form. Their counts are those of D2GP Table I at K = 20:
20, 500, 20 n and 20 n^2.

Source: Ehrhardt, Fahy and Golbabaee, "Learning preconditioners for inverse problems", arXiv
2406.00260, 2024.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from deepinv.physics import LinearPhysics
from torch import nn
from torch.nn import functional

from .. import device
from ..checks import require, require_img_size, require_int
from .base import MAX_NUMBERS, Preconditioner, Traits, require_planes
from .linear import LinearPreconditioner, basis_from, basis_header, dense_matrix, matrix_product

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_ITERATIONS = 100_000
MAX_KERNEL = 1001  # side of a kernel
MAX_FITTED = 31  # side of one in closed form: its Gram has the fourth power of it
LEAST = 1e-200  # a power below which there is nothing to fit


class PerIteration(Preconditioner):
    """What they share: ``steps`` holds K parameter sets, and iteration k uses set min(k, K).

    Args:
        iterations: K >= 1.
        start: one parameter set, the first guess of all K.
    """

    traits = Traits(linear=True, iteration_dependent=True)

    def __init__(self, iterations: int, start: torch.Tensor):
        super().__init__()
        iterations = require_int(
            "iterations", iterations, 1, min(MAX_ITERATIONS, MAX_NUMBERS // start.numel())
        )
        self.iterations = iterations
        # in a layout of its own: a clone of one number would keep the stride 0 of expand, which no
        # file can hold
        steps = (
            start.detach()
            .expand(iterations, *start.shape)
            .clone(memory_format=torch.contiguous_format)
        )
        self.steps = nn.Parameter(steps)

    def step(self, k: int) -> torch.Tensor:
        """The parameters of iteration k = 1, 2, ...; those of K for any later one."""
        return self._step(require_int("k", k, 1))

    def _step(self, k: int) -> torch.Tensor:
        return self.steps[min(k, self.iterations) - 1]

    def normal_equations(
        self, error: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        r"""Gram G and right-hand side r, in float64, of the parameters p that make
        :math:`\sum\|e-P_p\,d\|_2^2=\langle p,Gp\rangle-2\langle r,p\rangle+\sum\|e\|_2^2`
        smallest, for images e and d (B, C, H, W).

        Those of several batches add up. A Gram of the shape of r is diagonal; another is a square
        matrix that acts on the last axis of r.
        """
        raise TypeError(f"{type(self).__name__} does not define normal_equations")

    def solution(
        self, gram: torch.Tensor, right: torch.Tensor, regularization: float
    ) -> torch.Tensor:
        """The parameters that solve :meth:`normal_equations`, regularised in units of the mean of
        the Gram's diagonal; 0 where there is nothing to fit.
        """
        if gram.shape == right.shape:
            return right / (gram + regularization * gram.mean()).clamp_min(LEAST)
        level = (regularization * gram.diagonal().mean()).clamp_min(LEAST)
        system = gram + level * torch.eye(len(gram)).to(gram)
        p = torch.linalg.solve(system, right.reshape(-1, len(gram)).T).T
        return p.reshape_as(self.steps[0])

    def misfit(self, gram: torch.Tensor, right: torch.Tensor, p: torch.Tensor) -> float:
        r"""What the parameters p leave of :meth:`normal_equations`, :math:`\langle
        p,Gp\rangle-2\langle r,p\rangle`: the squared error but for a constant.
        """
        if gram.shape == right.shape:
            return (gram * p.square() - 2 * right * p).sum().item()
        rows, wanted = p.reshape(-1, len(gram)), right.reshape(-1, len(gram))
        return ((rows @ gram - 2 * wanted) * rows).sum().item()

    def header(self) -> dict[str, Any]:  # noqa: D102
        return {"iterations": self.iterations}


class ScalarSteps(PerIteration):
    r"""One number an iteration: :math:`d=p_k\nabla g`, so a learned stepsize rule; K parameters.

    Args:
        iterations: K >= 1.
    """

    kind = "scalar_steps"

    def __init__(self, iterations: int):
        super().__init__(iterations, torch.ones(()))

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The gradient times p_k."""
        return self._step(k) * gradient

    def normal_equations(  # noqa: D102
        self, error: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wanted, given = (device.able(images).double() for images in (error, direction))
        return given.square().sum(), (given * wanted).sum()


class ConvolutionalSteps(PerIteration):
    r"""One kernel an iteration: :math:`d=p_k*\nabla g` on every channel, periodic at the edges; K
    size^2 parameters.

    Args:
        iterations: K >= 1.
        size: odd side of the kernels (correlation, as in every network; the start is a delta).
            Images are at least size // 2 pixels wide and high.
    """

    kind = "convolutional_steps"

    def __init__(self, iterations: int, size: int = 5):
        size = require_int("size", size, 1, MAX_KERNEL)
        require(size % 2 == 1, "size", size, "an odd integer")
        delta = torch.zeros(size, size)
        delta[size // 2, size // 2] = 1
        super().__init__(iterations, delta)
        self.size = size

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The gradient filtered by kernel k."""
        channels = gradient.reshape(-1, 1, *gradient.shape[2:])
        padded = functional.pad(channels, [self.size // 2] * 4, mode="circular")
        return functional.conv2d(padded, self._step(k)[None, None]).reshape_as(gradient)

    def normal_equations(  # noqa: D102
        self, error: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        require(self.size <= MAX_FITTED, "size", self.size, f"at most {MAX_FITTED} in closed form")
        wanted, given = (
            device.able(images).double().flatten(0, 1)[:, None] for images in (error, direction)
        )
        padded = functional.pad(given, [self.size // 2] * 4, mode="circular")
        moved = functional.unfold(padded, self.size)  # (B C, size^2, H W)
        gram = torch.einsum("bip,bjp->ij", moved, moved)
        return gram, torch.einsum("bip,bp->i", moved, wanted.flatten(1))

    def require_fits(self, images: torch.Tensor) -> None:  # noqa: D102
        reach = self.size // 2
        fits = images.ndim == 4 and min(images.shape[2:]) >= reach
        require(
            fits,
            "gradient.shape",
            tuple(images.shape),
            f"images of at least {reach} x {reach} pixels",
        )

    def header(self) -> dict[str, Any]:  # noqa: D102
        return {"iterations": self.iterations, "size": self.size}


class PointwiseSteps(PerIteration):
    r"""One weight a pixel and iteration: :math:`d=p_k\odot\nabla g`; K n parameters.

    Args:
        iterations: K >= 1.
        img_size: (C, H, W); with C = 1 the weights serve every channel of the images.
    """

    kind = "pointwise_steps"

    def __init__(self, iterations: int, img_size: tuple[int, int, int]):
        sides = require_img_size(img_size)
        require(
            math.prod(sides) <= MAX_NUMBERS,
            "img_size",
            sides,
            f"at most {MAX_NUMBERS:,} numbers in an image",
        )
        super().__init__(iterations, torch.ones(()).expand(sides))
        self.img_size = sides

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The gradient times the weights of iteration k, pixel by pixel."""
        return (gradient.reshape(-1, *self.img_size) * self._step(k)).reshape_as(gradient)

    def normal_equations(  # noqa: D102
        self, error: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        wanted, given = (
            device.able(images).double().reshape(-1, *self.img_size)
            for images in (error, direction)
        )
        return given.square().sum(dim=0), (given * wanted).sum(dim=0)

    def require_fits(self, images: torch.Tensor) -> None:  # noqa: D102
        require_planes(images, self.img_size)

    def header(self) -> dict[str, Any]:  # noqa: D102
        return {"iterations": self.iterations, "img_size": list(self.img_size)}


class LinearSteps(PerIteration):
    r"""One matrix an iteration: :math:`d=P_k\nabla g`; K n^2 parameters, or K n r for a low-rank
    start.

    Args:
        iterations: K >= 1.
        start: the first guess of every P_k, with the basis and complement it acts on: the identity
            (:meth:`identity`) or a fitted :class:`LinearPreconditioner`. It is copied.
    """

    kind = "linear_steps"

    def __init__(self, iterations: int, start: LinearPreconditioner):
        kind = type(start).__name__
        require(isinstance(start, LinearPreconditioner), "start", kind, "a LinearPreconditioner")
        super().__init__(iterations, start.matrix)
        self.basis, self.complement = copy.deepcopy(start.basis), start.complement

    @classmethod
    def identity(
        cls,
        physics: LinearPhysics,
        iterations: int,
        img_size: tuple[int, int, int] | None = None,
        **options: Any,
    ) -> LinearSteps:
        """Every P_k = I on data gradients; ``options`` are those of
        :meth:`LinearPreconditioner.identity`.
        """
        return cls(iterations, LinearPreconditioner.identity(physics, img_size, **options))

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """P_k applied to the gradient."""
        return matrix_product(self._step(k), self.basis, self.complement, gradient)

    def normal_equations(  # noqa: D102
        self, error: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        images = direction.reshape(-1, *self.basis.img_size)
        coordinates = self.basis.coordinates(images)
        wanted = error.reshape_as(images)
        if self.complement:
            wanted = wanted - self.complement * (images - self.basis.image(coordinates))
        wanted, given = (device.able(part).double() for part in (wanted.flatten(1), coordinates))
        return given.T @ given, wanted.T @ given

    def require_fits(self, images: torch.Tensor) -> None:  # noqa: D102
        require_planes(images, self.basis.img_size)

    def dense(self, k: int) -> torch.Tensor:
        """P_k as an (n, n) matrix acting on flattened images."""
        return dense_matrix(self.step(k), self.basis, self.complement)

    def header(self) -> dict[str, Any]:  # noqa: D102
        return {"iterations": self.iterations, **basis_header(self.basis, self.complement)}

    @classmethod
    def rebuild(cls, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Self:  # noqa: D102
        matrices = tensors["steps"]
        require(
            matrices.ndim == 3 and len(matrices) == header["iterations"],
            "steps.shape",
            tuple(matrices.shape),
            "(K, n, r)",
        )
        steps = cls(
            len(matrices),
            LinearPreconditioner(matrices[0], *basis_from(header, tensors, matrices[0])),
        )
        steps.steps.data = matrices.clone()
        return steps
