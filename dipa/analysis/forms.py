"""Which form of P fits an operator: what each takes in memory, and what there is to gain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..memory import free_memory, in_words
from ..preconditioners.base import COPIES
from .singular import Spectrum

FLAT = 1.01  # a condition number up to this leaves nothing to gain on the range


@dataclass(frozen=True)
class Recommendation:
    """``form``: dense, low rank, planes, Fourier, network, or none (steps of 1/L suffice, or P
    would not help); ``reasons`` in plain words.
    """

    form: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Room:
    """Bytes that P takes in each form, and bytes that are free where the images are.

    Attributes:
        dense: of n x n numbers, n = C H W.
        low_rank: of n x r numbers; None where the rank r is unknown.
        planes: of (H W)^2 numbers, one P for every channel.
        free: of memory.
    """

    dense: int
    low_rank: int | None
    planes: int
    free: int

    @classmethod
    def of(cls, size: tuple[int, int, int], rank: int | None, like: torch.Tensor) -> Room:
        """For images ``size`` (C, H, W) with numbers like those of ``like``."""
        n, plane, each = math.prod(size), size[1] * size[2], like.element_size()
        low = None if rank is None else n * rank * each
        return cls(n * n * each, low, plane * plane * each, free_memory(like.device))

    def fits(self, taken: int | None) -> bool:
        """Whether a P of so many bytes, with what training keeps beside it, fits half of what is
        free.
        """
        return taken is not None and COPIES * taken <= self.free / 2

    def __str__(self) -> str:
        low = "unknown" if self.low_rank is None else in_words(self.low_rank)
        texts = f"dense {in_words(self.dense)}, low rank {low}, planes {in_words(self.planes)}"
        return f"{texts}; {COPIES} times that in training; free {in_words(self.free)}"


@dataclass(frozen=True)
class Known:
    """What a form is chosen by: size (C, H, W), spectrum, whether the adjoint holds, whether the
    Gram commutes with shifts, is a projector, does the same to each channel, whether the range
    has coordinates.
    """

    size: tuple[int, int, int]
    spectrum: Spectrum
    sound: bool
    shifts: bool
    projector: bool
    alike: bool
    coordinates: bool = True

    @property
    def unseen(self) -> float | None:
        """(n - r) / n."""
        n, rank = math.prod(self.size), self.spectrum.rank
        return None if rank is None else (n - rank) / n

    @property
    def flat(self) -> bool:
        """Whether every direction that is seen is seen alike."""
        condition = self.spectrum.condition_number
        return self.projector or (
            condition is not None and self.spectrum.condition_exact and condition <= FLAT
        )


def recommend(known: Known, room: Room) -> Recommendation:
    """A form of P, from what is known of the operator and what is free."""
    if not known.sound:
        text = "A_adjoint is not the adjoint of A: correct it first, every gradient goes astray"
        return Recommendation("none", (text,))
    if known.spectrum.squared_norm == 0:
        return Recommendation("none", ("H is zero: nothing is measured",))
    if known.flat and known.unseen == 0:
        text = "H^T H is a multiple of the identity: one step of 1/L inverts it, P cannot do better"
        return Recommendation("none", (text,))
    gains = _gains(known)
    if known.shifts and not known.flat:
        text = "H^T H is diagonal in the Fourier domain: a filter is all that a linear P needs"
        none = "a filter puts nothing into the null space; a network may"
        return Recommendation("Fourier", (*gains, text, *((none,) if known.unseen else ())))
    return _matrix_or_network(known, room, gains)


def _gains(known: Known) -> tuple[str, ...]:
    """What there is to gain on the range and beside it."""
    least = "" if known.spectrum.condition_exact else "at least "
    condition = known.spectrum.condition_number or math.inf
    steep = f"condition number {least}{condition:.3g} on the range: P can even it out"
    even = "every direction that is seen is seen alike: the fixed preconditioners are stepsizes"
    unseen = known.unseen
    hidden = "the rank is unknown" if unseen is None else f"{100 * unseen:.1f} % is not seen"
    learned = (
        f"{hidden}: only a P that has learned from images puts something there; the smallest that "
        f"does is CombinedSteps (dipa.compare says what it is worth)"
    )
    return (even if known.flat else steep, *((learned,) if unseen != 0 else ()))


def _matrix_or_network(known: Known, room: Room, gains: tuple[str, ...]) -> Recommendation:
    """The smallest matrix that fits, else a network."""
    n, rank, channels = math.prod(known.size), known.spectrum.rank, known.size[0]
    if known.alike and channels > 1 and known.coordinates and room.fits(room.planes):
        text = f"H does the same to each of {channels} channels: one P for all of them"
        return Recommendation("planes", (*gains, text))
    if rank is not None and rank < n and known.coordinates and room.fits(room.low_rank):
        text = f"P needs r / n = {rank} / {n} of a dense one, {in_words(room.low_rank or 0)}"
        return Recommendation("low rank", (*gains, text))
    if room.fits(room.dense):
        return Recommendation("dense", (*gains, f"a dense P is {in_words(room.dense)}"))
    taken = f"dense {in_words(room.dense)}, {COPIES} times in training"
    text = f"no matrix fits: {taken}, free {in_words(room.free)}"
    return Recommendation("network", (*gains, text))
