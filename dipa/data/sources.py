"""The data sets by name: what each is, how to get it, how to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..checks import require, require_int
from . import embedded, embedded_mri, mnist, pictures, slices
from .pixels import with_channels

MAX_SIZE = 1024


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
        "patches of eight photographs, grey, split by photograph, size 8 to 128",
        "comes with scikit-image",
        lambda request: embedded.patches(request.split, request.size),
        lambda split, file: len(embedded.patches(split)),
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
