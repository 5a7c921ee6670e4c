"""A device that is not the processor, on machines without a GPU: tensors that say they are on
``pretended:0``.

They hold their numbers on the processor, where every operation is done on them; but as on a GPU an
operation refuses tensors of two devices, their numbers cannot be had as an array, and no generator
of the processor draws on them. What is left behind on the processor therefore fails as it would
there. Asked to be ``limited``, the device has no float64 either and none of a few operations, as
mps. Speed, memory and last digits of a GPU are not imitated.
"""

import contextlib

import torch
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_map

from dipa import device

KIND = "pretended"
# operations that take tensors of two devices on a GPU too: copies between them, and indices from
# the processor
BETWEEN = {
    "aten::_to_copy",
    "aten::copy_",
    "aten::index",
    "aten::index_put_",
    "aten::index_put",
    "aten::_index_put_impl_",
}
# what mps has not, on the pretended device too while ``limited`` holds its name
DOUBLE = (torch.float64, torch.complex128)
NOT_ON_MPS = {"aten::frexp", "aten::linalg_eig", "aten::_linalg_eigvals", "aten::kthvalue"}
limited: set[str] = set()


class Elsewhere(torch.Tensor):
    """A tensor on the pretended device; ``numbers`` is what it holds."""

    @staticmethod
    def __new__(cls, numbers: torch.Tensor):
        options = {
            "strides": numbers.stride(),
            "storage_offset": numbers.storage_offset(),
            "layout": numbers.layout,
        }
        made = torch.Tensor._make_wrapper_subclass(
            cls, numbers.size(), dtype=numbers.dtype, device=f"{KIND}:0", **options
        )
        made.numbers = numbers
        return made

    def tolist(self):
        return self.cpu().tolist()

    def __repr__(self):
        return f"Elsewhere({self.numbers!r})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _there(function, args, kwargs or {})


def _numbers(value):
    return value.numbers if isinstance(value, Elsewhere) else value


def _wrapped(value):
    return (
        Elsewhere(value)
        if isinstance(value, torch.Tensor) and not isinstance(value, Elsewhere)
        else value
    )


def _tensors(values):
    found = []
    tree_map(lambda value: found.append(value) if isinstance(value, torch.Tensor) else None, values)
    return found


def _there(function, args, kwargs):
    """An operation of which a tensor or the wanted device is the pretended one."""
    name, held = function._schema.name, _tensors((args, kwargs))
    theirs = [tensor for tensor in held if isinstance(tensor, Elsewhere)]
    left = [tensor for tensor in held if not isinstance(tensor, Elsewhere) and tensor.ndim > 0]
    if theirs and left and name not in BETWEEN:
        raise RuntimeError(
            f"{name}: tensors on {KIND}:0 and on the processor, {tuple(left[0].shape)}"
        )
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"{name}: a generator of the processor draws on {KIND}:0")
    wanted = kwargs.get("device") or (theirs[0].device if theirs else "cpu")
    if limited and theirs and name in NOT_ON_MPS:
        raise NotImplementedError(f"{name}: not on a limited device")
    plain = {
        key: torch.device("cpu") if key == "device" else _numbers(value)
        for key, value in kwargs.items()
    }
    out = function(*tree_map(_numbers, args), **plain)
    if name == "aten::copy_":
        return args[0]
    if torch.device(wanted).type != KIND or not isinstance(out, (torch.Tensor, tuple, list)):
        return out
    if limited and any(tensor.dtype in DOUBLE for tensor in _tensors(out)):
        raise TypeError(f"{name}: no float64 on a limited device")
    return return_and_correct_aliasing(function, args, kwargs, tree_map(_wrapped, out))


class _Intercepted(TorchDispatchMode):
    """Sees what makes tensors on the pretended device, or moves them there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == KIND
        there = there or any(isinstance(tensor, Elsewhere) for tensor in _tensors((args, kwargs)))
        return _there(function, args, kwargs) if there else function(*args, **kwargs)


class _Module(backend_registration._DummyBackendModule):
    """What torch asks of a kind of device; this one computes in half precision too."""

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


# once, and before the first backward pass of the process: torch then counts the kinds of devices
backend_registration._setup_privateuseone_for_python_backend(KIND, _Module())


@contextlib.contextmanager
def pretended(monkeypatch, like_mps=False):
    """A stretch in which torch knows the pretended device, and ``dipa.device.choose`` chooses it
    whatever it is asked.

    ``like_mps`` makes it a limited one.
    """
    monkeypatch.setattr(device, "choose", lambda asked="auto": torch.device(KIND, 0))
    monkeypatch.setattr(device, "LIMITED", limited)
    limited.update({KIND} if like_mps else ())
    monkeypatch.setattr(device, "describe", lambda chosen: {"device": f"{chosen.type} device"})
    # as between types of tensors, not in place
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _Intercepted():
            yield torch.device(KIND, 0)
    finally:
        limited.clear()
        torch.__future__.set_overwrite_module_params_on_conversion(False)


@contextlib.contextmanager
def _gpu(monkeypatch, like_mps=False):
    with device.rounding(False):
        yield torch.device("cuda", 0)


# a device that is not the processor: the pretended one, and a GPU where there is one
PLACES = {KIND: pretended} | ({"cuda": _gpu} if torch.cuda.is_available() else {})
