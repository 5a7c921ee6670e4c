"""Images: photographs and MR slices that work offline, public data sets by name, the user's own
files.
"""

from ..gathered import Streamed
from . import embedded, mnist
from .sources import (
    DATASETS,
    SOURCES,
    SPLITS,
    ImageSet,
    download,
    downloads,
    folder,
    here,
    lengths,
    load,
)

__all__ = [
    "DATASETS",
    "SOURCES",
    "SPLITS",
    "ImageSet",
    "Streamed",
    "download",
    "downloads",
    "embedded",
    "folder",
    "here",
    "lengths",
    "load",
    "mnist",
]
