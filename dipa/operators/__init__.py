"""Measurement operators over deepinv, and the coordinates of the subspace each can see."""

from .bases import (
    Basis,
    FourierBasis,
    HadamardBasis,
    HartleyBasis,
    KroneckerBasis,
    MatrixBasis,
    PixelBasis,
    PolyphaseBasis,
    rebuild_basis,
)
from .mri import MRI, mri, mri_pair, unshared_columns
from .ranges import plane_basis, range_basis
from .single_pixel import ORDERINGS, SinglePixel, hadamard_mask, single_pixel
from .super_resolution import SuperResolution, super_resolution
from .wavelets import WAVELETS, WaveletSynthesis, in_wavelets

__all__ = [
    "MRI",
    "ORDERINGS",
    "Basis",
    "FourierBasis",
    "HadamardBasis",
    "HartleyBasis",
    "KroneckerBasis",
    "MatrixBasis",
    "PixelBasis",
    "PolyphaseBasis",
    "SinglePixel",
    "SuperResolution",
    "WAVELETS",
    "WaveletSynthesis",
    "hadamard_mask",
    "in_wavelets",
    "mri",
    "mri_pair",
    "plane_basis",
    "range_basis",
    "rebuild_basis",
    "single_pixel",
    "super_resolution",
    "unshared_columns",
]
