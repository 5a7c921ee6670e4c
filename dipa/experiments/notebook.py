"""What the training notebook needs: parameters checked by name, and the run they ask for."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..checks import InputError, require_choice
from . import presets
from .results import Run
from .run import run as run_config

LOSSES = {"supervised": "l-dipa-supervised", "imitation": "l-dipa-imitation", "imitation+gradient": "l-dipa-distilled"}
METHODS = ("baseline", "ridge", "l-dipa")


def parameters(namespace: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The notebook's parameters: names of ``namespace`` that are not in ``known`` and do not start with ``_``.

    papermill injects a misspelt parameter as one more variable; here it is refused with the list of valid names.
    """
    chosen = {name: value for name, value in namespace.items() if name not in known and not name.startswith("_")}
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
    profile: str = "smoke",
    seed: int = 0,
    settings: str = "",
    out: str = "",
    progress: bool = True,
) -> Run:
    """Run one variant (or read its finished folder).

    Args:
        preset: any name of ``dipa list``; it then says method, losses and task, and the next three are not used.
        method: ``baseline``, ``ridge`` (closed form) or ``l-dipa`` (trained).
        loss: for ``l-dipa``: ``supervised``, ``imitation`` or ``imitation+gradient``.
        regulariser: for ``l-dipa``: add the convergence regulariser R.
        profile: ``smoke``, ``small`` or ``paper``.
        seed: of image order and noise.
        settings: further overrides, ``"training.steps=10 solver.momentum=deepinv"``.
        out: folder that holds run folders; empty for the default.
        progress: show bars.
    """
    require_choice("method", method, METHODS)
    require_choice("loss", loss, LOSSES)
    if not isinstance(settings, str):
        raise InputError(f"settings: got {settings!r}; allowed: text such as 'training.steps=10 solver.momentum=deepinv'")
    name = preset or (method if method != "l-dipa" else LOSSES[loss] + ("-r" if regulariser else ""))
    config = presets.resolve(name, profile, seed=seed, overrides=settings.split())
    return run_config(config, Path(out) if out else None, progress=progress)
