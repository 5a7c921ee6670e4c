"""Checks at the door: one clear error naming the argument, the value got and what is allowed."""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    import torch

MANY = 40  # choices that a message no longer lists
LARGEST_INT = 2**63 - 1  # that torch takes
LONGEST_NAME = 255  # bytes, of a file or folder


class InputError(ValueError):
    """Bad input from outside: an argument, a configuration key, a file. Its text is made one
    line for a person.
    """

    def __init__(self, text: str):
        super().__init__(one_line(text))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the place of a traceback: in a notebook, too, it is one line."""
        return [f"{type(self).__name__}: {self}"]


def one_line(text: str) -> str:
    """``text`` with its line breaks, and the space around them, made one space each."""
    return " ".join(part.strip() for part in str(text).splitlines() if part.strip())


def shown(value: object, most: int = 200) -> str:
    """``repr(value)``, its middle left out where it is longer than ``most`` characters."""
    try:
        text = repr(value)
    except ValueError:  # integers of more digits than Python prints
        return f"{type(value).__name__} of numbers too long to print"
    return shortened(text, most)


def shortened(text: str, most: int) -> str:
    """``text`` with its middle left out where it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def shorter(text: str, most: int = 300) -> str:
    """``text`` in one line, its end left out where it is longer than ``most`` characters."""
    line = one_line(text)
    return line if len(line) <= most else f"{line[:most]}..."


def refuse(name: str, got: object, allowed: str) -> NoReturn:
    """Raise :class:`InputError` ``name: got X; allowed: Y``."""
    raise InputError(f"{name}: got {shown(got)}; allowed: {allowed}")


def require(condition: object, name: str, got: object, allowed: str) -> None:
    """:func:`refuse` unless ``condition`` holds."""
    if not condition:
        refuse(name, got, allowed)


def require_choice(name: str, got: object, choices: Iterable[str]) -> None:
    """Refuse a value outside ``choices``, naming the nearest valid ones."""
    choices = list(choices)
    if isinstance(got, str) and got in choices:
        return
    near = difflib.get_close_matches(
        got[:200] if isinstance(got, str) else shown(got), choices, n=3
    )
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    listed = choices if len(choices) <= MANY else [*choices[:3], f"... ({len(choices)} in all)"]
    raise InputError(f"{name}: got {shown(got)}; allowed: {', '.join(listed)}{hint}")


def plain_value(value: Any) -> Any:
    """A number or text of numpy (a scalar, or an array without axes) as Python's own; anything
    else is returned as it is.
    """
    if (
        not isinstance(value, (np.generic, np.ndarray))
        or value.ndim
        or value.dtype.kind not in "biufU"
    ):
        return value
    # item() of an extended float is numpy's again
    return float(value) if value.dtype.kind == "f" else value.item()


def plain_fields(instance: Any) -> None:
    """Python's own numbers in the place of numpy's in the fields of a dataclass, frozen or not."""
    for field in fields(instance):
        object.__setattr__(instance, field.name, plain_value(getattr(instance, field.name)))


def require_number(
    name: str, got: object, low: float, high: float = math.inf, *, open_low: bool = False
) -> float:
    """Refuse anything but a finite real number in [low, high], or ]low, high] with
    ``open_low``; returns Python's own.
    """
    value = plain_value(got)
    whole = isinstance(value, int) and not isinstance(value, bool)
    number = (
        abs(value) <= LARGEST_INT if whole else isinstance(value, float) and math.isfinite(value)
    )
    inside = number and (low < value if open_low else low <= value) and value <= high
    left = "]" if open_low else "["
    require(
        inside,
        name,
        got,
        f"a finite number in {left}{low}, "
        f"{high}]{' (an integer: at most 63 bits)' if whole else ''}",
    )
    return value


def require_int(name: str, got: object, low: int, high: float = math.inf) -> int:
    """Refuse anything but an integer in [low, high] of at most 63 bits; returns Python's own."""
    value = plain_value(got)
    integer = isinstance(value, int) and not isinstance(value, bool)
    bits = " of at most 63 bits" if integer and value > LARGEST_INT else ""
    require(
        integer and not bits and low <= value <= high,
        name,
        got,
        f"an integer in [{low}, {high}]{bits}",
    )
    return value


