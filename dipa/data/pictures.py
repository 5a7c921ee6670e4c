"""Photographs from the user's folder: BSDS500 and faces from tar archives read in memory,
CelebA through torchvision.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..checks import InputError, require
from ..encoded import ENDINGS, Picture, by_number, in_tar, is_picture, numbers
from ..paths import cache_directory, data_files, data_folder
from .pixels import centre_square, resized
from .splits import blocks, shuffled

# as deepinv.datasets.BSDS500: 400 and 100 photographs
BSDS500 = {"train": ("train", "test"), "test": ("val",)}
BSDS500_GET = (
    "put bsds500_{train,test,val}.tar in DIPA_DATA/bsds500, or run 'dipa data bsds500 --download'"
)
# deepinv's, inside the cache
BSDS500_TREE = Path("BSDS500") / "BSDS500-master" / "BSDS500" / "data" / "images"
FACES_GET = (
    "put a tar of face pictures, one person's files side by side by name, in DIPA_DATA/faces"
)
# pictures left out between the splits: more than Caltech-101 has of one person in a row
FACES_GAP = 30
CELEBA = (
    "img_align_celeba",
    "list_attr_celeba.txt",
    "identity_CelebA.txt",
    "list_bbox_celeba.txt",
    "list_landmarks_align_celeba.txt",
    "list_eval_partition.txt",
)
CELEBA_GET = (
    "put img_align_celeba/ (the aligned JPEGs) and the five official .txt lists in DIPA_DATA/celeba"
)


def decode(picture: Picture, size: int, channels: int) -> torch.Tensor:
    """The centred square of a picture at ``size`` x ``size`` in [0, 1]: (3, size, size) RGB, else
    (1, size, size) grey.

    What a file may hold, and how colours become grey: :func:`dipa.encoded.numbers`. Resizing is
    bilinear with antialias.
    """
    values, white = numbers(picture, channels)
    # one after the other: a large picture is held as numbers once
    planes = centre_square(np.moveaxis(values, -1, 0))
    return torch.cat(
        [
            resized(torch.from_numpy(plane.astype(np.float32) / white)[None, None], size)[0]
            for plane in planes
        ]
    )


def stack(pictures: Sequence[Picture], size: int, channels: int, count: int | None) -> torch.Tensor:
    """The first ``count`` pictures decoded (all for None): (N, 3 or 1, size, size); no others
    are read.
    """
    return torch.stack([decode(picture, size, channels) for picture in pictures[:count]])


def in_folder(path: Path) -> list[Picture]:
    """The pictures of a folder and of those below it, by name.

    Raises:
        InputError: no folder, or one without pictures.
    """
    require(path.is_dir(), "folder", str(path), "a folder of pictures")
    files = [file for file in path.rglob("*") if is_picture(file.name) and file.is_file()]
    require(len(files) > 0, "folder", str(path), f"one with pictures in it ({', '.join(ENDINGS)})")
    files.sort(key=lambda file: by_number(file.relative_to(path).as_posix()))
    return [Picture(str(file), file.read_bytes) for file in files]


def bsds500(split: str) -> list[Picture]:
    """BSDS500 photographs of a split, order and splits as in deepinv: train = its train and test
    (400), test = its val (100).

    Source: P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, IEEE TPAMI 33(5), 2011. BSD68 is part of
    val.

    Raises:
        InputError: an archive is missing (with how to get it) or damaged.
    """
    return [picture for part in BSDS500[split] for picture in _bsds500_part(part)]


def _bsds500_part(part: str) -> list[Picture]:
    archives = data_files("bsds500", f"*{part}.tar")
    if archives:
        return [picture for path in archives for picture in in_tar(path)]
    tree = cache_directory() / BSDS500_TREE / part
    paths = sorted(
        (path for path in tree.glob("*.jpg") if is_picture(path.name)),
        key=lambda path: by_number(path.name),
    )
    if not paths:
        raise InputError(f"bsds500: its {part} photographs not found; {BSDS500_GET}")
    return [Picture(str(path), path.read_bytes) for path in paths]


def download_bsds500() -> None:
    """Fetch BSDS500 through deepinv (GitHub, 70 MB, MD5-checked) into the cache."""
    from deepinv.datasets import BSDS500 as Remote

    # an interrupted download would be taken for a whole one
    if not (cache_directory() / BSDS500_TREE).is_dir():
        (cache_directory() / "BSDS500" / "download.zip").unlink(missing_ok=True)
    try:
        Remote(cache_directory() / "BSDS500", download=True, use_dict_output=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            f"bsds500: download failed ({error}); put the archives in DIPA_DATA/bsds500"
        ) from error


def faces(split: str) -> list[Picture]:
    """Faces of every tar in ``DIPA_DATA/faces``: the last fifth by name is test, the 30 before it
    are in neither split.

    Files of one person must follow each other, as in Caltech-101 Faces_easy (F.-F. Li et al.,
    doi:10.22002/D1.20086), where at most about 25 do: then no person is in both splits. Within a
    split the order is a fixed shuffle.
    """
    archives = data_files("faces", "*.tar")
    if not archives:
        raise InputError(f"faces: no tar found; {FACES_GET}")
    pictures = [picture for path in archives for picture in in_tar(path)]
    part = blocks("faces", len(pictures), split, gap=FACES_GAP)
    return [pictures[i] for i in shuffled(part, "faces", split)]


def celeba(split: str) -> list[Picture]:
    """Aligned CelebA faces of an official split: 162,770 train, 19,962 test; nobody is in both.
    Read on demand.

    The files are those :class:`torchvision.datasets.CelebA` knows, in ``DIPA_DATA/celeba``; it
    checks the lists by MD5. Nothing is downloaded. Source: Z. Liu, P. Luo, X. Wang, X. Tang, ICCV
    2015.

    Raises:
        InputError: something is missing (with what to put where), or a list is not the official
            one.
    """
    here = data_folder("celeba")
    absent = CELEBA if here is None else [name for name in CELEBA if not (here / name).exists()]
    if here is None or absent:
        raise InputError(f"celeba: not found: {', '.join(absent)}; {CELEBA_GET}")
    paths = [here / CELEBA[0] / name for name in _celeba_names(str(here.parent), split)]
    return [Picture(str(path), path.read_bytes) for path in paths]


@functools.lru_cache(maxsize=2)
def _celeba_names(root: str, split: str) -> list[str]:
    from torchvision.datasets import CelebA

    try:
        return CelebA(root, split, download=False).filename
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"celeba: a .txt list is not the official one (MD5); {CELEBA_GET}"
        ) from error
