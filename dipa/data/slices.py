"""MR slices from the user's files: the fastMRI knee file of deepinv (.pt) and archives of slices (.npz)."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch

from ..checks import InputError, require
from . import places
from .pixels import normalised, pad_square, resized, with_channels
from .splits import blocks, by_patient, shuffled

FASTMRI_FRACTION = 0.925  # 900 train and 73 test of the 973 slices in the papers
FASTMRI_GET = "put fastmri_knee_singlecoil.pt (fastMRI data use agreement) in DIPA_DATA/fastmri, or give its path as file"
NPZ_GAP = 2  # slices left out between the splits where patients are not known
NPZ_GET = "put a .npz with key 'images' (N, H, W), optional 'patient' (N), in DIPA_DATA/mri, and give its name or path as file"
CHUNK = 64  # slices handled at once


def fastmri(file: str = "") -> torch.Tensor:
    """The slices (N, H, W) of a .pt file, real or complex, as they are in it; read without unpickling objects.

    Made for deepinv's ``fastmri_knee_singlecoil.pt``: 973 slices, 320 x 320, in [0, 1] (F. Knoll et al., Radiol. Artif.
    Intell. 2(1), 2020).

    Raises:
        InputError: no such file, not a tensor file or a damaged one, or another shape.
    """
    path = places.chosen("fastmri", "fastmri", "*.pt", file, FASTMRI_GET)
    try:
        _whole(path)
        slices = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a file of tensors written by torch.save ({type(error).__name__})") from error
    require(isinstance(slices, torch.Tensor), f"{path}: content", type(slices).__name__, "one tensor of shape (N, H, W)")
    return _checked(f"{path}: tensor", slices)


def _whole(path: Path) -> None:
    """Refuse an archive with a changed byte: its own checksums say so, but torch does not look at them."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(damaged)


def fastmri_indices(count: int, split: str) -> list[int]:
    """Indices of a split in the file's order: train the first 92.5 percent (900 of 973), test the rest."""
    return list(blocks("fastmri", count, split, gap=0, fraction=FASTMRI_FRACTION))


def npz(file: str = "") -> tuple[torch.Tensor, np.ndarray | None]:
    """The slices (N, H, W) of an archive, real or complex, and the patient of each, None where it does not say.

    Raises:
        InputError: no such file, not an archive of plain arrays, no ``images``, or another shape.
    """
    path = places.chosen("mri-npz", "mri", "*.npz", file, NPZ_GET)
    try:
        with np.load(path, allow_pickle=False) as archive:
            require("images" in archive, f"{path}: keys", ", ".join(archive), "'images' and optionally 'patient'")
            arrays = archive["images"], archive.get("patient")
    except InputError:
        raise
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a .npz of plain arrays ({error})".replace("\n", " ")) from error
    images, patients = arrays
    require(images.dtype.kind in "uifc", f"{path}: images.dtype", str(images.dtype), "integers, real or complex numbers")
    whole = _checked(f"{path}: images", torch.from_numpy(images.astype(np.complex64 if images.dtype.kind == "c" else np.float32)))
    shape = None if patients is None else patients.shape
    require(shape in (None, whole.shape[:1]), f"{path}: patient.shape", shape, f"({len(whole)},), one for each slice")
    return whole, patients


def npz_indices(count: int, patients: np.ndarray | None, split: str) -> list[int]:
    """Indices of a split of ``count`` slices in a fixed shuffled order.

    By patient where ``patients`` says whose each slice is, else by position with a gap of two slices: then nothing rules
    out that slices of one patient are in both splits.
    """
    part = blocks("mri-npz", count, split, gap=NPZ_GAP) if patients is None else by_patient("mri-npz", patients, split)
    return shuffled(part, "mri-npz", split)


def images(slices: torch.Tensor, size: int, channels: int, *, normalise: bool = True) -> torch.Tensor:
    """Slices (N, H, W), real and non-negative or complex, as images (N, channels, size, size).

    Each is divided by its 99.5th percentile (:func:`dipa.data.pixels.normalised`; not with ``normalise=False``), padded
    with zeros to a square, so that nothing is cut, and resized with antialias. channels=1: magnitudes in [0, 1], taken
    before the resizing; channels=2: real and imaginary part, of magnitude at most 1.
    """
    return torch.cat([_images(normalised(part) if normalise else part, size, channels) for part in slices.split(CHUNK)])


def _images(slices: torch.Tensor, size: int, channels: int) -> torch.Tensor:
    return resized(with_channels(pad_square(slices)[:, None], channels), size)


def _checked(name: str, slices: torch.Tensor) -> torch.Tensor:
    require(slices.ndim == 3 and slices.numel() > 0, f"{name}.shape", tuple(slices.shape), "(N, H, W)")
    slices = slices if slices.is_complex() else slices.float()
    require(bool(torch.isfinite(slices).all()), name, "NaN or infinite values", "finite values")
    signed = not slices.is_complex() and bool(slices.min() < 0)
    require(not signed, name, "negative values", "magnitudes, or complex numbers")
    return slices
