"""Solvers: one loop, the proximal gradient scheme, momentum rules, stepsize searches, starting
points; FISTA is made of them.
"""

from ..physics import data_gradient, lipschitz
from .fista import FISTA
from .fixed_point import Equilibrium, at_equilibrium, equilibrium
from .loop import Result, Scheme, State, Stop, run
from .proximal import MOMENTA, STARTS, ProximalGradient
from .searches import Armijo, Learned, Move, Search
from .setting import SettingWarning, another_setting
from .sgp import SGP

__all__ = [
    "FISTA",
    "MOMENTA",
    "SGP",
    "STARTS",
    "Armijo",
    "Equilibrium",
    "Learned",
    "Move",
    "ProximalGradient",
    "Result",
    "Scheme",
    "Search",
    "SettingWarning",
    "State",
    "Stop",
    "another_setting",
    "at_equilibrium",
    "data_gradient",
    "equilibrium",
    "lipschitz",
    "run",
]
