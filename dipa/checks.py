"""Checks at the door: one clear error naming the argument, the value got and what is allowed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from pathlib import Path


class InputError(ValueError):
    """Bad input from outside: an argument, a configuration key, a file. Its text is one line for a person."""


def require(condition: bool, name: str, got: object, allowed: str) -> None:
    """Raise :class:`InputError` ``name: got X; allowed: Y`` unless ``condition`` holds."""
    if not condition:
        raise InputError(f"{name}: got {got!r}; allowed: {allowed}")


def require_choice(name: str, got: object, choices: Iterable[str]) -> None:
    """Refuse a value outside ``choices``, naming the nearest valid ones."""
    choices = list(choices)
    if got in choices:
        return
    near = difflib.get_close_matches(str(got), choices, n=3)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    raise InputError(f"{name}: got {got!r}; allowed: {', '.join(choices)}{hint}")


def require_number(name: str, got: object, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Refuse anything but a finite real number in [low, high], or ]low, high] with ``open_low``."""
    number = isinstance(got, (int, float)) and not isinstance(got, bool) and math.isfinite(got)
    inside = number and (low < got if open_low else low <= got) and got <= high
    left = "]" if open_low else "["
    require(inside, name, got, f"a finite number in {left}{low}, {high}]")


def require_int(name: str, got: object, low: int, high: float = math.inf) -> None:
    """Refuse anything but an integer in [low, high]."""
    integer = isinstance(got, int) and not isinstance(got, bool)
    require(integer and low <= got <= high, name, got, f"an integer in [{low}, {high}]")


def require_images(name: str, images: object, img_size: tuple[int, ...] | None = None) -> None:
    """Refuse anything but a finite real batch of images of shape (B, C, H, W), B >= 1."""
    import torch

    require(isinstance(images, torch.Tensor), name, type(images).__name__, "a tensor of shape (B, C, H, W)")
    want = "(B, C, H, W)" if img_size is None else f"(B, {', '.join(map(str, img_size))})"
    shaped = images.ndim == 4 and images.shape[0] > 0 and (img_size is None or tuple(images.shape[1:]) == tuple(img_size))
    require(shaped, f"{name}.shape", tuple(images.shape), f"{want} with B >= 1")
    require(images.is_floating_point(), f"{name}.dtype", images.dtype, "a real floating-point type")
    require(bool(torch.isfinite(images).all()), name, "NaN or infinite values", "finite values")


def require_file(name: str, path: Path, advice: str) -> None:
    """Refuse a path that is not an existing file, with what to do about it."""
    require(Path(path).is_file(), name, str(path), f"an existing file; {advice}")
