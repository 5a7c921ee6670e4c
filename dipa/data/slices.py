"""MR slices from the user's files: the fastMRI knee file of deepinv (.pt) and archives of
slices (.npz).
"""

from __future__ import annotations

import functools
import lzma
import math
import pickle
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch

from ..checks import InputError, require, require_tensor, shorter
from ..paths import data_file
from .pixels import normalised, pad_square, resized, with_channels
from .splits import blocks, by_patient, shuffled

FASTMRI_FRACTION = 0.925  # 900 train and 73 test of the 973 slices in the papers
FASTMRI_GET = (
    "put fastmri_knee_singlecoil.pt (fastMRI data use agreement) in DIPA_DATA/fastmri, or give "
    "its path as file"
)
NPZ_GAP = 2  # slices left out between the splits where patients are not known
NPZ_GET = (
    "put a .npz with key 'images' (N, H, W), optional 'patient' (N), in DIPA_DATA/mri, and "
    "give its name or path as file"
)
CHUNK = 64  # slices handled at once
MOST_NUMBERS = 2**30  # in one file: four gigabytes as float32
# what numpy, zipfile and torch raise on files that are damaged, foreign or hold code
DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    MemoryError,
    EOFError,
    SyntaxError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def fastmri(file: str = "") -> torch.Tensor:
    """The slices (N, H, W) of a .pt file, real or complex, as they are in it; read without
    unpickling objects.

    Made for deepinv's ``fastmri_knee_singlecoil.pt``: 973 slices, 320 x 320, in [0, 1] (F. Knoll et
    al., Radiol. Artif. Intell. 2(1), 2020).

    Raises:
        InputError: no such file, not a tensor file or a damaged one, or another shape.
    """
    path = data_file("fastmri", "fastmri", "*.pt", file, FASTMRI_GET)
    try:
        _require_whole(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about storages of old files
            slices = torch.load(path, weights_only=True, map_location="cpu")
    except DAMAGED as error:
        raise InputError(
            f"{path}: not a file of tensors written by torch.save ({type(error).__name__})"
        ) from error
    name, allowed = f"{path}: tensor", "one dense tensor of shape (N, H, W)"
    require_tensor(name, slices, allowed)
    require(
        not slices.is_quantized and slices.dtype != torch.complex32,
        f"{name}.dtype",
        slices.dtype,
        "plain real or complex numbers",
    )
    return _checked(name, slices.detach())


def _require_whole(path: Path) -> None:
    """Refuse an archive with a changed byte or with more in it than its file: torch looks at
    neither checksums nor sizes.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # torch.save compresses nothing
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise zipfile.BadZipFile("sizes")
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)


def fastmri_indices(count: int, split: str) -> list[int]:
    """Indices of a split in the file's order: train the first 92.5 percent (900 of 973), test
    the rest.
    """
    return list(blocks("fastmri", count, split, gap=0, fraction=FASTMRI_FRACTION))


def npz(file: str = "") -> tuple[torch.Tensor, np.ndarray | None]:
    """The slices (N, H, W) of an archive, real or complex, and the patient of each, None where it
    does not say.

    Raises:
        InputError: no such file, not an archive of plain arrays, no ``images``, or another shape.
    """
    path = data_file("mri-npz", "mri", "*.npz", file, NPZ_GET)
    try:
        with warnings.catch_warnings(), zipfile.ZipFile(path) as archive:
            warnings.simplefilter("ignore")  # of numpy, about headers of Python 2
            arrays = {
                name.removesuffix(".npy"): functools.partial(_array, archive, name)
                for name in archive.namelist()
            }
            require(
                len(arrays) == len(archive.namelist()),
                f"{path}: keys",
                ", ".join(arrays),
                "every key once",
            )
            require(
                "images" in arrays,
                f"{path}: keys",
                ", ".join(arrays),
                "'images' and optionally 'patient'",
            )
            images, patients = (
                arrays["images"](),
                arrays["patient"]() if "patient" in arrays else None,
            )
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            f"{path}: not a .npz of plain arrays ({shorter(str(error)) or type(error).__name__})"
        ) from error
    require(
        images.dtype.kind in "uifc",
        f"{path}: images.dtype",
        str(images.dtype),
        "integers, real or complex numbers",
    )
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
        plain = images.astype(np.complex64 if images.dtype.kind == "c" else np.float32)
    whole = _checked(f"{path}: images", torch.from_numpy(plain))
    if patients is not None:
        known = patients.dtype.kind in "uiUS" or (
            patients.dtype.kind == "f" and bool(np.isfinite(patients).all())
        )
        require(
            known,
            f"{path}: patient",
            f"{patients.dtype}, or NaN",
            "a number or a text for each slice",
        )
        require(
            patients.shape == whole.shape[:1],
            f"{path}: patient.shape",
            patients.shape,
            f"({len(whole)},), one for each slice",
        )
    return whole, patients


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """One array of an .npz, once its header is seen to promise what the archive holds, and no
    more than ``MOST_NUMBERS``.
    """
    with archive.open(name) as entry:
        version = np.lib.format.read_magic(entry)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(entry)
        count, size = math.prod(shape), archive.getinfo(name).file_size - entry.tell()
    if (
        dtype.hasobject
        or min(shape, default=0) < 0
        or count > MOST_NUMBERS
        or count * dtype.itemsize != size
    ):
        raise ValueError(f"{name}: shape {shape} of {dtype} in {size:,} bytes")
    with archive.open(name) as entry:
        return np.lib.format.read_array(entry, allow_pickle=False)


def npz_indices(count: int, patients: np.ndarray | None, split: str) -> list[int]:
    """Indices of a split of ``count`` slices in a fixed shuffled order.

    By patient where ``patients`` says whose each slice is, else by position with a gap of two
    slices: then nothing rules out that slices of one patient are in both splits.
    """
    part = (
        blocks("mri-npz", count, split, gap=NPZ_GAP)
        if patients is None
        else by_patient("mri-npz", patients, split)
    )
    return shuffled(part, "mri-npz", split)


def images(
    slices: torch.Tensor, size: int, channels: int, *, normalise: bool = True
) -> torch.Tensor:
    """Slices (N, H, W), real and non-negative or complex, as images (N, channels, size, size).

    Each is divided by its 99.5th percentile (:func:`dipa.data.pixels.normalised`; not with
    ``normalise=False``), padded with zeros to a square, so that nothing is cut, and resized with
    antialias. channels=1: magnitudes in [0, 1], taken before the resizing; channels=2: real and
    imaginary part, of magnitude at most 1.
    """
    return torch.cat(
        [
            _images(normalised(part) if normalise else part, size, channels)
            for part in slices.split(CHUNK)
        ]
    )


def _images(slices: torch.Tensor, size: int, channels: int) -> torch.Tensor:
    return resized(with_channels(pad_square(slices)[:, None], channels), size)


def _checked(name: str, slices: torch.Tensor) -> torch.Tensor:
    shaped = slices.ndim == 3 and 0 < slices.numel() <= MOST_NUMBERS
    require(
        shaped, f"{name}.shape", tuple(slices.shape), f"(N, H, W), at most {MOST_NUMBERS:,} numbers"
    )
    slices = slices if slices.is_complex() else slices.float()
    require(bool(torch.isfinite(slices).all()), name, "NaN or infinite values", "finite values")
    signed = not slices.is_complex() and bool(slices.min() < 0)
    require(not signed, name, "negative values", "magnitudes, or complex numbers")
    return slices
