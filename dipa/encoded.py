"""Encoded pictures, alone or in a tar: refused by size before they are decoded, upright, every
depth on its own scale.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import struct
import tarfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageOps

from .checks import InputError, require, shorter

ENDINGS = (".jpg", ".jpeg", ".png")
# of all that Pillow knows: none that runs another program
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
MOST_PIXELS = 2**26  # of a picture, 67 megapixels: up to about one gigabyte while it is decoded
LONGEST_NAME = 1000  # characters, of an entry of a tar
# how macOS begins the names of its companions of files (AppleDouble): no pictures, whatever their
# ending
HIDDEN = "._"
BITS, PHOTOMETRIC = 258, 262  # TIFF tags: bits of a sample, and what 0 is: black (1) or white (0)
# what Pillow raises on bytes that are damaged; SyntaxError is its "broken file"
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
    ImageCms.PyCMSError,
)


class Picture(NamedTuple):
    """An encoded picture: its name and how to read its bytes."""

    name: str
    read: Callable[[], bytes]


def numbers(picture: Picture, channels: int) -> tuple[np.ndarray, int]:
    """The pixels of a picture, (H, W, 3) RGB for three channels and (H, W, 1) grey else, and the
    number that is white.

    White is 255 for 8 bits, 65535 for 16, 1 for numbers with a point. Upright by EXIF. Colours
    become grey by Pillow's 8-bit luma (ITU-R 601), CMYK, YCbCr, HSV and LAB become RGB as in
    Pillow; what is transparent is laid on black. A colour picture of 16 bits a channel is read to
    8.

    Raises:
        InputError: no whole picture in one of ``FORMATS``, more than 67 megapixels, or numbers
            whose white the file does not say: signed or 32-bit integers, numbers with a point
            outside [0, 1], 16 bits that are inverted or in part transparent.
    """
    with _opened(picture) as image:
        if image.mode in ("F", "I") or image.mode.startswith("I;"):
            values, white = _deep(picture.name, image)
        else:
            values, white = np.asarray(_on_black(image, "RGB" if channels == 3 else "L")), 255
        planes = values.reshape(*values.shape[:2], -1)
        return np.repeat(planes, 3, axis=2) if channels == 3 and planes.shape[
            2
        ] == 1 else planes, white


@contextlib.contextmanager
def _opened(picture: Picture) -> Iterator[Image.Image]:
    """A picture that is small enough, decoded and upright; what goes wrong while it is used is
    refused by its name.

    Pillow's warnings are not shown: they are of metadata that nothing here reads, and of sizes that
    are refused here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = picture.read()
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                # Pillow decodes bytes that were put in between, unless it is told to look at
                # checksums
                if image.format == "PNG":
                    Image.open(io.BytesIO(content), formats=("PNG",)).verify()
                (width, height), allowed = image.size, f"at most {MOST_PIXELS:,} in all"
                require(
                    width * height <= MOST_PIXELS,
                    f"{picture.name}: pixels",
                    f"{width} x {height}",
                    allowed,
                )
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                yield image
    except InputError:
        raise
    # beyond Pillow's own limit, before the size can be asked for
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{picture.name}: pixels: got too many; allowed: at most {MOST_PIXELS:,} in all"
        ) from error
    except UNREADABLE as error:
        raise InputError(
            f"{picture.name}: not a readable picture ({type(error).__name__}); get it again"
        ) from error


def _deep(name: str, image: Image.Image) -> tuple[np.ndarray, int]:
    """Grey numbers (H, W) of more than 8 bits, and the number that is white."""
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    plain = tags.get(PHOTOMETRIC, 1) == 1 and not image.has_transparency_data
    require(
        plain,
        f"{name}: pixels",
        "inverted or in part transparent",
        "for more than 8 bits: opaque ones, with black at 0",
    )
    if image.mode == "F":
        inside = bool(((values >= 0) & (values <= 1)).all())
        require(
            inside,
            f"{name}: pixels",
            f"from {values.min():.4g} to {values.max():.4g}",
            "numbers in [0, 1]",
        )
        return values, 1
    # Pillow scales a PPM of any depth to 16 bits
    unsigned = image.mode != "I" or image.format in ("PNG", "PPM")
    require(
        unsigned,
        f"{name}: mode",
        f"{image.mode} of {image.format}",
        "unsigned integers of at most 16 bits",
    )
    return values, 2 ** tags.get(BITS, (16,))[0] - 1


def _on_black(image: Image.Image, mode: str) -> Image.Image:
    """A picture of 8 bits as RGB or L, what is transparent laid on black."""
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, "black")
        image = Image.alpha_composite(black, image.convert("RGBA"))
    if image.mode == "LAB":
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def in_tar(path: Path, endings: tuple[str, ...] = ENDINGS) -> list[Picture]:
    """The pictures of a tar in name order (numbers by value), read in memory; links and other
    entries are left out.

    So are AppleDouble companions (``._*``). Refused by the tar's name: sparse entries, names of
    more than 1,000 characters, entries that go on beyond the end of the file.
    """
    try:
        content = path.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            places = dict(_entries(path, archive, endings))
    except InputError:
        raise
    except (
        tarfile.TarError,
        EOFError,
        OSError,
        ValueError,
        ArithmeticError,
        LookupError,
        RuntimeError,
        MemoryError,
    ) as error:
        raise InputError(
            f"{path}: not a whole tar archive ({type(error).__name__}); get it again"
        ) from error
    require(
        bool(places), f"{path}: entries", "no pictures", f"files that end in {', '.join(endings)}"
    )
    names = sorted(places, key=by_number)
    return [
        Picture(f"{path}/{_printable(name)}", functools.partial(_part, content, places[name]))
        for name in names
    ]


def _part(content: bytes, where: slice) -> bytes:
    return content[where]


def _entries(
    path: Path, archive: tarfile.TarFile, endings: tuple[str, ...]
) -> Iterator[tuple[str, slice]]:
    """Name and place of every picture; tarfile itself refuses entries longer than their archive."""
    before = -1
    for entry in archive:
        if entry.offset <= before:
            raise EOFError("entries in a circle")
        before = entry.offset
        if entry.isreg() and is_picture(entry.name, endings):
            name = f"{path}/{shorter(_printable(entry.name), 60)}"
            require(
                len(entry.name) <= LONGEST_NAME,
                name,
                f"{len(entry.name):,} characters",
                f"names of up to {LONGEST_NAME:,}",
            )
            require(not entry.issparse(), name, "a sparse file", "pictures stored whole")
            yield entry.name, slice(entry.offset_data, entry.offset_data + entry.size)


def _printable(name: str) -> str:
    """A name that any terminal takes: tarfile keeps bytes that are no UTF-8 as halves of
    characters.
    """
    return name.encode("utf-8", "replace").decode()


def is_picture(name: str, endings: tuple[str, ...] = ENDINGS) -> bool:
    """Whether a file is called as a picture: by its ending, and not a companion that macOS made."""
    return name.lower().endswith(endings) and not name.rpartition("/")[2].startswith(HIDDEN)


def by_number(name: str) -> list[str | tuple[int, str]]:
    """A sorting key by which 9 comes before 10; digits are compared as text, so that there may
    be any number of them.
    """
    pieces = re.split(r"([0-9]+)", name)
    return [
        (len(part.lstrip("0")), part.lstrip("0")) if i % 2 else part
        for i, part in enumerate(pieces)
    ]
