"""The setting a preconditioner was made in: what was fixed then travels with it, and a solve in
another setting says what differs.
"""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from deepinv.physics import LinearPhysics

from ..identity import Description, describe, describe_physics
from ..remembered import Remembered, kind_of

if TYPE_CHECKING:
    from .fista import FISTA

# of a solver: what a preconditioner is trained for
FIELDS = ("iterations", "momentum", "start", "restart", "prior_decay")
_free: ContextVar[bool] = ContextVar("settings that differ on purpose", default=False)
_described = Remembered[dict[str, Description]]()  # operators and denoisers
# the differences that a preconditioner's user has been told of: once is enough
_told: weakref.WeakKeyDictionary[object, set[str]] = weakref.WeakKeyDictionary()


class SettingWarning(UserWarning):
    """A preconditioner is used in another setting than the one it was made in."""


def setting(
    solver: FISTA, physics: LinearPhysics, stepsize: float | str, images: torch.Tensor
) -> dict[str, Any]:
    """What is fixed while a preconditioner is made, as plain values: stepsize, K, momentum, start,
    and the identity of prior, denoiser, operator and noise.
    """
    parts = {name: part.record() for name, part in _identity(solver, physics, images).items()}
    fixed = {"stepsize": stepsize, **_fields(solver), "operator is": type(physics).__name__}
    return fixed | {"parts": parts}


def of_family(made_in: dict[str, Any]) -> dict[str, Any]:
    """The setting of a P that belongs to no operator alone: steps of 1/L, whatever L is."""
    parts = {name: part for name, part in made_in["parts"].items() if name in ("prior", "denoiser")}
    kept = {name: value for name, value in made_in.items() if name != "stepsize"}
    return kept | {"operator is": "a family of operators", "parts": parts}


def stepsize_of(preconditioner: object) -> float | str:
    """The stepsize that a preconditioner was made with, without one ``"1/L"``."""
    return getattr(preconditioner, "setting", {}).get("stepsize", "1/L")


def differences(
    made_in: dict[str, Any],
    solver: FISTA,
    physics: LinearPhysics,
    stepsize: object,
    images: torch.Tensor,
) -> list[str]:
    """In what a solve differs from the setting its preconditioner was made in, in words."""
    now = _fields(solver) | {"stepsize": stepsize}
    named = [
        f"{name} {_text(now[name])} (made with {_text(made_in[name])})"
        for name in ("stepsize", *FIELDS)
        if name in made_in and not _alike(now[name], made_in[name])
    ]
    parts = made_in.get("parts", {})
    if not parts:
        return named
    kind = f"{type(physics).__name__} (made with another {made_in.get('operator is', 'operator')})"
    others = [
        f"{name} {kind}" if name == "operator" else f"another {name}"
        for name, part in _identity(solver, physics, images).items()
        if name in parts and not part.same(Description.read(parts[name]))
    ]
    return named + others


def warn_differences(preconditioner: object, *where: Any) -> None:
    """One :class:`SettingWarning` for a preconditioner that is used in another setting than its
    own, and no second one for the same differences.
    """
    made_in = getattr(preconditioner, "setting", None)
    if not made_in or _free.get():
        return
    changed = differences(made_in, *where)
    told = _told.setdefault(preconditioner, set())
    if changed and not told.issuperset(changed):
        told.update(changed)
        warnings.warn(
            f"preconditioner: used in another setting than it was made in: {'; '.join(changed)}",
            SettingWarning,
            stacklevel=4,
        )


@contextlib.contextmanager
def another_setting() -> Iterator[None]:
    """For whoever changes the setting on purpose (longer runs, shifted operators): no warnings."""
    token = _free.set(True)
    try:
        yield
    finally:
        _free.reset(token)


def _fields(solver: FISTA) -> dict[str, Any]:
    described = {"restart": 0, "prior_decay": 0.0} | solver.describe()
    return {name: described[name] for name in FIELDS}


def _identity(
    solver: FISTA, physics: LinearPhysics, images: torch.Tensor
) -> dict[str, Description]:
    denoiser = getattr(solver.prior, "denoiser", None)
    prior = {
        name: value
        for name, value in (solver.describe()["prior"] or {}).items()
        if name != "precision"
    }
    return {
        "prior": describe(prior),
        "denoiser": _once(denoiser, (), lambda: {"it": describe(denoiser)})["it"],
        **_once(
            physics,
            kind_of(images),
            lambda: describe_physics(physics, images),
        ),
    }


def _once(
    thing: object, about: object, make: Callable[[], dict[str, Description]]
) -> dict[str, Description]:
    """What ``make`` says of a module, remembered until one of its tensors changes."""
    known = _described.get(thing, about)
    if known is None:
        known = make()
        _described.put(thing, about, known)
    return known


def _alike(now: object, then: object) -> bool:
    if isinstance(now, float) and isinstance(then, float | int):
        return abs(now - then) <= 1e-4 * abs(then)
    return now == then


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
