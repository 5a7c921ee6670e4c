"""Ways to differentiate one solve: how far back the gradient of P goes, and what is kept for it.

:class:`~dipa.settings.Differentiation` says which way; here is what it does to solver and
preconditioner, and the backward passes that keep little: a frozen DnCNN needs one bit per feature,
anything else is computed again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from deepinv.models import DnCNN
from torch import nn
from torch.nn.grad import conv2d_input
from torch.utils.checkpoint import checkpoint

from ..checks import require
from ..preconditioners.per_iteration import PerIteration
from ..priors import DenoiserPrior
from ..settings import Differentiation
from ..solvers import FISTA

GATHER = 0x0102040810204080  # times eight bytes of 0 or 1: their bits, side by side in the top byte
SPREAD = 0x0101010101010101  # times a byte: eight copies of it
SELECT = 0x8040201008040201 - (1 << 64)  # bit i of copy i, as a signed 64-bit integer


def check(plan: Differentiation, preconditioner: nn.Module, iterations: int) -> None:
    """Refuse a preconditioner of which this way would never train some parameters, and a
    restart within the last tail.
    """
    per_iteration = (
        isinstance(preconditioner, PerIteration) and preconditioner.traits.iteration_dependent
    )
    every = plan.backward is None or not per_iteration
    kind = type(preconditioner).__name__
    require(
        every,
        "differentiation.way",
        plan.way,
        f"a way through all iterations for {kind}: each has its own",
    )
    whole = plan.way != "restart" or plan.tail >= iterations or iterations % plan.tail == 0
    allowed = f"for restart a divisor of the solver's {iterations} iterations, or at least as many"
    require(whole, "differentiation.tail", plan.tail, allowed)


def differentiated(plan: Differentiation, solver: FISTA) -> FISTA:
    """The solver that is differentiated: the same iterates (but for ``restart``), a
    prior that needs less memory.
    """
    if plan.way == "unrolled":
        return solver
    restart = plan.tail if plan.way == "restart" else solver.restart
    return replace(solver, prior=_with_less_memory(plan, solver.prior), restart=restart)


def _with_less_memory(plan: Differentiation, prior: Any) -> Any:
    """The prior with another backward pass."""
    known, kind = isinstance(prior, DenoiserPrior), type(prior).__name__
    if plan.way == "straight_through":
        require(
            known,
            "differentiation.way",
            plan.way,
            f"another way for {kind}, a prior that shows no denoiser",
        )
        return replace(prior, denoiser=straight_through(prior.denoiser))
    return replace(prior, denoiser=low_memory(prior.denoiser)) if known else _Recomputed(prior)


def called(plan: Differentiation, preconditioner: nn.Module) -> Callable[..., torch.Tensor]:
    """P as it is called; one that is linear in the gradient keeps little anyway."""
    traits = getattr(preconditioner, "traits", None)
    kept = plan.way == "unrolled" or (traits is not None and traits.linear)
    return (
        preconditioner if kept else recomputed(getattr(preconditioner, "unchecked", preconditioner))
    )


class _Recomputed:
    """A prior whose step is computed again in the backward pass."""

    def __init__(self, prior):
        self.step = recomputed(prior.step)


def recomputed(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """``function``, of which the backward pass keeps the arguments alone and computes the rest
    again.
    """
    return lambda *arguments: checkpoint(function, *arguments, use_reentrant=False)


def straight_through(denoiser: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """``denoiser(images, sigma)`` with the identity in the place of its Jacobian: the same
    values, no backward pass.
    """

    def passed(images: torch.Tensor, sigma: float | None = None) -> torch.Tensor:
        with torch.no_grad():
            denoised = denoiser(images, sigma)
        return denoised + (images - images.detach())

    return passed


def low_memory(denoiser: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    r"""``denoiser(images, sigma)`` with the same values and gradients, which keeps little for the
    backward pass.

    The Jacobian of a frozen network of convolutions and ReLUs depends on its input through the
    signs of its features alone: :math:`J=W_L^\top D_{L-1}\cdots D_1W_1`, D diagonal with entries 0
    and 1. So for deepinv's DnCNN one bit per feature is kept in the place of 32, and nothing is
    computed twice. Every other denoiser is :func:`recomputed`.

    Gradients flow to the images, not to the weights, and once (no double backward).
    """
    return _SignedDnCNN(denoiser) if _is_frozen_dncnn(denoiser) else recomputed(denoiser)


def _is_frozen_dncnn(denoiser: Any) -> bool:
    """deepinv's own two-dimensional DnCNN with 3x3 kernels, frozen, unhooked, its width a
    multiple of 8.
    """
    if type(denoiser) is not DnCNN or any(p.requires_grad for p in denoiser.parameters()):
        return False
    layers = [denoiser.in_conv, *denoiser.conv_list, denoiser.out_conv]
    plain = all(type(layer) is nn.Conv2d and layer.kernel_size == (3, 3) for layer in layers)
    return (
        plain
        and layers[0].out_channels % 8 == 0
        and all(type(layer) is nn.ReLU for layer in denoiser.nl_list)
    )


class _SignedDnCNN:
    """A frozen DnCNN whose backward pass needs the signs of its features alone."""

    def __init__(self, net: DnCNN):
        self.layers = [net.in_conv, *net.conv_list, net.out_conv]
        self._cast: dict[tuple, tuple[list, list]] = {}

    def parameters(
        self, dtype: torch.dtype
    ) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
        """Weights and biases in ``dtype``, made once while they stay as they are."""
        pairs = [(layer.weight, layer.bias) for layer in self.layers]
        state = (
            dtype,
            tuple((id(p), p._version, p.device) for pair in pairs for p in pair if p is not None),
        )
        if state not in self._cast:
            weights, biases = zip(*pairs, strict=True)
            cast = (
                [weight.to(dtype) for weight in weights],
                [None if bias is None else bias.to(dtype) for bias in biases],
            )
            self._cast = {state: cast}
        return self._cast[state]

    def __call__(self, images: torch.Tensor, sigma: float | None = None) -> torch.Tensor:
        device = images.device.type
        dtype = (
            torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else images.dtype
        )
        return _Signed.apply(images, *self.parameters(dtype))


class _Signed(torch.autograd.Function):
    """x + conv(...relu(conv(x))), every convolution 3x3 with zero padding; keeps the packed
    signs of the features.
    """

    @staticmethod
    def forward(ctx, x, weights, biases):
        maps, ctx.weights, ctx.signs = _channels_last(x.to(weights[0].dtype)), weights, []
        with torch.autocast(x.device.type, enabled=False):
            for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
                maps = torch.relu_(F.conv2d(maps, weight, bias, padding=1))
                if ctx.needs_input_grad[0]:
                    ctx.signs.append(pack(maps))
            return F.conv2d(maps, weights[-1], biases[-1], padding=1).to(x.dtype) + x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        maps, count = _channels_last(gradient.to(ctx.weights[0].dtype)), len(gradient)
        for position in range(len(ctx.weights) - 1, -1, -1):
            weight = ctx.weights[position]
            maps = conv2d_input(
                (count, weight.shape[1], *gradient.shape[2:]), weight, maps, padding=1
            )
            if position:
                maps = torch.ops.aten.threshold_backward(
                    maps, unpack(ctx.signs[position - 1], maps.dtype), 0
                )
        return maps.to(gradient.dtype) + gradient, None, None


def _channels_last(maps: torch.Tensor) -> torch.Tensor:
    return maps.contiguous(memory_format=torch.channels_last)


def pack(maps: torch.Tensor) -> torch.Tensor:
    """Which entries of non-negative (B, C, H, W), C a multiple of 8, are not 0: (B, H, W, C /
    8) bytes, a bit an entry.
    """
    last = _channels_last(maps).permute(0, 2, 3, 1).to(torch.bool)
    eights = last.reshape(-1).view(torch.int64).mul_(GATHER).bitwise_right_shift_(56)
    return eights.to(torch.uint8).reshape(*last.shape[:3], -1)


def unpack(bits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The inverse of :func:`pack`, (B, C, H, W) in ``dtype``: 0 where an entry was 0, above 0
    elsewhere.
    """
    eights = bits.to(torch.int64).mul_(SPREAD).bitwise_and_(SELECT)
    return eights.view(torch.uint8).to(dtype).permute(0, 3, 1, 2)
