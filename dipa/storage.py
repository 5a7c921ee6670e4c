"""Tensors and modules in safetensors files: written atomically without pickle, refused where
they are damaged; hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import nn

from . import files
from .checks import InputError, require, require_file
from .files import parse_json

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_HEADER = 16 << 20  # bytes of a safetensors header: ours have kilobytes
WEIGHTS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # dtypes of trained numbers
# of indices and masks
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def write_tensors(
    path: str | Path, tensors: dict[str, torch.Tensor], record: dict[str, Any]
) -> Path:
    """Write tensors as safetensors with a JSON ``record`` in the header and a checksum of both,
    atomically. No pickle.

    The same content gives the same bytes.
    """
    whole = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    text = json.dumps(record | {"sha256": _checksum(whole, record)}, sort_keys=True)
    return files.write_bytes(path, to_bytes(whole, metadata={"record": text}))


def _checksum(tensors: dict[str, torch.Tensor], record: dict[str, Any]) -> str:
    return files.sha256_json([sha256_tensors(tensors), record])


def read_tensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read what :func:`write_tensors` wrote; a missing, damaged (one bit is enough) or foreign
    file is refused by name.
    """
    require_file("file", Path(path), "check the path")
    try:
        _require_header(Path(path))
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        record = parse_json(metadata["record"], "record")
        # files before 0.3.0 have none
        if record.pop("sha256", None) not in (None, _checksum(tensors, record)):
            raise ValueError("checksum")
        return tensors, record
    # RuntimeError: shapes that torch cannot count, MemoryError: numbers that the file does not hold
    except (
        SafetensorError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
        MemoryError,
        OSError,
    ) as error:
        raise InputError(
            f"{path}: not a file written by dipa, or damaged ({type(error).__name__}); "
            f"write it again"
        ) from error


def _require_header(path: Path) -> None:
    """Refuse a header that names a tensor or an entry twice, which safetensors itself reads as
    the last of them.
    """
    with open(path, "rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > min(MOST_HEADER, path.stat().st_size):
            raise ValueError("length of the header")
        parse_json(handle.read(length).decode("utf-8"), "header")


def read_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """:func:`read_tensors` for trained numbers: NaN, infinite and complex ones, and those of 8
    bits, are refused by name.
    """
    tensors, record = read_tensors(path)
    require_weights(str(path), tensors)
    return tensors, record


def require_weights(name: str, tensors: dict[str, torch.Tensor]) -> None:
    """Refuse tensors that no network can be made of: another dtype, NaN or infinite numbers."""
    for key, tensor in tensors.items():
        require(
            tensor.dtype in WEIGHTS + WHOLE,
            f"{name}: {key}.dtype",
            tensor.dtype,
            "real numbers of at least 16 bits, or integers",
        )
        require(
            bool(torch.isfinite(tensor).all()),
            f"{name}: {key}",
            "NaN or infinite values",
            "finite values",
        )


def require_same_sizes(promised: dict[str, torch.Tensor], read: dict[str, torch.Tensor]) -> None:
    """Refuse tensors read from a file unless their names and shapes are those of the module its
    header describes.
    """
    _require_same(promised, read, lambda tensor: tuple(tensor.shape))


def require_same_dtypes(loaded: dict[str, torch.Tensor], read: dict[str, torch.Tensor]) -> None:
    """Refuse tensors read from a file unless the module made of them took each as it is: torch
    casts without a word.
    """
    _require_same(loaded, read, lambda tensor: tensor.dtype)


def _require_same(
    described: dict[str, torch.Tensor],
    read: dict[str, torch.Tensor],
    value: Callable[[torch.Tensor], object],
) -> None:
    expected, stored = (
        {name: value(tensor) for name, tensor in tensors.items()} for tensors in (described, read)
    )
    for name in sorted(expected.keys() | stored.keys()):
        got, allowed = (part.get(name, "no such tensor") for part in (stored, expected))
        require(got == allowed, name, got, f"{allowed}, as the header says")


def sha256_tensors(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of named tensors: names, dtypes, shapes and bytes, in name order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().resolve_conj()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        plain = tensor.reshape(-1).clone(memory_format=torch.contiguous_format)
        digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


# --- modules --------------------------------------------------------------------------------------

KINDS: dict[str, type[Trained]] = {}  # every class a file can hold, by the name files know it by


class Trained(nn.Module):
    """A module that files can hold: ``header()`` and ``state_dict()`` are all it takes to rebuild
    one.

    A class that names its ``kind`` can be saved and loaded (:mod:`dipa.trained`).
    """

    kind: str = ""

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if cls.__dict__.get("kind"):
            KINDS[cls.kind] = cls

    @property
    def parameter_count(self) -> int:
        """Number of trainable numbers."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def header(self) -> dict[str, Any]:
        """Plain values which with ``state_dict()`` rebuild this module: by default the
        constructor's arguments.
        """
        raise TypeError(f"{type(self).__name__} does not define header")

    @classmethod
    def rebuild(cls, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Self:
        """The inverse of ``header()`` and ``state_dict()``, in the dtype of the tensors; strict
        about names and shapes.

        The header's sizes are compared on the device ``meta`` first, where a module takes no
        memory: a header is a promise.
        """
        with torch.device("meta"):
            promised = cls(**header).state_dict()
        require_same_sizes(promised, tensors)
        module = cls(**header)
        dtype = next(
            (tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), None
        )
        module.to(dtype=dtype).load_state_dict(tensors)
        return module
