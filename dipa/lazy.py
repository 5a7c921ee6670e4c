"""Packages whose parts are imported when they are first used: torch takes seconds, in which a
command must already answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any


def lazy(
    package: str, modules: Collection[str], homes: Mapping[str, Collection[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of ``package``, for its ``modules`` and for the names that
    ``homes`` lists by module.

    No name may be that of a module of the package: importing the module would hide it.
    """
    home = {name: module for module, names in homes.items() for name in names}
    known = vars(sys.modules[package])

    def find(name: str) -> Any:
        if name in modules:
            return import_module(f".{name}", package)
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        known[name] = value = getattr(import_module(f".{home[name]}", package), name)
        return value

    return find, lambda: sorted({*known, *modules, *home})
