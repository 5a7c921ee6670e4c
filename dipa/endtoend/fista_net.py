r"""FISTA-Net: unrolled FISTA with a learned proximity operator and a regularised inverse
Hessian in its gradient step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from deepinv.physics import LinearPhysics
from torch import nn

from ..checks import require_number
from .base import EndToEnd, seeded, zero


class FISTANet(EndToEnd):
    r"""FISTA-Net, k = 0, ..., K - 1 from :math:`x^0=z^0`, its one block shared by all layers.

    .. math::
        r^k=z^k-\mu_k(H^\top H+\lambda I)^{-1}H^\top(Hz^k-y),\qquad
        x^{k+1}=r^k+\tilde F\big(S_{\theta_k}(F(r^k))\big),\qquad
        z^{k+1}=x^{k+1}+\rho_k(x^{k+1}-x^k)

    S is soft thresholding, F and :math:`\tilde F` four 3 x 3 convolutions each, between one into
    and one out of the features. With sp the softplus, :math:`\mu_k=\mathrm{sp}(w_\mu k+c_\mu)`,
    :math:`\theta_k=\mathrm{sp}(w_\theta k+c_\theta)` and
    :math:`\rho_k=1-\mathrm{sp}(c_\rho)/\mathrm{sp}(w_\rho k+c_\rho)`: six trainable numbers.

    Args:
        img_size: (C, H, W); channels are mixed.
        features: width of the block.
        blocks: layers K.
        regularization: :math:`\lambda>0`; the inverse is the operator's own ``prox_l2`` (closed
            form or CG).
        start: :math:`x^0`.
        seed: of the weights.

    Left out of the original: the final ReLU of each layer (imaginary parts are negative), and its
    symmetry and sparsity losses. 74,599 parameters for one channel at the defaults.

    Source: Xiang, Dong, Yang, "FISTA-Net", IEEE Trans. Medical Imaging 40(5), 2021; sizes and
    starting values of its public code, whose inverse Hessian has a Laplacian in the place of I.
    """

    kind = "fista-net"

    def __init__(
        self,
        img_size: tuple[int, int, int],
        *,
        features: int = 32,
        blocks: int = 7,
        regularization: float = 1e-3,
        start: str = "interpolated",
        seed: int = 0,
    ):
        super().__init__(img_size, start, features=features, blocks=blocks)
        features, blocks = self.size["features"], self.size["blocks"]
        self.regularization = float(
            require_number("regularization", regularization, 0, open_low=True)
        )
        with seeded(seed, self.kind):
            self.block = _Block(self.img_size[0], features)
        self.stepsize = nn.Parameter(torch.tensor([-0.2, 0.1]))  # slope and value at k = 0
        self.threshold = nn.Parameter(torch.tensor([-0.5, -2.0]))
        self.momentum = nn.Parameter(torch.tensor([0.5, 0.0]))

    def header(self):  # noqa: D102
        return super().header() | {"regularization": self.regularization}

    def reconstruct(self, x: torch.Tensor, y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:  # noqa: D102
        z = x
        for k in range(self.size["blocks"]):
            r = z - _softplus(self.stepsize, k) * self.direction(z, y, physics)
            previous, x = x, r + self.block(r, _softplus(self.threshold, k))
            z = x + (1 - _softplus(self.momentum, 0) / _softplus(self.momentum, k)) * (x - previous)
        return x

    def direction(self, z: torch.Tensor, y: torch.Tensor, physics: LinearPhysics) -> torch.Tensor:
        r"""The regularised Gauss-Newton direction :math:`(H^\top H+\lambda I)^{-1}H^\top(Hz-y)`."""
        return physics.prox_l2(torch.zeros_like(z), physics.A(z) - y, 1 / self.regularization)


def _softplus(line: torch.Tensor, k: int) -> torch.Tensor:
    return F.softplus(line[0] * k + line[1])


class _Block(nn.Module):
    """Convolutions into the features, soft thresholding there, convolutions back: what a layer
    adds to its input.
    """

    def __init__(self, channels: int, features: int):
        super().__init__()
        self.enter = nn.Conv2d(channels, features, 3, padding=1)
        self.forth, self.back = _convolutions(features), _convolutions(features)
        self.head = nn.Conv2d(features, channels, 3, padding=1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)
        zero(self.head)

    def forward(self, x: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        features = self.forth(self.enter(x))
        kept = torch.sign(features) * F.relu(features.abs() - threshold)
        return self.head(self.back(kept))


def _convolutions(features: int) -> nn.Sequential:
    layers = [
        layer
        for _ in range(4)
        for layer in (nn.Conv2d(features, features, 3, padding=1), nn.ReLU())
    ]
    return nn.Sequential(*layers[:-1])
