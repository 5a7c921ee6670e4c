"""MNIST from its official archives: 50,000 training images, 10,000 test images, as in both
papers.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from ..checks import InputError, require_choice, require_int, shorter
from ..choices import RESIZES
from ..paths import cache_directory, data_folder

# split -> (file, SHA-256 of it unpacked; the archives are those whose MD5 torchvision lists)
FILES = {
    "train": (
        "train-images-idx3-ubyte",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "test": (
        "t10k-images-idx3-ubyte",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
}
GET = (
    "run 'dipa data mnist --download', or put the official archives, packed or not, in "
    "DIPA_DATA/mnist"
)
TRAIN_COUNT = 50_000
HEADER = 16  # bytes before the pixels
LARGEST = HEADER + 60_000 * 28 * 28  # bytes of the larger file
RAW = "MNIST/raw"  # where torchvision puts the files, inside its root


def find(name: str) -> Path:
    """An official file, packed (.gz) or not: in ``DIPA_DATA/mnist``, there or beside it as
    torchvision lays it out, or cached.

    Raises :class:`InputError` where it is in none of them, saying how to get it.
    """
    mine = [data_folder(name) for name in ("mnist", f"mnist/{RAW}", RAW)]
    searched = [folder for folder in mine if folder] + [cache_directory() / RAW]
    paths = [
        path
        for folder in searched
        for path in (folder / f"{name}.gz", folder / name)
        if path.is_file()
    ]
    if not paths:
        raise InputError(f"mnist: {name}.gz not found; {GET}")
    return paths[0]


def content(split: str) -> bytes:
    """The bytes of a split's file, unpacked; anything but the official content is refused by
    the file's name.
    """
    name, sha256 = FILES[split]
    path = find(name)
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as handle:
            unpacked = handle.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: damaged ({shorter(str(error))}); remove it and fetch it again"
        ) from error
    if hashlib.sha256(unpacked).hexdigest() != sha256:
        raise InputError(
            f"{path}: unpacked, its SHA-256 is not that of the official MNIST file; remove "
            f"it and fetch it again"
        )
    return unpacked


def digits(
    split: str, size: int = 32, resize: str = "bilinear", count: int | None = None
) -> torch.Tensor:
    """The first ``count`` digits of a split (all for None), (N, 1, size, size) in [0, 1].

    ``pad`` keeps the 28 x 28 pixels and adds a zero border. ``train`` is the first 50,000 of the
    official training file, ``test`` the 10,000 of the test file.
    """
    require_choice("split", split, FILES)
    require_choice("resize", resize, RESIZES)
    require_int("size", size, 28 if resize == "pad" else 8, 1024)
    parts = [_resize(part.float() / 255, size, resize) for part in _raw(split)[:count].split(5000)]
    return torch.cat(parts)


def _raw(split: str) -> torch.Tensor:
    raw = np.frombuffer(content(split), np.uint8, offset=HEADER)
    return torch.from_numpy(raw.copy()).reshape(-1, 1, 28, 28)[:TRAIN_COUNT]


def _resize(images: torch.Tensor, size: int, resize: str) -> torch.Tensor:
    if resize == "pad":
        low, high = (size - 28) // 2, (size - 28 + 1) // 2
        return functional.pad(images, (low, high, low, high))
    if resize == "nearest":
        return functional.interpolate(images, (size, size), mode="nearest")
    return functional.interpolate(
        images, (size, size), mode=resize, antialias=True, align_corners=False
    ).clamp(0, 1)


def length(split: str) -> int:
    """How many digits of a split are here."""
    return len(_raw(split))


def download() -> None:
    """Fetch MNIST through torchvision into the cache, where it is not here yet."""
    from torchvision.datasets import MNIST

    try:
        for name, _ in FILES.values():
            find(name)
    except InputError:
        try:
            MNIST(cache_directory(), download=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"mnist: download failed ({error}); put the archives in DIPA_DATA/mnist"
            ) from error
    for split in FILES:
        content(split)
