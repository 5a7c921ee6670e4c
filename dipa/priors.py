"""Priors: what turns a preconditioned gradient step into the next iterate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from deepinv.optim.prior import Prior

from . import device
from .checks import (
    FOREIGN,
    plain_fields,
    refuse_foreign,
    require,
    require_choice,
    require_int,
    require_number,
    require_same_shape,
)
from .choices import PRECISIONS
from .physics import require_like

Denoiser = Callable[[torch.Tensor, float], torch.Tensor]
REPEATS = 1e-3  # relative: what two calls of a denoiser may differ by


def cold(module: Any) -> None:
    """Let deepinv's total variation start anew: it would go on from its last call."""
    if getattr(module, "restart", None) is False:
        module.restart = True


@dataclass(frozen=True)
class DenoiserPrior:
    """What every prior made of a denoiser shares: the denoiser, its noise level, its precision,
    how many channels it takes at once; a subclass adds ``step``.
    """

    denoiser: Denoiser
    sigma: float = 2 / 255
    precision: str = "float32"
    channels: int = 1

    def __post_init__(self):
        plain_fields(self)
        kind = f"deepinv's prior {type(self.denoiser).__name__}"
        require(
            not isinstance(self.denoiser, Prior),
            "denoiser",
            kind,
            "a denoiser, such as the .denoiser of a prior; dipa.priors.Prox takes the prior itself",
        )
        require(
            callable(self.denoiser), "denoiser", self.denoiser, "a callable denoiser(images, sigma)"
        )
        require_choice("precision", self.precision, PRECISIONS)
        require_number("sigma", self.sigma, 0, 1)
        require_int("channels", self.channels, 1)

    def check(self, images: torch.Tensor) -> None:
        """Refuse images of another dtype or device than the denoiser's weights, and of channels
        that it cannot share out.
        """
        fits = images.shape[1] % self.channels == 0
        allowed = f"a multiple of the {self.channels} channels that the denoiser takes"
        require(fits, "images.shape[1]", images.shape[1], allowed)
        halved = device.precision(self.precision, images.device) in device.AUTOCAST
        require_like("prior.denoiser", self.denoiser, images, autocast=halved)

    @torch.no_grad()
    def require_repeats(self, images: torch.Tensor) -> None:
        """Refuse a denoiser that answers differently when it is asked the same again: what is
        trained with it, or kept in a cache, would be of no use.
        """
        first, again = self.denoise(images), self.denoise(images)
        change = ((again - first).norm() / first.norm().clamp_min(1e-30)).item()
        kind = type(self.denoiser).__name__
        require(
            not change > REPEATS,
            "denoiser",
            f"{kind}, whose answer changes by {change:.2g} when it is asked the same again",
            "one that keeps nothing from call to call and draws nothing",
        )

    def denoise(self, images: torch.Tensor) -> torch.Tensor:
        """D(x) on each channel alone, or each group of ``channels``: (B, C, H, W) -> the same
        shape and dtype.
        """
        planes = images.reshape(-1, self.channels, *images.shape[-2:])
        fp16 = device.precision(self.precision, images.device) == "fp16"
        denoised = (
            device.scaled(self._denoised, planes)
            if fp16 and planes.requires_grad
            else self._denoised(planes)
        )
        return denoised.reshape(images.shape)

    def _denoised(self, planes: torch.Tensor) -> torch.Tensor:
        cold(self.denoiser)
        try:
            with device.autocast(self.precision, planes.device):
                denoised = self.denoiser(planes, self.sigma)
        except FOREIGN as error:
            refuse_foreign(
                error,
                "denoiser",
                f"one that fails on {tuple(planes.shape)}, {planes.dtype}",
                "denoiser(images, sigma)",
            )
        if getattr(denoised, "shape", None) != planes.shape or denoised.device != planes.device:
            require_same_shape("denoiser", denoised, planes)
        return denoised.to(planes.dtype)

    def step(self, z: torch.Tensor, direction: torch.Tensor, stepsize: float) -> torch.Tensor:
        """The next iterate from the extrapolated point ``z`` and the preconditioned gradient
        ``direction``.
        """
        raise TypeError(f"{type(self).__name__} does not define step")

    def describe(self) -> dict:
        """The prior as plain values (for cache keys and run folders); the denoiser is described
        by its owner.
        """
        described = {"kind": type(self).__name__, "sigma": self.sigma, "precision": self.precision}
        return described | ({"channels": self.channels} if self.channels > 1 else {})


