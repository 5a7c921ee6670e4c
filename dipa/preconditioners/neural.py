"""N-DIPA: a neural network as preconditioner, told its iteration by a code."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from .. import device, networks, seeding
from ..checks import plain_value, require, require_choice, require_img_size, require_int
from ..choices import SCALINGS
from ..physics import require_like
from .base import Preconditioner, Traits, require_planes

if TYPE_CHECKING:
    from typing_extensions import Self

PRECISIONS = ("float32", "bf16")
MAX_CHANNELS = 64


class NeuralPreconditioner(Preconditioner):
    r"""N-DIPA: direction :math:`d=\mathcal{P}_\theta(\nabla g,\phi(k))`, one network per channel.

    Args:
        name: backbone, one of :data:`dipa.networks.BACKBONES`.
        img_size: (C, H, W) of the images; C networks of the same size, each on its own channel (the
            papers' MRI: real and imaginary part). With C = 1, one network serves every channel of
            whatever it is given.
        features: width of the backbone.
        blocks: depth of the backbone.
        code: how k enters: ``sinusoidal`` (fixed), ``learned`` (:math:`\phi(k)=\mathbf{w}k`, w
            shared by the channels) or ``none`` (the same network at every iteration).
        code_dim: d, the length of the code; not used by ``none``.
        start: ``identity`` (direction = gradient, the unpreconditioned solver) or ``random``.
        scaling: ``image``: :math:`d=s\,\mathcal{P}_\theta(\nabla g/s,\phi(k))`, s the root mean
            square of a channel's gradient, so that P(tg) = tP(g) for t > 0: it does not depend on
            the units of H, and P(0) = 0; or ``none``, as in the papers.
        precision: ``float32``, or ``bf16`` to run the networks (and nothing else) under bfloat16
            autocast.
        seed: of the initial weights.

    The iterate is not used. At the defaults a network has 858 758 parameters, a learned code adds
    d.

    Raises:
        InputError: an unknown backbone, code, start or precision, or a size out of range.

    Source: D2GP Sec. II.B and III.B; DIPA Sec. 3.3.
    """

    kind = "neural"

    def __init__(
        self,
        name: str,
        *,
        img_size: tuple[int, int, int],
        features: int = 128,
        blocks: int = 5,
        code: str = "sinusoidal",
        code_dim: int = 256,
        start: str = "identity",
        scaling: str = "image",
        precision: str = "float32",
        seed: int = 0,
    ):
        super().__init__()
        img_size = require_img_size(img_size)
        require(
            img_size[0] <= MAX_CHANNELS,
            "img_size",
            img_size,
            f"at most {MAX_CHANNELS} channels, each with its network",
        )
        require_choice("precision", precision, PRECISIONS)
        require_choice("code", code, networks.CODES)
        require_choice("scaling", scaling, SCALINGS)
        seed = require_int("seed", seed, 0)
        features, blocks, code_dim = map(plain_value, (features, blocks, code_dim))
        self.name, self.img_size, self.features, self.blocks = name, img_size, features, blocks
        self.scaling = scaling
        self.code_kind, self.code_dim, self.start, self.precision, self.seed = (
            code,
            code_dim,
            start,
            precision,
            seed,
        )
        self.traits = Traits(linear=False, iteration_dependent=code != "none")
        self.networks = nn.ModuleList(self._network(channel) for channel in range(img_size[0]))
        self.code = networks.build_code(code, code_dim, seed)

    def _network(self, channel: int) -> networks.Backbone:
        return networks.build(
            self.name,
            img_size=(1, *self.img_size[1:]),
            features=self.features,
            blocks=self.blocks,
            code_dim=0 if self.code_kind == "none" else self.code_dim,
            start=self.start,
            seed=seeding.derive(self.seed, "channel", channel),
        )

    def check(self, images: torch.Tensor) -> None:  # noqa: D102
        self.require_fits(images)
        require_like("preconditioner", self, images, autocast=self.precision == "bf16")

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The network's direction for each channel of the gradient, told k; the iterate is not
        used.
        """
        images = gradient.reshape(-1, *self.img_size)
        size = self._scales(images)
        images = images / torch.where(size > 0, size, torch.ones_like(size))
        code = None if self.code is None else self.code.unchecked(k).to(images)
        with device.autocast(self.precision, images.device):
            channels = [
                cast(networks.Backbone, net).unchecked(images[:, c : c + 1], code)
                for c, net in enumerate(self.networks)
            ]
        return (torch.cat(channels, dim=1) * size).reshape(gradient.shape)

    def _scales(self, images: torch.Tensor) -> torch.Tensor:
        """s of each channel of each image, (B, C, 1, 1); 1 without scaling."""
        if self.scaling == "none":
            return images.new_ones(1, 1, 1, 1)
        return torch.linalg.vector_norm(images, dim=(2, 3), keepdim=True) / math.sqrt(
            images[0, 0].numel()
        )

    def require_fits(self, images: torch.Tensor) -> None:  # noqa: D102
        require_planes(images, self.img_size)

    def header(self) -> dict[str, Any]:
        """The constructor's arguments, as plain values."""
        same = {
            key: getattr(self, key)
            for key in (
                "name",
                "features",
                "blocks",
                "code_dim",
                "start",
                "scaling",
                "precision",
                "seed",
            )
        }
        return same | {"img_size": list(self.img_size), "code": self.code_kind}

    @classmethod
    def rebuild(cls, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Self:
        """As of every module; files that do not name a scaling are of networks without one."""
        return super().rebuild({"scaling": "none"} | header, tensors)
