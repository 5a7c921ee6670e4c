"""Figures from tables and histories: no computing, no training, one style.

Images are shown on the fixed grey scale [0, 1], errors on [0, ``ERROR_MAX``], so that two figures
can be compared.
"""

import matplotlib.pyplot as plt

from .algebra import codes, eigenvalues, matrices, matrix, spectrum
from .explore import explorer
from .lines import (
    against,
    against_seconds,
    beside,
    compare,
    curves,
    denoiser_training,
    iterations,
    long_runs,
    training,
)
from .pictures import (
    beside_the_truth,
    gallery,
    methods,
    panels,
    player,
    psnr_text,
    reconstructions,
    tiles,
)
from .style import COLOURS, DASHES, ERROR_MAX, PALETTE, ROLES, STYLE

__all__ = [
    "COLOURS",
    "DASHES",
    "ERROR_MAX",
    "PALETTE",
    "ROLES",
    "STYLE",
    "against",
    "against_seconds",
    "beside",
    "codes",
    "compare",
    "curves",
    "denoiser_training",
    "eigenvalues",
    "explorer",
    "gallery",
    "iterations",
    "long_runs",
    "matrices",
    "matrix",
    "beside_the_truth",
    "methods",
    "panels",
    "player",
    "plt",
    "psnr_text",
    "reconstructions",
    "spectrum",
    "tiles",
    "training",
]
