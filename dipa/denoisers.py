"""Denoisers by name: the packaged one (works offline) and deepinv's own weights.

``dncnn-bsds500``
    DnCNN of deepinv's architecture (20 layers, 64 features, grey, sigma = 2/255) trained by this project on the
    BSDS500 train photographs (:mod:`dipa.training.denoiser`); its training record is in the file's header, and with it
    the terms of those photographs: non-commercial research and education.
``dncnn-deepinv``
    deepinv's weights for the same network, the papers' denoiser: from the file named by the environment variable
    ``DIPA_DNCNN``, else from ``weights/dncnn_sigma2_gray.pth`` under ``DIPA_DATA``, else by deepinv's download.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from deepinv.models import DnCNN
from torch import nn

from . import files
from .checks import InputError, require_choice, require_file

NAMES = ("dncnn-bsds500", "dncnn-deepinv")
PACKAGED = Path(__file__).parent / "weights" / "dncnn_bsds500_sigma2.safetensors"
DEEPINV_SHA256 = "be3c1a4f"  # first digits of deepinv's dncnn_sigma2_gray.pth


def load(name: str = "dncnn-bsds500") -> nn.Module:
    """A frozen grey denoiser in evaluation mode: ``denoiser(images, sigma)`` on (B, 1, H, W) in [0, 1].

    Both networks ignore ``sigma``: they are trained for 2/255. Raises :class:`InputError` for an unknown name, a
    missing or damaged weight file, or a failed download.
    """
    require_choice("denoiser", name, NAMES)
    net = _packaged() if name == "dncnn-bsds500" else _deepinv()
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def training_record() -> dict:
    """How the packaged weights were made, and the terms they are under: data, recipe, versions, seconds, training PSNR."""
    return files.read_tensors(PACKAGED)[1]


def fingerprint(denoiser: nn.Module) -> str:
    """SHA-256 of a denoiser's weights, for cache keys and run folders."""
    return files.sha256_tensors(denoiser.state_dict())


def _packaged() -> DnCNN:
    net = DnCNN(1, 1, pretrained=None)
    net.load_state_dict(files.read_tensors(PACKAGED)[0], strict=True)
    return net


def local_deepinv_weights() -> Path | None:
    """The local file of deepinv's grey DnCNN weights, or None where neither variable names one."""
    if "DIPA_DNCNN" in os.environ:
        path = Path(os.environ["DIPA_DNCNN"])
        require_file("DIPA_DNCNN", path, "point it at dncnn_sigma2_gray.pth or unset it to download")
        return path
    path = Path(os.environ.get("DIPA_DATA", "")) / "weights" / "dncnn_sigma2_gray.pth"
    return path if "DIPA_DATA" in os.environ and path.is_file() else None


def _deepinv() -> DnCNN:
    path = local_deepinv_weights()
    if path is None:
        return _download()
    if not files.sha256_file(path).startswith(DEEPINV_SHA256):
        raise InputError(
            f"{path}: not deepinv's dncnn_sigma2_gray.pth (its SHA-256 starts with {DEEPINV_SHA256}); fetch it again"
        )
    net = DnCNN(1, 1, pretrained=None)
    net.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return net


def _download() -> DnCNN:
    try:
        return DnCNN(1, 1, pretrained="download")
    except OSError as error:  # what urllib and requests raise without a network
        advice = "set DIPA_DNCNN to a local dncnn_sigma2_gray.pth, or use denoiser 'dncnn-bsds500', which works offline"
        raise InputError(f"denoiser: 'dncnn-deepinv' could not be downloaded ({type(error).__name__}); {advice}") from error
