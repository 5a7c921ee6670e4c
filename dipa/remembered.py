"""What was found out about a module, remembered while its tensors stay as they are."""

from __future__ import annotations

import weakref
from typing import Any, Generic, TypeVar

import torch
from torch import nn

Value = TypeVar("Value")


class Remembered(Generic[Value]):
    """One value for each module, forgotten when the module goes, a tensor of it changes or it is
    asked for another matter.
    """

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[nn.Module, tuple[object, list[Any], Value]]
        self._known = weakref.WeakKeyDictionary()

    def get(self, module: object, about: object) -> Value | None:
        """What is known of a module, as it is now, in this matter; None for nothing."""
        known = self._known.get(module) if isinstance(module, nn.Module) else None
        if known is None or known[0] != about:
            return None
        tensors = _held(module)
        same = (
            reference() is tensor and version == _version(tensor)
            for (reference, version), tensor in zip(known[1], tensors, strict=False)
        )
        return known[2] if len(known[1]) == len(tensors) and all(same) else None

    def put(self, module: object, about: object, value: Value) -> None:
        """Remember a value; what is no module of torch cannot be told from a changed one."""
        if isinstance(module, nn.Module):
            held = [(weakref.ref(tensor), _version(tensor)) for tensor in _held(module)]
            self._known[module] = (about, held, value)


def kind_of(images: torch.Tensor) -> tuple[object, ...]:
    """What tells images apart for an operator: their size, dtype and device."""
    return tuple(images.shape[1:]), images.dtype, images.device


def _held(module: object) -> tuple[torch.Tensor, ...]:
    if not isinstance(module, nn.Module):
        return ()
    plain = [value for part in module.modules() for value in vars(part).values()]
    listed = [part for value in plain if isinstance(value, list) for part in value]  # of a stack
    tensors = [value for value in plain if isinstance(value, torch.Tensor)]
    within = [tensor for part in listed for tensor in _held(part)]
    return (*module.buffers(), *module.parameters(), *tensors, *within)


def _version(tensor: torch.Tensor) -> object:
    """How often a tensor was written to; of one that does not count it, something never equal."""
    return object() if tensor.is_inference() else tensor._version
