"""Backbones of the neural preconditioner, each ``net(x, code) -> x + residual`` on planes (B,
1, H, W), and iteration codes; networks for step lengths.
"""

from __future__ import annotations

import torch

from .. import seeding
from ..checks import plain_value, require_choice, require_int
from .backbone import INITIAL, Backbone, require_buildable
from .codes import CODES, Code, LearnedCode, SinusoidalCode, build_code, sinusoidal
from .convnext import ConvNeXt
from .plain import CNN, MLP, AttentionCNN, MultiScale
from .steps import LENGTHS, StepNetwork
from .unet import IndiUNet, UNet
from .vit import ViT

BACKBONES: dict[str, type[Backbone]] = {
    "convnext": ConvNeXt,
    "mlp": MLP,
    "cnn": CNN,
    "cnn_attention": AttentionCNN,
    "unet": UNet,
    "multiscale": MultiScale,
    "indi_unet": IndiUNet,
    "vit": ViT,
}

# width and depth in the public code of D2GP's authors; the width of its MLP is not given
PUBLISHED_SIZES: dict[str, dict[str, int]] = {
    "convnext": {"features": 128, "blocks": 5},
    "mlp": {"blocks": 1},
    "cnn": {"features": 64, "blocks": 3},
    "cnn_attention": {"features": 64, "blocks": 1},
    "unet": {"features": 64, "blocks": 4},
    "multiscale": {"features": 64, "blocks": 1},
    "indi_unet": {"features": 64, "blocks": 1},
    "vit": {"features": 64, "blocks": 2},
}

__all__ = [
    "BACKBONES",
    "CODES",
    "PUBLISHED_SIZES",
    "INITIAL",
    "LENGTHS",
    "Backbone",
    "Code",
    "LearnedCode",
    "SinusoidalCode",
    "StepNetwork",
    "build",
    "build_code",
    "sinusoidal",
]


def build(
    name: str,
    *,
    img_size: tuple[int, int, int],
    features: int = 128,
    blocks: int = 5,
    code_dim: int = 256,
    start: str = "identity",
    seed: int = 0,
) -> Backbone:
    """A backbone by name for single planes of the size ``img_size`` (1, H, W).

    ``start`` is ``identity`` (the last layer is zero, so the output is the input) or ``random``
    (every layer as PyTorch draws it); ``seed`` decides the draw and leaves the global generator
    alone. ``code_dim`` 0 builds a network that does not know its iteration. Raises
    :class:`InputError` for an unknown name or start and for sizes out of range.
    """
    require_choice("backbone", name, BACKBONES)
    require_choice("start", start, INITIAL)
    features, blocks, code_dim, seed = (
        plain_value(features),
        plain_value(blocks),
        plain_value(code_dim),
        require_int("seed", seed, 0),
    )

    def make() -> Backbone:
        return BACKBONES[name](img_size, features, blocks, code_dim)

    require_buildable(make)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seeding.derive(seed, "network", name))
        net = make()
    if start == "identity":
        net.zero_head()
    return net