@dataclass(frozen=True)
class PnP(DenoiserPrior):
    r"""Plug-and-play proximal step: :math:`x = D(z-\alpha d)`, the denoiser D in the place of the
    proximity operator.

    Args:
        denoiser: ``denoiser(images, sigma)`` on (B, channels, H, W) in [0, 1]; every deepinv
            denoiser qualifies. It acts on each channel, or group of ``channels``, alone.
        sigma: noise level handed to the denoiser, in units of images in [0, 1], at most 1: 5/255,
            not 5 (DnCNN ignores it).
        precision: numbers in which the denoiser (and nothing else) computes: ``float32``, ``bf16``,
            ``fp16``, ``tf32`` or ``auto``, see :func:`dipa.device.precision`.
        channels: that the denoiser takes at once: 1, or 3 for one of colours.

    Source: DIPA Eq. (2) and (4); D2GP Algorithm 1, lines 3-4.
    """

    def step(self, z, direction, stepsize):  # noqa: D102
        return self.denoise(z - stepsize * direction)


@dataclass(frozen=True)
class Prox:
    r"""A prior of deepinv by its proximity operator:
    :math:`x=\mathrm{prox}_{\alpha\lambda\,\psi}(z-\alpha d)`.

    With steps of 1/L and no preconditioner this is FISTA on
    :math:`\tfrac12\|Hx-y\|_2^2+\lambda\,\psi(x)`. With a preconditioner the fixed point is
    another one, since the proximity operator stays that of the identity.

    Args:
        prior: an explicit deepinv prior, such as ``deepinv.optim.prior.TVPrior()``.
        weight: :math:`\lambda\ge 0`.

    Raises:
        InputError: anything else; a proximity operator that fails.
    """

    prior: Prior
    weight: float = 1e-2

    def __post_init__(self):
        plain_fields(self)
        require(isinstance(self.prior, Prior), "prior", type(self.prior).__name__, "deepinv's")
        require_number("weight", self.weight, 0)

    def step(self, z: torch.Tensor, direction: torch.Tensor, stepsize: float) -> torch.Tensor:
        """The next iterate from the extrapolated point and the preconditioned gradient."""
        moved = z - stepsize * direction
        cold(getattr(self.prior, "TVModel", None))
        try:
            x = self.prior.prox(moved, gamma=stepsize * self.weight)
        except FOREIGN as error:
            got = f"{type(self.prior).__name__} on {tuple(z.shape)}, {z.dtype}"
            refuse_foreign(error, "prior", got, "one with a proximity operator")
        require_same_shape("prior", x, z)
        return x

    def describe(self) -> dict:
        """The prior as plain values (for cache keys and run folders)."""
        return {"kind": "Prox", "prior": type(self.prior).__name__, "weight": self.weight}


@dataclass(frozen=True)
class RED(DenoiserPrior):
    r"""Regularization by denoising: :math:`x = z-\alpha\,(d+\lambda\,(z-D(z)))`, one gradient step
    on data and prior.

    P acts on the data gradient alone: the denoiser's residual :math:`z-D(z)` is added to the
    preconditioned direction d.

    Args:
        denoiser: ``denoiser(images, sigma)`` on (B, 1, H, W) in [0, 1], as for :class:`PnP`.
        sigma: noise level handed to the denoiser, in units of images in [0, 1], at most 1.
        precision: numbers in which the denoiser (and nothing else) computes: ``float32``, ``bf16``,
            ``fp16``, ``tf32`` or ``auto``, see :func:`dipa.device.precision`.
        channels: that the denoiser takes at once: 1, or 3 for one of colours.
        weight: :math:`\lambda\ge 0`, by keyword; 0 leaves the bare gradient step.

    Raises:
        InputError: a denoiser that is not callable, another precision, a negative or non-finite
            sigma or weight.

    Source: DIPA Eq. (5), with the explicit gradient of RED (Romano, Elad and Milanfar 2017).
    """

    weight: float = field(default=1.0, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        require_number("weight", self.weight, 0)

    def step(self, z, direction, stepsize):  # noqa: D102
        return z - stepsize * (direction + self.weight * (z - self.denoise(z)))

    def describe(self):  # noqa: D102
        return super().describe() | {"weight": self.weight}
