"""``dipa inspect``: the operator of a preset, or what a function returns, looked at."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..checks import FOREIGN, refuse_foreign, require, require_choice, shown
from .config import Config
from .presets import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..analysis import Inspection

ROLES = ("student", "teacher")
# what a module of the user's may raise when it is imported or called
THEIRS = (*FOREIGN, ImportError, SyntaxError, NameError, AssertionError, OSError)
Size = tuple[int, int, int] | None


def inspection(
    target: str,
    profile: str | None = None,
    overrides: list[str] | None = None,
    role: str = "student",
    img_size: Size = None,
) -> Callable[[], Inspection]:
    """What looks at the operator ``target``: a preset's name, or ``module:function``, whose
    function takes no arguments and returns a physics, or a pair of student and teacher.

    ``role`` says which of a pair, ``img_size`` (C, H, W) what images where the operator does not.
    Raises :class:`InputError` for names that are none, before anything slow is imported, and for
    settings of a preset beside a function.
    """
    require_choice("--role", role, ROLES)
    if ":" not in target:
        config = resolve(target, profile or "small", overrides=overrides or [])
        return lambda: _look(_of_preset(config, role), _size(config, img_size))
    require(not overrides, "--set", overrides, "none beside module:function")
    require(profile is None, "--profile", profile, "none beside module:function")
    module, _, function = target.partition(":")
    named = all(part.isidentifier() for part in (*module.split("."), function))
    require(named, "preset", target, "a preset's name, or module:function")
    return lambda: _look(_of_function(module, function, role), img_size)


def _look(physics: Any, img_size: Size) -> Inspection:
    from ..analysis import inspect

    return inspect(physics, img_size)


def _size(config: Config, img_size: Size) -> Size:
    """That of the images of a preset, where its operator may not carry it."""
    task = config.task
    return img_size or (task.channels, task.size, task.size)


def _of_preset(config: Config, role: str) -> Any:
    from .problem import operators

    return operators(config)[ROLES.index(role)]


def _of_function(module: str, function: str, role: str) -> Any:
    """The operator that ``function`` of ``module`` returns, found from the working directory."""
    name = f"{module}:{function}"
    with _theirs(name, "a module that can be imported"):
        sys.path.insert(0, os.getcwd())
        found = importlib.import_module(module)
    made: Any = getattr(found, function, None)
    require(callable(made), "preset", name, f"a function that the module {module} defines")
    with _theirs(name, "a function that needs no arguments"):
        result = made()
    if not isinstance(result, (tuple, list)):
        require(role == "student", "--role", role, f"student: {name} returns one operator")
        return result
    require(len(result) == len(ROLES), name, shown(result), "one operator, or student and teacher")
    return result[ROLES.index(role)]


@contextmanager
def _theirs(name: str, allowed: str) -> Iterator[None]:
    """A stretch in which code of the user's runs: that it fails is bad input."""
    try:
        yield
    except THEIRS as error:
        refuse_foreign(error, "preset", name, allowed)
