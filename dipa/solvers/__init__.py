"""Solvers: one loop, momentum rules, starting points, and preconditioned plug-and-play FISTA made of them."""

from ..physics import data_gradient, lipschitz
from .fista import FISTA
from .loop import Result, run
from .momentum import MOMENTA
from .starts import STARTS

__all__ = ["FISTA", "MOMENTA", "STARTS", "Result", "data_gradient", "lipschitz", "run"]
