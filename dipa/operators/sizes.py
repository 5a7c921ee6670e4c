"""The size of the images an operator acts on and the level of its noise, checked at the door."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..checks import image_sides, require, require_number

MAX_NUMBERS = 2**26  # in one image: a quarter of a gigabyte
MAX_SIGMA = 1e6  # images are in [0, 1]; far beyond, noise is no finite number
POWER_OF_TWO = "a power of two >= 2 (Hadamard transform)"


def power_of_two(side: int) -> bool:
    """Whether the Hadamard transform has such a side."""
    return side >= 2 and side & (side - 1) == 0


def operator_sides(
    img_size: object, side_allowed: Callable[[int], bool], allowed: str
) -> tuple[int, int, int]:
    """(C, H, W) as three integers with C >= 1 and H, W by ``side_allowed`` (``allowed`` in words).

    Raises :class:`InputError` naming the one that is not.
    """
    sides = image_sides(img_size)
    require(len(sides) == 3, "img_size", img_size, "(C, H, W), three integers")
    require(sides[0] >= 1, "img_size channels", sides[0], "an integer >= 1")
    for name, side in zip(("height", "width"), sides[1:], strict=True):
        require(side_allowed(side), f"img_size {name}", side, allowed)
    require(
        math.prod(sides) <= MAX_NUMBERS,
        "img_size",
        sides,
        f"at most {MAX_NUMBERS:,} numbers in an image",
    )
    channels, height, width = sides
    return channels, height, width


def sigma_of(noise_sigma: float) -> float:
    """The standard deviation of the noise as a float; refuses what is not a number in [0,
    ``MAX_SIGMA``].
    """
    return float(require_number("noise_sigma", noise_sigma, 0, MAX_SIGMA))
