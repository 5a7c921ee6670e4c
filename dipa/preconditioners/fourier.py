"""Filters: preconditioners that are diagonal in the Fourier domain, periodic at the edges."""

from __future__ import annotations

import math
from typing import Any

import torch

from .. import device
from ..checks import require, require_flag, require_img_size, require_int
from .base import MAX_NUMBERS, Traits
from .per_iteration import LEAST, PerIteration

MAX_KNOTS = 100_000
FARTHEST = math.sqrt(0.5)  # the largest |omega| of an image, in cycles a pixel


class FourierSteps(PerIteration):
    r"""A real filter: :math:`d=F^{-1}\,\mathrm{diag}(w_k)\,F\,\nabla g`, F the Fourier transform of
    each channel alone.

    :math:`w_k(-\omega)=w_k(\omega)` by construction, so P is real and symmetric; w starts at 1.
    The filter is one number for each frequency of images (H, W), or, with ``radial``, a function of
    :math:`|\omega|`: linear between ``knots`` equidistant values, the first at 0 and the last at
    the corner :math:`\sqrt{1/2}` (cycles a pixel).

    Images of any size are taken. A radial filter is the same function on each; any other is
    interpolated between its frequencies, bilinear and periodic in :math:`\omega`, which on images
    of its own size is the filter itself.

    :func:`~dipa.training.fit_steps` finds w in closed form.

    Args:
        iterations: K >= 1, as for the other steps; 1 is one filter for all iterations.
        img_size: (C, H, W) of the images the filter is made for, whatever C; not used, and not
            needed, where ``radial``.
        radial: whether w is a function of :math:`|\omega|` alone: K ``knots`` parameters in the
            place of K H (W // 2 + 1).
        knots: of a radial filter, >= 2.
    """

    kind = "fourier"

    def __init__(
        self,
        iterations: int,
        img_size: tuple[int, int, int] | None = None,
        *,
        radial: bool = False,
        knots: int = 33,
    ):
        radial, knots = require_flag("radial", radial), require_int("knots", knots, 2, MAX_KNOTS)
        shape: tuple[int, ...] = (knots,)
        size = None if radial and img_size is None else require_img_size(img_size)
        if size is not None and not radial:
            shape = size[1], size[2] // 2 + 1
        require(
            math.prod(shape) <= MAX_NUMBERS,
            "img_size",
            img_size,
            f"at most {MAX_NUMBERS:,} numbers in a filter",
        )
        super().__init__(iterations, torch.ones(()).expand(shape))
        self.traits = Traits(linear=True, iteration_dependent=self.iterations > 1)
        self.img_size = None if radial or size is None else (1, *size[1:])
        self.radial, self.knots = radial, knots

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The gradient filtered by w_k."""
        height, width = gradient.shape[-2:]
        spectrum = torch.fft.rfft2(gradient) * self._on(self._step(k), height, width)
        return torch.fft.irfft2(spectrum, s=(height, width))

    def response(self, k: int, height: int, width: int) -> torch.Tensor:
        """w_k at the frequencies of ``torch.fft.rfft2`` of images (height, width): (height,
        width // 2 + 1).
        """
        return self._on(
            self.step(k), require_int("height", height, 1), require_int("width", width, 1)
        )

    def _on(self, numbers: torch.Tensor, height: int, width: int) -> torch.Tensor:
        if self.img_size is None:
            lower, part = _between_knots(height, width, self.knots, numbers)
            return torch.lerp(numbers[lower], numbers[lower + 1], part)
        size = self.img_size[1], self.img_size[2]
        numbers = _even(numbers, size[1])
        return (
            numbers
            if size == (height, width)
            else _even(_interpolated(numbers, size, (height, width)), width)
        )

    def normal_equations(  # noqa: D102
        self, error: torch.Tensor, direction: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = sides = error.shape[-2:]
        size = sides if self.img_size is None else self.img_size[1:]
        require(
            tuple(sides) == tuple(size),
            "images.shape",
            tuple(error.shape),
            f"images of this filter's own size, {tuple(size)}",
        )
        wanted, given = (
            torch.fft.rfft2(device.able(images).double(), norm="ortho")
            for images in (error, direction)
        )
        power = given.abs().square().sum(dim=(0, 1))
        cross = (given.conj() * wanted).real.sum(dim=(0, 1))
        if self.img_size is not None:
            return power, cross
        lower, part = (
            place.flatten() for place in _between_knots(height, width, self.knots, power)
        )
        hats = power.new_zeros(self.knots, power.numel())
        at = torch.arange(power.numel(), device=power.device)
        hats[lower, at], hats[lower + 1, at] = 1 - part, part
        times = (2 - _alone(width, power)).expand_as(power)  # how often rfft2 stands for it
        weighted = hats * (times * power).flatten()
        return weighted @ hats.T, hats @ (times * cross).flatten()

    def solution(  # noqa: D102
        self, gram: torch.Tensor, right: torch.Tensor, regularization: float
    ) -> torch.Tensor:
        if self.img_size is not None:
            return super().solution(gram, right, regularization)
        level = (regularization * gram.diagonal().mean()).clamp_min(LEAST)
        between = torch.eye(self.knots).to(gram).diff(dim=0)
        system = gram + level * (between.T @ between + 1e-6 * torch.eye(self.knots).to(gram))
        return torch.linalg.solve(system, right)

    def misfit(  # noqa: D102
        self, gram: torch.Tensor, right: torch.Tensor, p: torch.Tensor
    ) -> float:
        if self.img_size is None:
            return super().misfit(gram, right, p)
        times = 2 - _alone(self.img_size[2], gram)
        return super().misfit(times * gram, times * right, p)

    def header(self) -> dict[str, Any]:  # noqa: D102
        if self.img_size is None:
            return {"iterations": self.iterations, "radial": True, "knots": self.knots}
        return {"iterations": self.iterations, "img_size": list(self.img_size)}


def _alone(width: int, like: torch.Tensor) -> torch.Tensor:
    """1 at the columns of rfft2 that hold omega and -omega both, 0 at those that stand for two:
    (width // 2 + 1,).
    """
    alone = like.new_zeros(width // 2 + 1)
    alone[0] = 1
    if width % 2 == 0:
        alone[-1] = 1
    return alone


def _mirrored(half: torch.Tensor) -> torch.Tensor:
    """Row -i in the place of row i."""
    return half.flip(0).roll(1, 0)


def _even(half: torch.Tensor, width: int) -> torch.Tensor:
    """The filter with w(-omega) = w(omega): the mean of both where rfft2 holds both."""
    alone = _alone(width, half)
    return half + alone * (_mirrored(half) - half) / 2


def _between_knots(
    height: int, width: int, knots: int, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the frequencies of rfft2 lie between knots: the lower one, and the part of the way
    to the next.
    """
    rows, columns = _frequencies(height, width)
    place = torch.hypot(rows[:, None], columns) * ((knots - 1) / FARTHEST)
    lower = place.long().clamp_max(knots - 2)
    return lower.to(like.device), (place - lower).to(like.dtype).to(like.device)


def _frequencies(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of the rows and columns of rfft2, in cycles a pixel, on the processor: in float64,
    which not every device has.
    """
    return (
        torch.fft.fftfreq(height, dtype=torch.float64),
        torch.fft.rfftfreq(width, dtype=torch.float64),
    )


def _interpolated(
    half: torch.Tensor, size: tuple[int, int], sides: tuple[int, int]
) -> torch.Tensor:
    """An even filter of images ``own`` at the frequencies of images ``sides``."""
    right = _mirrored(half)[:, 1 : (size[1] + 1) // 2].flip(1)
    whole = torch.cat([half, right], dim=1)
    for dim, frequencies in enumerate(_frequencies(*sides)):
        place = frequencies * size[dim]
        lower = place.floor()
        part = (place - lower).to(half.dtype).to(half.device)
        index = lower.long().to(half.device)
        low, high = (whole.index_select(dim, (index + more) % size[dim]) for more in (0, 1))
        whole = torch.lerp(low, high, part[:, None] if dim == 0 else part)
    return whole
