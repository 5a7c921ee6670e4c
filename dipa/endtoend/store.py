"""Make end-to-end networks by name; save and load them: safetensors with the record of what made them, no pickle."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from .. import files
from ..checks import InputError, require, require_choice, require_json, require_new_file, require_path
from .base import EndToEnd
from .direct import Restormer, UNet
from .fista_net import FISTANet
from .varnet import VarNet

NETWORKS: dict[str, type[EndToEnd]] = {kind.name: kind for kind in (FISTANet, VarNet, Restormer, UNet)}
KIND = "end-to-end"


def build(name: str, img_size: tuple[int, int, int], **size: Any) -> EndToEnd:
    """The untrained network ``name`` for images ``img_size`` (C, H, W); ``size`` are its class's keyword arguments.

    Raises :class:`InputError` for an unknown name or argument, with the nearest valid ones.
    """
    require_choice("network", name, NETWORKS)
    known = list(inspect.signature(NETWORKS[name]).parameters)[1:]
    for argument in size:
        require_choice("network size", argument, known)
    return NETWORKS[name](img_size, **size)


def save(network: EndToEnd, path: str | Path, record: dict[str, Any] | None = None) -> Path:
    """Write a network and the ``record`` (plain values) of what made it, atomically."""
    path = require_new_file("path", path)
    require(path is not None, "path", path, "the name of a file")
    require(isinstance(network, EndToEnd), "network", type(network).__name__, "a network of dipa.endtoend")
    require_json("record", record)
    return files.write_tensors(path, network.state_dict(), {"kind": KIND, "network": network.header(), "made_by": record or {}})


def load(path: str | Path) -> tuple[EndToEnd, dict[str, Any]]:
    """Read back a network, in evaluation mode, and its record; a missing, damaged or foreign file is refused by name."""
    path = require_path("path", path)
    tensors, header = files.read_tensors(path)
    header = header if isinstance(header, dict) else {}
    require(header.get("kind") == KIND, str(path), header.get("kind"), f"a file of kind {KIND}")
    try:
        network = build(**header["network"])
    except (LookupError, TypeError, InputError) as error:
        raise InputError(f"{path}: names no network that can be made ({error}); write it again") from error
    try:
        network.to(next(iter(tensors.values())).dtype).load_state_dict(tensors)
    except (RuntimeError, TypeError, StopIteration) as error:
        raise InputError(f"{path}: its tensors are not those of the network it names; write it again") from error
    return network.eval(), header.get("made_by", {})
