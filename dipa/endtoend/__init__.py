"""Networks trained end to end, ``network(y, physics) -> x``: what L-DIPA is compared with under
shifted operators.
"""

import inspect
from typing import Any

from ..checks import require_choice
from .base import EndToEnd
from .direct import DirectUNet, Restormer
from .fista_net import FISTANet
from .varnet import VarNet

__all__ = ["NETWORKS", "EndToEnd", "FISTANet", "Restormer", "DirectUNet", "VarNet", "build"]

NETWORKS: dict[str, type[EndToEnd]] = {
    network.kind: network for network in (FISTANet, VarNet, Restormer, DirectUNet)
}


def build(name: str, img_size: tuple[int, int, int], **size: Any) -> EndToEnd:
    """The untrained network ``name`` for images ``img_size`` (C, H, W); ``size`` are its class's
    keyword arguments.

    Raises :class:`InputError` for an unknown name or argument, with the nearest valid ones.
    """
    require_choice("network", name, NETWORKS)
    known = list(inspect.signature(NETWORKS[name]).parameters)[1:]
    for argument in size:
        require_choice("network size", argument, known)
    return NETWORKS[name](img_size, **size)
