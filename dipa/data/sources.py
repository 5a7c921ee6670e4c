"""The data sets by name: what each is, how to get it, how to read it; images of one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from .. import storage
from ..checks import (
    InputError,
    plain_value,
    require,
    require_choice,
    require_int,
    require_path,
)
from ..choices import DATASETS, RESIZES
from ..paths import data_files
from . import embedded, embedded_mri, mnist, pictures, slices
from .pixels import with_channels

MAX_SIZE = 1024
SPLITS = ("train", "test")


@dataclass(frozen=True)
class ImageSet:
    """Images (N, C, H, W) in [0, 1], of two channels in the unit disc, with where they come
    from and their SHA-256.
    """

    images: torch.Tensor
    name: str
    split: str

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the images."""
        return storage.sha256_tensors({"images": self.images})

    def take(self, count: int) -> torch.Tensor:
        """The first ``count`` images; more than there are is refused."""
        count = require_int("count", count, 1)
        if count > len(self.images):
            have = f"at most the {len(self.images)} images of {self.name} {self.split}"
            raise InputError(f"count: got {count}; allowed: {have} at size {self.images.shape[-1]}")
        return self.images[:count]


@dataclass(frozen=True)
class Request:
    """Which images are asked for: those of :func:`dipa.data.load`."""

    split: str
    size: int = 32
    count: int | None = None
    channels: int = 1
    resize: str = "bilinear"
    file: str = ""


@dataclass(frozen=True)
class Source:
    """A data set.

    Attributes:
        about: what it is, in one line.
        get: how to get it, in one line.
        read: the first ``count`` images of a request, or all where that costs nothing, (N, C, size,
            size).
        length: how many images a split has at 32 x 32, given the split and ``file``.
        channels: allowed numbers of channels.
        pattern: ``DIPA_DATA`` subfolder and file pattern of a data set that takes ``file``.
        download: fetches it into the cache; None where it must be put in ``DIPA_DATA`` by hand.
    """

    about: str
    get: str
    read: Callable[[Request], torch.Tensor]
    length: Callable[[str, str], int]
    channels: tuple[int, ...] = (1, 2)
    pattern: tuple[str, str] | None = None
    download: Callable[[], None] | None = None

    def images(self, request: Request) -> torch.Tensor:
        """The images of a request with the channels asked for, all arguments checked."""
        require(
            request.channels in self.channels,
            "channels",
            request.channels,
            " or ".join(map(str, self.channels)),
        )
        require(
            self.pattern is not None or not request.file,
            "file",
            request.file,
            "none for this data set",
        )
        return with_channels(self.read(request), request.channels)


def _pictures(
    function: Callable[[str], list[pictures.Picture]], about: str, get: str, **more
) -> Source:
    def read(request: Request) -> torch.Tensor:
        require_int("size", request.size, 8, MAX_SIZE)
        return pictures.stack(
            function(request.split), request.size, request.channels, request.count
        )

    return Source(about, get, read, lambda split, file: len(function(split)), (1, 2, 3), **more)


def _embedded(request: Request) -> torch.Tensor:
    channels = 3 if request.channels == 3 else 1
    return embedded.patches(request.split, request.size, channels=channels)


def _fastmri(request: Request) -> torch.Tensor:
    require_int("size", request.size, 8, MAX_SIZE)
    whole = slices.fastmri(request.file)
    part = whole[slices.fastmri_indices(len(whole), request.split)[: request.count]]
    scaled = not whole.is_complex() and float(whole.max()) <= 1
    return slices.images(part, request.size, request.channels, normalise=not scaled)


def _npz(request: Request) -> torch.Tensor:
    require_int("size", request.size, 8, MAX_SIZE)
    whole, patients = slices.npz(request.file)
    part = slices.npz_indices(len(whole), patients, request.split)[: request.count]
    return slices.images(whole[part], request.size, request.channels)


def _npz_length(split: str, file: str) -> int:
    whole, patients = slices.npz(file)
    return len(slices.npz_indices(len(whole), patients, split))


SOURCES = {
    "embedded": Source(
        "patches of eight photographs, split by photograph (five in colour), size 8 to 128",
        "comes with scikit-image",
        _embedded,
        lambda split, file: len(embedded.patches(split)),
        (1, 2, 3),
    ),
    "embedded-mri": Source(
        "axial MR slices of one head and windows of them, split by slice with a gap, size 8 to 96",
        "comes with nibabel",
        lambda request: embedded_mri.images(request.split, request.size),
        lambda split, file: len(embedded_mri.images(split, 32)),
    ),
    "mnist": Source(
        "handwritten digits, 28 x 28",
        mnist.GET,
        lambda request: mnist.digits(request.split, request.size, request.resize, request.count),
        lambda split, file: mnist.length(split),
        download=mnist.download,
    ),
    "bsds500": _pictures(
        pictures.bsds500,
        "400 and 100 photographs, the centre square resized",
        pictures.BSDS500_GET,
        download=pictures.download_bsds500,
    ),
    "celeba": _pictures(
        pictures.celeba,
        "aligned faces, the centre square resized, official split",
        pictures.CELEBA_GET,
    ),
    "faces": _pictures(
        pictures.faces,
        "faces from a tar, the centre square resized, split by position",
        pictures.FACES_GET,
    ),
    "fastmri": Source(
        "knee slices from one .pt file (N, H, W)",
        slices.FASTMRI_GET,
        _fastmri,
        lambda split, file: len(slices.fastmri_indices(len(slices.fastmri(file)), split)),
        pattern=("fastmri", "*.pt"),
    ),
    "mri-npz": Source(
        "your MR slices, split by patient where known",
        slices.NPZ_GET,
        _npz,
        _npz_length,
        pattern=("mri", "*.npz"),
    ),
}


