r"""Whether an operator is what every formula here takes for granted: linear, the same at every
call, with :math:`H^\top` for an adjoint.

Measurements are a tensor, real or complex, or several (deepinv's ``TensorList``): their inner
product is the real one, :math:`\mathrm{Re}\langle a,b\rangle` summed over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from . import seeding

Measurements: TypeAlias = Any  # a tensor, or several in a TensorList of deepinv's
TOLERANCE = 1e-3  # relative; in half precisions the square root of their rounding
TINY = 1e-30


def parts(measured: Any) -> tuple[torch.Tensor, ...]:
    """The tensors of a measurement, one after the other."""
    if isinstance(measured, torch.Tensor):
        return (measured,)
    return tuple(tensor for part in measured for tensor in parts(part))


def sizes(measured: Any) -> torch.Tensor:
    """The Euclidean norm of the measurement, or image, of each image of a batch: (B,)."""
    squares = [_wide(part).flatten(1).abs().square().sum(dim=1) for part in parts(measured)]
    return torch.stack(squares).sum(dim=0).sqrt()


def inner(a: Any, b: Any) -> float:
    r""":math:`\mathrm{Re}\langle a,b\rangle` of two measurements, or images, of one shape."""
    total = 0.0
    for one, other in zip(parts(a), parts(b), strict=True):
        if one.shape != other.shape:
            raise ValueError(f"shape {tuple(other.shape)} in the place of {tuple(one.shape)}")
        total += torch.vdot(_wide(one).flatten(), _wide(other).flatten()).real.item()
    return total


def norm(a: Any) -> float:
    """The Euclidean norm of a measurement or image."""
    return sum(torch.linalg.vector_norm(_wide(part)).item() ** 2 for part in parts(a)) ** 0.5


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def normal_like(measured: Any, seed: int, *stream: object) -> Any:
    """Standard normal numbers in the shapes, dtypes and places of a measurement or image."""
    if not isinstance(measured, torch.Tensor):
        drawn = [normal_like(part, seed, *stream, i) for i, part in enumerate(measured)]
        return type(measured)(drawn)
    kind = torch.complex64 if measured.is_complex() else torch.float32
    generator = seeding.generator(seed, "dot test", *stream)
    return torch.randn(measured.shape, generator=generator, dtype=kind).to(measured)


def distance(a: Any, b: Any, scale: float) -> float:
    """The norm of a - b over ``scale``; infinite where the shapes differ."""
    shapes = [[tensor.shape for tensor in parts(side)] for side in (a, b)]
    return norm(a - b) / max(scale, TINY) if shapes[0] == shapes[1] else float("inf")


def repeat_error(call: Callable[[Any], Any], x: Any) -> float:
    """How much ``call(x)`` changes from one call to the next, relative to its norm."""
    first = call(x)
    return distance(call(x), first, norm(first))


@dataclass(frozen=True)
class Probe:
    r"""What three applications of A and one of its adjoint show.

    Attributes:
        linearity: :math:`\|A(u+v)-A(u)-A(v)\|/(\|A(u)\|+\|A(v)\|)`; an operator that draws anew at
            every call fails it, too.
        adjoint: the largest :math:`|\langle Ax,w\rangle-\langle x,A^\top w\rangle|/(\|Ax\|\|w\|)`
            of x = u, v, for w partly in the range of A and partly anything.
        tolerance: what either may be.
    """

    linearity: float
    adjoint: float
    tolerance: float

    @property
    def sound(self) -> bool:
        """Whether both are small; not where one of them is no number."""
        return self.linearity <= self.tolerance and self.adjoint <= self.tolerance

    @torch.no_grad()
    def fault(self, physics: Any, image: torch.Tensor) -> tuple[str, str]:
        """What is wrong with an operator that is not sound, and what is allowed. Asks again whether
        its calls repeat themselves: one that draws anew is neither linear nor has it an adjoint.
        """
        again = {"A": repeat_error(physics.A, image)}
        again["A_adjoint"] = repeat_error(physics.A_adjoint, physics.A(image))
        for call, error in again.items():
            if not error <= self.tolerance:
                differs = f"two results for one tensor differ by {error:.2g}, relative"
                return f"whose {call} changes at every call ({differs})", "a fixed operator"
        most = f"up to {self.tolerance:.2g}"
        if not self.linearity <= self.tolerance:
            sums = f"with H(u + v) unlike H u + H v (by {self.linearity:.2g}, relative)"
            return sums, f"a linear operator, {most}"
        return self.wrong_adjoint, f"an exact adjoint, {most}"

    @property
    def wrong_adjoint(self) -> str:
        """The fault that is the adjoint's alone, in words."""
        return f"whose A_adjoint is not the adjoint of A (dot test: {self.adjoint:.2g})"


@torch.no_grad()
def probe(physics: Any, image: torch.Tensor, seed: int = 0) -> Probe:
    """Look at A and A_adjoint on one image (1, C, H, W) and a random one of its norm."""
    u = image if bool(image.any()) else normal_like(image, seed, "u")
    v = normal_like(image, seed, "v")
    v = v * (norm(u) / max(norm(v), TINY))
    seen_u, seen_v, both = physics.A(u), physics.A(v), physics.A(u + v)
    size = norm(seen_u) + norm(seen_v)
    linearity = distance(both, seen_u + seen_v, size)
    noise = normal_like(both, seed, "w")
    w = both * (1 / max(norm(both), TINY)) + noise * (1 / max(norm(noise), TINY))
    back, long = physics.A_adjoint(w), norm(w)
    of_u = abs(inner(seen_u, w) - inner(u, back)) / max(size / 2 * long, TINY)
    of_v = abs(inner(seen_v, w) - inner(v, back)) / max(norm(seen_v) * long, TINY)
    # a number that is none must not get lost in the larger of two
    return Probe(linearity, of_u if of_u != of_u else max(of_v, of_u), tolerance(image.dtype))


def tolerance(dtype: torch.dtype) -> float:
    """The relative error that rounding in ``dtype`` may make in :func:`probe`: at least 0.001."""
    return max(TOLERANCE, torch.finfo(dtype).eps ** 0.5)
