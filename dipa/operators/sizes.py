"""The size of the images an operator acts on, checked at the door."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from numbers import Integral

from ..checks import require


def image_sides(img_size: object, side_allowed: Callable[[int], bool], allowed: str) -> tuple[int, int, int]:
    """(C, H, W) as three integers with C >= 1 and H, W by ``side_allowed`` (``allowed`` in words).

    Raises :class:`InputError` naming the one that is not.
    """
    sides = tuple(img_size) if isinstance(img_size, Iterable) else ()
    whole = len(sides) == 3 and all(isinstance(side, Integral) and not isinstance(side, bool) for side in sides)
    require(whole, "img_size", img_size, "(C, H, W), three integers")
    require(sides[0] >= 1, "img_size channels", sides[0], "an integer >= 1")
    for name, side in zip(("height", "width"), sides[1:], strict=True):
        require(side_allowed(side), f"img_size {name}", side, allowed)
    return tuple(int(side) for side in sides)
