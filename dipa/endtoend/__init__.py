"""Networks trained end to end, ``network(y, physics) -> x``: what L-DIPA is compared with under shifted operators."""

from .base import EndToEnd
from .direct import Restormer, UNet
from .fista_net import FISTANet
from .store import NETWORKS, build, load, save
from .varnet import VarNet

__all__ = ["NETWORKS", "EndToEnd", "FISTANet", "Restormer", "UNet", "VarNet", "build", "load", "save"]
