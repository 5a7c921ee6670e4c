"""Make end-to-end networks by name; save and load them: safetensors with the record of what made them, no pickle."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from .. import storage
from ..checks import InputError, require, require_choice, require_json, require_new_file, require_path, shorter
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
    storage.require_weights("network", network.state_dict())
    return storage.write_tensors(path, network.state_dict(), {"kind": KIND, "network": network.header(), "made_by": record or {}})


def load(path: str | Path) -> tuple[EndToEnd, dict[str, Any]]:
    """Read back a network, in evaluation mode, and its record.

    Raises :class:`InputError` by name for a missing, damaged or foreign file, and for one whose tensors are not finite or
    not exactly those (names, shapes, dtypes) of the network its header describes.
    """
    path = require_path("path", path)
    tensors, header = storage.read_weights(path)
    require(header.get("kind") == KIND, f"{path}: kind", header.get("kind"), KIND)
    record = header.get("made_by", {})
    require(isinstance(record, dict), f"{path}: made_by", record, "a record of what made it")
    try:
        network = _rebuilt(header["network"], tensors)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {shorter(str(error))}"
        raise InputError(f"{path}: a damaged network, or none that can be made ({reason}); write it again") from error
    return network.eval(), record


def _rebuilt(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> EndToEnd:
    """The network of a header, once its tensors fit: sizes are compared on ``meta``, where a network takes no memory."""
    with torch.device("meta"):
        promised = build(**header).state_dict()
    storage.require_same_sizes(promised, tensors)
    network = build(**header).to(next(iter(tensors.values())).dtype)
    network.load_state_dict(tensors)
    storage.require_same_dtypes(network.state_dict(), tensors)
    return network
