"""MNIST from its official archives: 50,000 training images, 10,000 test images, as in both papers."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from ..checks import InputError, require_choice, require_int
from . import places

FILES = {  # split -> (archive, MD5 as listed by torchvision)
    "train": ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "test": ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
}
GET = "run 'dipa data mnist --download', or put the official archives in DIPA_DATA/mnist"
TRAIN_COUNT = 50_000
RESIZES = ("bilinear", "bicubic", "nearest", "pad")


def archive(split: str, download: bool = False) -> Path:
    """The archive of a split: under ``DIPA_DATA/mnist``, else in the cache, where ``download`` puts it.

    Raises :class:`InputError` where it is missing (saying how to get it) or its checksum is wrong.
    """
    name, md5 = FILES[split]
    local = Path(os.environ.get("DIPA_DATA") or ".") / "mnist" / name
    cached = places.cache()
    path = local if "DIPA_DATA" in os.environ and local.is_file() else cached / "MNIST" / "raw" / name
    if not path.is_file() and download:
        _download(cached)
    if not path.is_file():
        raise InputError(f"mnist: {name} not found; {GET}")
    if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != md5:
        raise InputError(f"{path}: MD5 is not {md5} of the official MNIST archive; remove it and fetch it again")
    return path


def digits(split: str, size: int = 32, resize: str = "bilinear", count: int | None = None) -> torch.Tensor:
    """The first ``count`` digits of a split (all for None), (N, 1, size, size) in [0, 1].

    ``pad`` keeps the 28 x 28 pixels and adds a zero border. ``train`` is the first 50,000 of the official training file,
    ``test`` the 10,000 of the test file.
    """
    require_choice("split", split, FILES)
    require_choice("resize", resize, RESIZES)
    require_int("size", size, 28 if resize == "pad" else 8, 1024)
    parts = [_resize(part.float() / 255, size, resize) for part in _raw(split)[:count].split(5000)]
    return torch.cat(parts)


def _raw(split: str) -> torch.Tensor:
    raw = np.frombuffer(gzip.decompress(archive(split).read_bytes()), np.uint8, offset=16)
    return torch.from_numpy(raw.copy()).reshape(-1, 1, 28, 28)[:TRAIN_COUNT]


def _resize(images: torch.Tensor, size: int, resize: str) -> torch.Tensor:
    if resize == "pad":
        low, high = (size - 28) // 2, (size - 28 + 1) // 2
        return functional.pad(images, (low, high, low, high))
    if resize == "nearest":
        return functional.interpolate(images, (size, size), mode="nearest")
    return functional.interpolate(images, (size, size), mode=resize, antialias=True, align_corners=False).clamp(0, 1)


def length(split: str) -> int:
    """How many digits of a split are here."""
    return len(_raw(split))


def download() -> None:
    """Fetch MNIST through torchvision into the cache, where it is not here yet."""
    for split in FILES:
        archive(split, download=True)


def _download(cached: Path) -> None:
    from torchvision.datasets import MNIST

    try:
        MNIST(cached, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"mnist: download failed ({error}); put the archives in DIPA_DATA/mnist") from error
