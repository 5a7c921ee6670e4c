"""What the training notebook needs: parameters checked by name, and the run they ask for."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from .. import __version__
from .. import device as devices
from ..checks import (
    InputError,
    plain_value,
    refuse,
    require,
    require_choice,
    require_int,
    require_path,
)
from ..paths import runs_directory
from . import presets
from .results import PACKAGE, Run
from .running import run as run_config

LOSSES = {
    "supervised": "l-dipa-supervised",
    "imitation": "l-dipa-imitation",
    "imitation+gradient": "l-dipa-distilled",
}
METHODS = ("baseline", "ridge", "l-dipa")
SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def parameters(namespace: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The notebook's parameters: names of ``namespace`` that are not in ``known`` and do not start
    with ``_``.

    papermill injects a misspelt parameter as one more variable; here it is refused with the list of
    valid names.
    """
    chosen = {
        name: value
        for name, value in namespace.items()
        if name not in known and not name.startswith("_")
    }
    allowed = [name for name in inspect.signature(train).parameters if name != "progress"]
    for name in chosen:
        require_choice("notebook parameter", name, allowed)
    return chosen


def train(
    *,
    preset: str = "",
    method: str = "l-dipa",
    loss: str = "imitation+gradient",
    regulariser: bool = False,
    profile: str = "",
    seed: int = 0,
    settings: str = "",
    out: str = "",
    device: str = "auto",
    progress: bool = True,
) -> Run:
    """Run one variant (or read its finished folder).

    Values have the type of their default, or are text that says one: papermill hands ``-p
    regulariser false`` on as text.

    Args:
        preset: any name of ``dipa list``; it then says method, losses and task, and the next three
            are not used.
        method: ``baseline``, ``ridge`` (closed form) or ``l-dipa`` (trained).
        loss: for ``l-dipa``: ``supervised``, ``imitation`` or ``imitation+gradient``.
        regulariser: for ``l-dipa``: add the convergence regulariser R.
        profile: ``smoke``, ``small`` or ``paper``; empty: ``small`` where there is a GPU, else
            ``smoke``.
        seed: of image order and noise.
        settings: further overrides, ``"training.steps=10 solver.momentum=deepinv"``, quoted as for
            a shell where a value holds spaces.
        out: folder that holds run folders; empty for the default.
        device: ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        progress: show bars.
    """
    for name, text in (("preset", preset), ("profile", profile), ("settings", settings)):
        require(isinstance(text, str), name, text, "text (papermill -r hands on digits as text)")
    require_choice("method", method, METHODS)
    require_choice("loss", loss, LOSSES)
    regulariser, seed = _switch("regulariser", regulariser), _count("seed", seed)
    folder = None if isinstance(out, str) and not out else require_path("out", out)
    name = preset or (
        method if method != "l-dipa" else LOSSES[loss] + ("-r" if regulariser else "")
    )
    config = presets.resolve(
        name, profile or _default_profile(), seed=seed, overrides=_words(settings)
    )
    return run_config(config, folder, device=device, progress=progress)


def _default_profile() -> str:
    """What a machine does in minutes at most: a GPU trains the reduced size, a processor shows
    that everything runs.
    """
    return "small" if devices.choose().type == "cuda" else "smoke"


def where() -> None:
    """Print on what device and in what numbers this session computes and where runs go; nothing in
    a checkout of the repository.

    The first cell of every notebook calls it: on Colab it says what was installed, in the book it
    is silent.
    """
    if not (PACKAGE.parent / "book").is_dir():
        runs = runs_directory().resolve()
        print(
            f"dipa {__version__}, torch {torch.__version__}: "
            f"{_computes(devices.choose())}; runs go to {runs}."
        )


def place(device: str = "auto") -> torch.device:
    """The device that ``device`` asks for (:func:`dipa.device.choose`); a page that computes
    there prints it, and its numbers.
    """
    chosen = devices.choose(device)
    print(f"This page: {_computes(chosen)}.")
    return chosen


def _computes(place: torch.device) -> str:
    name, numbers = devices.describe(place)["device"], devices.precision("auto", place)
    return f"computed on {name}, networks of precision auto in {numbers}"


def _switch(name: str, value: Any) -> bool:
    """A bool, or text that YAML reads as one."""
    switch = (
        SWITCH.get(value.strip().lower(), value) if isinstance(value, str) else plain_value(value)
    )
    if not isinstance(switch, bool):
        refuse(name, value, "true or false")
    return switch


def _count(name: str, value: Any) -> int:
    """An integer >= 0, or its digits."""
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20
    return require_int(name, int(value) if digits else value, 0)


def _words(settings: str) -> list[str]:
    try:
        return shlex.split(settings)
    except ValueError as error:
        raise InputError(
            f"settings: got {settings!r}; allowed: words quoted as for a shell ({error})"
        ) from error