def load(
    name: str,
    split: str,
    *,
    size: int = 32,
    count: int | None = None,
    resize: str = "bilinear",
    channels: int = 1,
    file: str = "",
) -> ImageSet:
    """The first ``count`` images (all for None) of a split of a data set: (count, channels, size,
    size), float32.

    No data set needs the network; those that are not here are refused with what to put where. Train
    and test never share a photograph, a digit or, where the data say who is who, a person.

    Args:
        name: ``embedded`` (photographs inside scikit-image) and ``embedded-mri`` (slices inside
            nibabel, :mod:`dipa.data.embedded_mri`) are always here; ``mnist``
            (:mod:`dipa.data.mnist`), ``bsds500``, ``celeba``, ``faces``
            (:mod:`dipa.data.pictures`), ``fastmri``, ``mri-npz`` (:mod:`dipa.data.slices`) are read
            from ``DIPA_DATA``. 'dipa data' lists them with how to get them.
        split: ``train`` or ``test``.
        size: side in pixels.
        count: how many; more than there are is refused. Only so many pictures are decoded.
        resize: how digits get from 28 x 28 to ``size`` (MNIST only; all others are resized with
            antialias).
        channels: 1 (grey or magnitude, in [0, 1]), 2 (real and imaginary part; zero imaginary part
            for what is real), 3 (RGB, photographs and faces).
        file: ``fastmri`` and ``mri-npz``: a path, or a name in ``DIPA_DATA/fastmri`` or
            ``DIPA_DATA/mri``; may be empty where there is only one.

    Raises:
        InputError: an argument out of range, data not here (with how to get them) or damaged.
    """
    require_choice("dataset", name, DATASETS)
    require_choice("split", split, SPLITS)
    channels, size = require_int("channels", channels, 1, 3), plain_value(size)
    require_choice("resize", resize, RESIZES)
    require_path("file", file)
    if count is not None:
        count = require_int("count", count, 1)
    images = SOURCES[name].images(Request(split, size, count, channels, resize, file))
    whole = ImageSet(images, name, split)
    return whole if count is None else ImageSet(whole.take(count).contiguous(), name, split)


def folder(
    path: str | Path, *, size: int = 32, count: int | None = None, channels: int = 1
) -> ImageSet:
    """The first ``count`` pictures (all for None) of one's own folder, by name: the centre square
    of each resized, (count, channels, size, size); their split is ``all``.

    Args:
        path: the folder; those below it count.
        size: side in pixels.
        count: how many; more than there are is refused.
        channels: as for :func:`load`.

    Raises:
        InputError: an argument out of range, no pictures, one that is damaged.
    """
    path, channels = require_path("folder", path), require_int("channels", channels, 1, 3)
    size = require_int("size", size, 8, MAX_SIZE)
    if count is not None:
        count = require_int("count", count, 1)
    files = pictures.in_folder(path)
    images = with_channels(pictures.stack(files, size, channels, count), channels)
    whole = ImageSet(images, path.name, "all")
    return whole if count is None else ImageSet(whole.take(count).contiguous(), path.name, "all")


def lengths(name: str, file: str = "") -> dict[str, int]:
    """How many images each split of a data set has (patches: at 32 x 32); :class:`InputError`
    where it is not here.
    """
    require_choice("dataset", name, DATASETS)
    return {split: SOURCES[name].length(split, file) for split in SPLITS}


def here(name: str) -> list[str]:
    """The names that ``file`` may have for a data set in ``DIPA_DATA``; one empty name where it
    takes none or has none.
    """
    require_choice("dataset", name, DATASETS)
    pattern = SOURCES[name].pattern
    return (
        [path.name for path in data_files(*pattern)] if pattern and data_files(*pattern) else [""]
    )


def downloads() -> list[str]:
    """The data sets that :func:`download` can fetch."""
    return [name for name, source in SOURCES.items() if source.download]


def download(name: str) -> None:
    """Fetch a data set from its public source into the cache; refused where it can only be put
    there by hand.
    """
    require_choice("dataset", name, DATASETS)
    fetch = SOURCES[name].download
    if fetch is None:
        raise InputError(f"{name}: no download; {SOURCES[name].get}")
    fetch()