def require_flag(name: str, got: object) -> bool:
    """Refuse anything but true and false; returns Python's own."""
    value = plain_value(got)
    require(isinstance(value, bool), name, got, "True or False")
    return value


def in_a_row(value: object) -> bool:
    """Whether ``value`` can be gone through one by one: not text, and not a tensor without
    axes, which is Iterable too.
    """
    return (
        isinstance(value, Iterable)
        and not isinstance(value, (str, bytes))
        and getattr(value, "ndim", 1) == 1
    )


def image_sides(img_size: Any) -> tuple[int, ...]:
    """The sides of an ``img_size`` as a tuple of integers; empty for anything but whole numbers
    in a row.
    """
    sides = tuple(map(plain_value, img_size)) if in_a_row(img_size) else ()
    return (
        sides if all(isinstance(side, int) and not isinstance(side, bool) for side in sides) else ()
    )


def require_img_size(
    img_size: object, allowed: str = "(C, H, W), three positive integers"
) -> tuple[int, int, int]:
    """(C, H, W) as a tuple; refuses anything but three integers >= 1."""
    sides = image_sides(img_size)
    fits = len(sides) == 3 and min(sides) >= 1 and math.prod(sides) <= LARGEST_INT
    require(fits, "img_size", img_size, allowed)
    channels, height, width = sides
    return channels, height, width


def require_tensor(name: str, tensor: Any, allowed: str = "a tensor") -> None:
    """Refuse anything but a tensor that holds its numbers one beside the other: not on the
    device ``meta``, not sparse.
    """
    import torch

    require(isinstance(tensor, torch.Tensor), name, type(tensor).__name__, allowed)
    require(tensor.device.type != "meta", f"{name}.device", "meta", "a device that holds numbers")
    require(
        tensor.layout == torch.strided,
        f"{name}.layout",
        tensor.layout,
        "torch.strided (a dense tensor)",
    )


