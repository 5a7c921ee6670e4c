"""Checks at the door: one clear error naming the argument, the value got and what is allowed."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

MANY = 40  # choices that a message no longer lists
LARGEST_INT = 2**63 - 1  # that torch takes


class InputError(ValueError):
    """Bad input from outside: an argument, a configuration key, a file. Its text is made one line for a person."""

    def __init__(self, text: str):
        super().__init__(one_line(text))


def one_line(text: str) -> str:
    """``text`` with its line breaks, and the space around them, made one space each."""
    return " ".join(part.strip() for part in str(text).splitlines() if part.strip())


def shown(value: object, most: int = 200) -> str:
    """``repr(value)``, its middle left out where it is longer than ``most`` characters."""
    try:
        text = repr(value)
    except ValueError:  # integers of more digits than Python prints
        return f"{type(value).__name__} of numbers too long to print"
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def require(condition: bool, name: str, got: object, allowed: str) -> None:
    """Raise :class:`InputError` ``name: got X; allowed: Y`` unless ``condition`` holds."""
    if not condition:
        raise InputError(f"{name}: got {shown(got)}; allowed: {allowed}")


def require_choice(name: str, got: object, choices: Iterable[str]) -> None:
    """Refuse a value outside ``choices``, naming the nearest valid ones."""
    choices = list(choices)
    if isinstance(got, str) and got in choices:
        return
    near = difflib.get_close_matches(got[:200] if isinstance(got, str) else shown(got), choices, n=3)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    listed = choices if len(choices) <= MANY else [*choices[:3], f"... ({len(choices)} in all)"]
    raise InputError(f"{name}: got {shown(got)}; allowed: {', '.join(listed)}{hint}")


def require_number(name: str, got: object, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Refuse anything but a finite real number in [low, high], or ]low, high] with ``open_low``."""
    whole = isinstance(got, int) and not isinstance(got, bool)
    number = abs(got) <= LARGEST_INT if whole else isinstance(got, float) and math.isfinite(got)
    inside = number and (low < got if open_low else low <= got) and got <= high
    left = "]" if open_low else "["
    require(inside, name, got, f"a finite number in {left}{low}, {high}]{' (an integer: at most 63 bits)' if whole else ''}")


def require_int(name: str, got: object, low: int, high: float = math.inf) -> None:
    """Refuse anything but an integer in [low, high]."""
    integer = isinstance(got, int) and not isinstance(got, bool)
    require(integer and low <= got <= high, name, got, f"an integer in [{low}, {high}]")


def in_a_row(value: object) -> bool:
    """Whether ``value`` can be gone through one by one: not text, and not a tensor without axes, which is Iterable too."""
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes)) and getattr(value, "ndim", 1) == 1


def image_sides(img_size: object) -> tuple[int, ...]:
    """The sides of an ``img_size`` as a tuple of integers; empty for anything but whole numbers in a row."""
    sides = tuple(img_size) if in_a_row(img_size) else ()
    whole = all(isinstance(side, Integral) and not isinstance(side, bool) for side in sides)
    return tuple(int(side) for side in sides) if whole else ()


def require_img_size(img_size: object, allowed: str = "(C, H, W), three positive integers") -> tuple[int, int, int]:
    """(C, H, W) as a tuple; refuses anything but three integers >= 1."""
    sides = image_sides(img_size)
    require(len(sides) == 3 and min(sides) >= 1, "img_size", img_size, allowed)
    return sides


def require_tensor(name: str, tensor: object, allowed: str = "a tensor") -> None:
    """Refuse anything but a tensor that holds its numbers one beside the other: not on the device ``meta``, not sparse."""
    import torch

    require(isinstance(tensor, torch.Tensor), name, type(tensor).__name__, allowed)
    require(tensor.device.type != "meta", f"{name}.device", "meta", "a device that holds numbers")
    require(tensor.layout == torch.strided, f"{name}.layout", tensor.layout, "torch.strided (a dense tensor)")


def require_real(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor that is not of finite real floating-point numbers."""
    import torch

    require(tensor.is_floating_point(), f"{name}.dtype", tensor.dtype, "a real floating-point type")
    require(bool(torch.isfinite(tensor).all()), name, "NaN or infinite values", "finite values")


def require_images(name: str, images: object, img_size: tuple[int, ...] | None = None) -> None:
    """Refuse anything but a finite real batch of images of shape (B, C, H, W), B >= 1."""
    require_tensor(name, images, "a tensor of shape (B, C, H, W)")
    want = "(B, C, H, W)" if img_size is None else f"(B, {', '.join(map(str, img_size))})"
    shaped = images.ndim == 4 and images.shape[0] > 0 and (img_size is None or tuple(images.shape[1:]) == tuple(img_size))
    require(shaped, f"{name}.shape", tuple(images.shape), f"{want} with B >= 1")
    require_real(name, images)


def require_path(name: str, path: object) -> None:
    """Refuse what names no file: anything but text or a path, and a null character in it."""
    named = isinstance(path, (str, os.PathLike)) and "\0" not in str(path)
    require(named, name, path, "a path, as text or pathlib.Path")


def require_same_shape(name: str, made: object, images: torch.Tensor) -> None:
    """Refuse what a function of the user made of ``images`` unless it is a tensor of their shape."""
    import torch

    got = tuple(made.shape) if isinstance(made, torch.Tensor) else type(made).__name__
    require(got == tuple(images.shape), name, f"one that returns {got}", f"one that keeps the shape {tuple(images.shape)}")


def require_file(name: str, path: Path, advice: str) -> None:
    """Refuse a path that is not an existing file, with what to do about it."""
    require(Path(path).is_file(), name, str(path), f"an existing file; {advice}")
