"""Depthwise convolution with a weight gradient that is fast on the CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def depthwise_conv(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Each channel of (B, C, H, W) convolved with its own odd square kernel, zero padding: the same
    shape.

    ``weight`` is (C, 1, s, s), ``bias`` (C,). Same numbers as :func:`torch.nn.functional.conv2d`;
    only the order in which the gradient of the weights is summed differs, and only on the CPU.
    """
    if x.device.type != "cpu":
        return _convolve(x, weight, bias)
    return _DepthwiseConv.apply(x, weight, bias)


def _convolve(
    x: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    return F.conv2d(x, kernels, bias, padding=kernels.shape[-1] // 2, groups=kernels.shape[0])


class _DepthwiseConv(torch.autograd.Function):
    """The convolution with its weight gradient written as a convolution too.

    oneDNN's own weight gradient costs about ten times its input gradient. The same sums are a
    depthwise convolution of each image with its output gradient as kernel, at full speed. Every
    step is differentiable, so second derivatives, forward mode and vmap work.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x, weight, bias):
        return _convolve(x, weight, bias)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = _convolve(gradient, weight.flip(2, 3).to(gradient.dtype)).to(x.dtype)
        if ctx.needs_input_grad[1]:
            to_weight = _weight_gradient(
                x.to(gradient.dtype), gradient, weight.shape[-1] // 2, weight.dtype
            )
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum((0, 2, 3), dtype=weight.dtype)
        return to_x, to_weight, to_bias

    @staticmethod
    def jvp(ctx, x_tangent, weight_tangent, bias_tangent):
        x, weight = ctx.saved_tensors
        terms = []
        if x_tangent is not None:
            terms.append(_convolve(x_tangent, weight))
        if weight_tangent is not None:
            terms.append(_convolve(x, weight_tangent))
        if bias_tangent is not None:
            terms.append(bias_tangent[:, None, None].expand_as(x))
        return sum(terms)


def _weight_gradient(
    x: torch.Tensor, gradient: torch.Tensor, padding: int, dtype: torch.dtype
) -> torch.Tensor:
    """Sum over images of the correlation of x with the output gradient: (C, 1, s, s).

    Image by image: all of them as one convolution would put neighbouring pixels a power of two
    apart in memory, where they evict each other from the cache.
    """
    pairs = zip(x.split(1), gradient.split(1), strict=True)
    maps = [
        F.conv2d(image, kernel.transpose(0, 1), padding=padding, groups=x.shape[1])
        for image, kernel in pairs
    ]
    return torch.cat(maps).sum(0, dtype=dtype).unsqueeze(1)
