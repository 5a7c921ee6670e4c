"""What a training is refused or warned for before its first step, beside arguments out of range."""

from __future__ import annotations

import warnings

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .. import seeding
from ..checks import require
from ..solvers import FISTA

FASTEST = 2.0  # of alpha times the norm: beyond, a gradient step moves away
ROUNDING, APPLICATIONS = 0.05, 30  # of the power method


def require_wide(images: torch.Tensor) -> None:
    """Refuse images in half precision: iterates and losses need more than it holds."""
    wide = images.dtype in (torch.float32, torch.float64)
    allowed = "float32 or float64; a prior with precision='auto' computes in halves where it can"
    require(wide, "images.dtype", images.dtype, allowed)


def require_repeats(solver: FISTA, images: torch.Tensor) -> None:
    """Refuse a prior that keeps something from call to call: what is fitted with it is of no use
    afterwards.
    """
    if callable(repeats := getattr(solver.prior, "require_repeats", None)):
        repeats(images[:1])


def warn_few_images(module: nn.Module, images: torch.Tensor) -> None:
    """One warning where more numbers are trained than the training images hold."""
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    if trained > images.numel():
        warnings.warn(
            f"images: {len(images)} with {images.numel():,} numbers in all, fewer than the "
            f"{trained:,} that are trained: expect no gain on other images; use more images or a "
            f"smaller preconditioner",
            stacklevel=4,
        )


@torch.no_grad()
def require_contraction(
    name: str,
    physics: LinearPhysics,
    stepsize: float,
    images: torch.Tensor,
    preconditioner: nn.Module | None,
) -> None:
    r"""Refuse a stepsize with which the data gradient's steps grow without bound.

    The error moves by :math:`I-\alpha PH^\top H`: :math:`\alpha\rho(PH^\top H)\le 2` is asked, the
    spectral radius by a power method on one image. A P that does not declare itself linear has
    none: it is taken for the identity.
    """
    linear = getattr(getattr(preconditioner, "traits", None), "linear", False)
    v = torch.randn((1, *images.shape[1:]), generator=seeding.generator(0, "contraction"))
    v, radius = v.to(images), 0.0
    for _ in range(APPLICATIONS):
        v = v / v.norm().clamp_min(torch.finfo(v.dtype).tiny)
        v_next = physics.A_adjoint_A(v)
        v_next = preconditioner(v_next, v, 1) if preconditioner and linear else v_next
        radius, v = v_next.norm().item(), v_next
    most = FASTEST * (1 + ROUNDING)
    require(
        not stepsize * radius > most,
        "stepsize" if name == "student" else f"{name}_stepsize",
        f"{stepsize:.4g}",
        f"at most 2/L = {FASTEST / max(radius, 1e-30):.4g} for this {name}; '1/L' always fits",
    )
