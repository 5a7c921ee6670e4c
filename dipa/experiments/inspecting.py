"""``dipa inspect`` and ``dipa compare``: the operator of a preset, or what a function returns,
looked at, and every method on it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .. import choices
from ..checks import FOREIGN, refuse_foreign, require, require_choice, shown
from .config import Config
from .presets import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..analysis import Inspection
    from ..comparison import Comparison

ROLES = ("student", "teacher")
# what a module of the user's may raise when it is imported or called
THEIRS = (*FOREIGN, ImportError, SyntaxError, NameError, AssertionError, OSError)
Size = tuple[int, int, int] | None
TESTED = 8  # images of a data set's test split that a comparison is about


@dataclass(frozen=True)
class Target:
    """An operator by name: a preset's, or ``module:function``, whose function takes no arguments
    and returns a physics, or a pair of student and teacher.

    Raises :class:`InputError` for names that are none, before anything slow is imported, and for
    settings of a preset beside a function.
    """

    name: str
    profile: str | None = None
    overrides: Sequence[str] = ()

    def __post_init__(self):
        if ":" in self.name:
            require(not self.overrides, "--set", self.overrides, "none beside module:function")
            require(self.profile is None, "--profile", self.profile, "none beside module:function")
            parts = self.name.replace(":", ".", 1).split(".")
            named = all(part.isidentifier() for part in parts)
            require(named, "preset", self.name, "a preset's name, or module:function")
        self.config  # noqa: B018, refused here

    @cached_property
    def config(self) -> Config | None:
        """The configuration of a preset; None for a function."""
        if ":" in self.name:
            return None
        return resolve(self.name, self.profile or "small", overrides=list(self.overrides))

    def operators(self) -> Sequence[Any]:
        """The operator, or student and teacher."""
        if self.config is None:
            return _of_function(self.name)
        from .problem import operators

        return operators(self.config)

    def size(self, img_size: Size) -> Size:
        """``img_size``, or that of a preset's images, whose operator may not carry it."""
        if self.config is None or img_size is not None:
            return img_size
        task = self.config.task
        return task.channels, task.size, task.size


def inspection(target: Target, role: str = "student", img_size: Size = None) -> Inspection:
    """A look at the operator of a target.

    ``role`` says which of a pair, ``img_size`` (C, H, W) what images where the operator does not.
    """
    require_choice("--role", role, ROLES)
    from ..analysis import inspect

    operators = target.operators()
    allowed = f"student: {target.name} returns one operator"
    require(len(operators) == len(ROLES) or role == "student", "--role", role, allowed)
    return inspect(operators[ROLES.index(role)], target.size(img_size))


def comparison(
    target: Target,
    *,
    images: str | None = None,
    count: int = 40,
    img_size: Size = None,
    steps: int = 0,
    **options: Any,
) -> Comparison:
    """Every method on the operator of a target, with the teacher of a pair.

    ``images`` is the name of a data set, or a folder of pictures; None is the preset's own data
    set, for a function the embedded one. ``count`` of them are taken, of a data set 8 of its test
    split too. ``img_size`` (C, H, W) says which where the operator does not; ``steps`` of training
    for L-DIPA and N-DIPA, 0 for none; ``options`` are those of :func:`dipa.compare`.
    """
    from ..comparison import compare
    from ..physics import image_size
    from ..settings import Budget

    operators = target.operators()
    size = image_size(operators[0], target.size(img_size))
    train, test = _pictures(target.config, images, size, count)
    budget = Budget(steps=steps, batch_size=8, learning_rate=1e-3) if steps else None
    teacher = operators[1] if len(operators) == len(ROLES) and budget is not None else None
    return compare(operators[0], train, test=test, teacher=teacher, budget=budget, **options)


def _pictures(
    config: Config | None, images: str | None, size: tuple[int, int, int], count: int
) -> tuple[Any, Any]:
    """Images to fit and choose on, and to test on; of a folder the latter are held back."""
    from .. import data

    name = images or (config.data.name if config else "embedded")
    require(size[1] == size[2], "img_size", size, "square images")
    shaped: Any = {"size": size[1], "channels": size[0]}
    if name not in choices.DATASETS:
        return data.folder(name, count=None, **shaped).images[:count], None
    shaped |= {"file": config.data.file} if config and images is None else {}
    train = data.load(name, "train", **shaped, count=count)
    return train.images, data.load(name, "test", **shaped).images[:TESTED]


def _of_function(name: str) -> Sequence[Any]:
    """What ``module:function`` returns, found from the working directory."""
    module, _, function = name.partition(":")
    with _theirs(name, "a module that can be imported"):
        sys.path.insert(0, os.getcwd())
        imported = importlib.import_module(module)
    factory: Any = getattr(imported, function, None)
    require(callable(factory), "preset", name, f"a function that the module {module} defines")
    with _theirs(name, "a function that needs no arguments"):
        result = factory()
    if not isinstance(result, (tuple, list)):
        return (result,)
    require(len(result) == len(ROLES), name, shown(result), "one operator, or student and teacher")
    return result


@contextmanager
def _theirs(name: str, allowed: str) -> Iterator[None]:
    """A stretch in which code of the user's runs: that it fails is bad input."""
    try:
        yield
    except THEIRS as error:
        refuse_foreign(error, "preset", name, allowed)