def require_real(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor that is not of finite real floating-point numbers."""
    import torch

    require(tensor.is_floating_point(), f"{name}.dtype", tensor.dtype, "a real floating-point type")
    require(bool(torch.isfinite(tensor).all()), name, "NaN or infinite values", "finite values")


def require_images(name: str, images: Any, img_size: tuple[int, ...] | None = None) -> None:
    """Refuse anything but a finite real batch of images of shape (B, C, H, W), B >= 1."""
    require_tensor(name, images, "a tensor of shape (B, C, H, W)")
    want = "(B, C, H, W)" if img_size is None else f"(B, {', '.join(map(str, img_size))})"
    shaped = (
        images.ndim == 4
        and images.shape[0] > 0
        and (img_size is None or tuple(images.shape[1:]) == tuple(img_size))
    )
    require(shaped, f"{name}.shape", tuple(images.shape), f"{want} with B >= 1")
    require_real(name, images)


def require_same_images(channels: int | None = None, **images: Any) -> None:
    """Refuse named images unless all are batches (B, C, H, W) of one shape, real dtype and device:
    nothing broadcasts.

    ``channels`` is C where only one number will do. The numbers themselves are not looked at, so
    that this costs microseconds in a training step.
    """
    wanted = f"(B, {channels or 'C'}, H, W) with B >= 1"
    for name, batch in images.items():
        require_tensor(name, batch, f"a tensor of shape {wanted}")
        shaped = batch.ndim == 4 and batch.numel() > 0 and channels in (None, batch.shape[1])
        require(shaped, f"{name}.shape", tuple(batch.shape), wanted)
        require(
            batch.is_floating_point(), f"{name}.dtype", batch.dtype, "a real floating-point type"
        )
    require_alike(**images)


def require_alike(**tensors: torch.Tensor) -> None:
    """Refuse named tensors that differ from the first of them in shape, dtype or device."""
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        for part in ("shape", "dtype", "device"):
            got, allowed = getattr(tensor, part), getattr(reference, part)
            if got != allowed:
                raise InputError(
                    f"{name}.{part}: got {_plain_shape(got)}; allowed: "
                    f"{_plain_shape(allowed)}, that of {first}"
                )


def _plain_shape(value: object) -> object:
    return tuple(value) if isinstance(value, tuple) else value


def require_path(name: str, path: object) -> Path:
    """``path`` with a leading ``~`` as the home folder.

    Refuses what names no file: anything but text or a path, a null character or half a character in
    it, and a ``~`` that stands for no folder.
    """
    text: Any = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    named = isinstance(text, str) and "\0" not in text and _encodable(text)
    require(named, name, path, "a path, as text or pathlib.Path")
    file = Path(os.path.expanduser(text))
    longest = max((len(os.fsencode(part)) for part in file.parts), default=0)
    require(longest <= LONGEST_NAME, name, path, f"names of at most {LONGEST_NAME} bytes")
    require(file.parts[:1] != ("~",), name, path, "a path without ~ where there is no home folder")
    return file


def require_new_file(name: str, path: object) -> Path | None:
    """The path of a file to write, as :func:`require_path`; None for None or empty text. A
    folder's name is refused.
    """
    if path is None or (isinstance(path, str) and not path):
        return None
    file = require_path(name, path)
    require(
        file.name not in ("", "..") and not os.path.isdir(file),
        name,
        str(path),
        "the name of a file, not of a folder",
    )
    return file


def _encodable(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def require_same_shape(name: str, answer: Any, images: torch.Tensor) -> None:
    """Refuse what a function of the user made of ``images`` unless it is a tensor of their
    shape, where they are.
    """
    import torch

    got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
    require(
        got == tuple(images.shape),
        name,
        f"one that returns {got}",
        f"one that keeps the shape {tuple(images.shape)}",
    )
    if answer.device != images.device:
        raise InputError(
            f"{name}.device: got one that returns to {answer.device}; allowed: "
            f"{images.device}, that of its images"
        )


def require_kind(name: str, got: object, kind: type, article: str = "a") -> None:
    """Refuse anything but an instance of the class ``kind``."""
    require(isinstance(got, kind), name, type(got).__name__, f"{article} {kind.__name__}")


def require_json(name: str, record: object) -> None:
    """Refuse what JSON cannot hold: other objects, numbers that are not finite, what holds
    itself.
    """
    try:
        json.dumps(record, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{name}: got {shown(record)}; allowed: plain values that JSON can hold ({error})"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this says that a device, or the system, has no memory left: Python's error, or
    torch's by its text.
    """
    told = isinstance(error, RuntimeError) and re.search(
        r"out of memory|can't allocate memory", str(error)
    )
    return isinstance(error, MemoryError) or bool(told)


# what code of the user's, or of deepinv's, raises on arguments that it cannot take
FOREIGN = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,  # how deepinv checks some arguments
)


def refuse_foreign(error: Exception, name: str, got: str, allowed: str) -> NoReturn:
    """Raise the :class:`InputError` that ``error``, one of FOREIGN, means for the argument
    ``name``.

    Our own errors, and a lack of memory, pass as they are.
    """
    if isinstance(error, InputError) or is_out_of_memory(error):
        raise error
    reason = f"{type(error).__name__}: {shown(str(error), 300)}"
    raise InputError(f"{name}: got {got}; allowed: {allowed} ({reason})") from error


@contextmanager
def foreign(name: str, got: str, allowed: str) -> Iterator[None]:
    """A stretch in which code of the user's or of deepinv's meets our arguments: that it cannot
    take them is bad input.
    """
    try:
        yield
    except FOREIGN as error:
        refuse_foreign(error, name, got, allowed)


def answer(
    name: str, function: Callable[..., Any], images: torch.Tensor, *more: object
) -> torch.Tensor:
    """``function(images, *more)`` of the user's, which must give a tensor of the images' shape."""
    require(
        callable(function), name, function, f"a function of images and {len(more)} more arguments"
    )
    got = (
        f"{getattr(function, '__name__', type(function).__name__)} on {tuple(images.shape)}, "
        f"{images.dtype}"
    )
    with foreign(
        name, got, f"a function of images and {len(more)} more arguments that can take these"
    ):
        answer = function(images, *more)
    require_same_shape(name, answer, images)
    return answer


def require_file(name: str, path: Path, advice: str) -> None:
    """Refuse a path that is not an existing file, with what to do about it."""
    # False too for a name that is too long
    require(os.path.isfile(path), name, str(path), f"an existing file; {advice}")
