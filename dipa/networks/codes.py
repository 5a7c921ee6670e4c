"""Codes of the iteration number: how one network knows which iteration of the solver it serves."""

from __future__ import annotations

import torch
from torch import nn

from .. import seeding
from ..checks import require, require_choice, require_int
from ..choices import CODES

MAX_DIM = 2**16


def sinusoidal(k: int, dim: int) -> torch.Tensor:
    r"""The fixed code of iteration k, float64 of shape (dim,): all sines, then all cosines.

    .. math::
        \phi(k) = \big[\sin(k\,\omega_i)\big]_{i<d/2}\ \Vert\
        \big[\cos(k\,\omega_i)\big]_{i<d/2},\qquad
        \omega_i = 10000^{-2i/d}

    k enters raw, counted from 1 and not divided by K. ``dim`` is even. Raises :class:`InputError`
    otherwise.

    Source: D2GP Sec. III.B (d = 256), after the public InDI implementation it names; Vaswani et al.
    2017 interleave the two halves.
    """
    return _sinusoidal(require_int("k", k, 1), require_even(dim))


def _sinusoidal(k: int, dim: int) -> torch.Tensor:
    angles = k * 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    return torch.cat([angles.sin(), angles.cos()])


def require_even(dim: int) -> int:
    """Refuse anything but an even positive integer as the length of a sinusoidal code."""
    whole = require_int("code_dim", dim, 2, MAX_DIM)
    require(
        whole % 2 == 0,
        "code_dim",
        dim,
        "an even number: a sinusoidal code is half sines, half cosines",
    )
    return whole


class Code(nn.Module):
    """What the codes share: ``code(k)`` -> (dim,) for k = 1, 2, ...; another k is refused."""

    def forward(self, k: int) -> torch.Tensor:
        """The code of iteration k."""
        return self.unchecked(require_int("k", k, 1))

    def unchecked(self, k: int) -> torch.Tensor:
        """The same, for a k that is known to be one."""
        raise TypeError(f"{type(self).__name__} does not define unchecked")


class SinusoidalCode(Code):
    """The fixed code (:func:`sinusoidal`) as a module: ``code(k)`` -> (dim,), no parameters."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = require_even(dim)

    def unchecked(self, k: int) -> torch.Tensor:
        """The code of iteration k in float64; the caller casts."""
        return _sinusoidal(k, self.dim)


class LearnedCode(Code):
    r"""The trainable code :math:`\phi(k)=\mathbf{w}k`, :math:`\mathbf{w}\in\mathbb{R}^d`:
    ``code(k)`` -> (dim,).

    w starts uniform in [-0.1, 0.1], so that k up to 20 stays where SiLU bends.

    Source: D2GP Sec. II.B (the start is this project's choice, none is printed).
    """

    def __init__(self, dim: int, seed: int = 0):
        super().__init__()
        dim, seed = require_int("code_dim", dim, 1, MAX_DIM), require_int("seed", seed, 0)
        self.weight = nn.Parameter(
            0.1 * (2 * torch.rand(dim, generator=seeding.generator(seed, "learned code")) - 1)
        )

    def unchecked(self, k: int) -> torch.Tensor:
        """w k."""
        return self.weight * k


def build_code(name: str, dim: int, seed: int = 0) -> Code | None:
    """The module of a code by name (``sinusoidal``, ``learned``), None for ``none``; ``seed``
    draws what is trainable.
    """
    require_choice("code", name, CODES)
    if name == "none":
        return None
    return SinusoidalCode(dim) if name == "sinusoidal" else LearnedCode(dim, seed)
