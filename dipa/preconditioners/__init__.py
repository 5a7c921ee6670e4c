"""Preconditioners of the data-fidelity gradient, all behind ``P(gradient, iterate, k) -> direction``."""

from .base import Identity, Preconditioner, Traits
from .linear import LinearPreconditioner
from .store import load, save

__all__ = ["Identity", "LinearPreconditioner", "Preconditioner", "Traits", "load", "save"]
