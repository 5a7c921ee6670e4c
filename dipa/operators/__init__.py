"""Measurement operators over deepinv, and the coordinates of the subspace each can see."""

from .bases import Basis, HadamardBasis, MatrixBasis, PixelBasis, range_basis, rebuild_basis
from .orderings import ORDERINGS, hadamard_mask
from .single_pixel import SinglePixel, single_pixel

__all__ = [
    "ORDERINGS",
    "Basis",
    "HadamardBasis",
    "MatrixBasis",
    "PixelBasis",
    "SinglePixel",
    "hadamard_mask",
    "range_basis",
    "rebuild_basis",
    "single_pixel",
]
