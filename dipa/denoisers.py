"""Denoisers by name: the packaged one (works offline) and deepinv's own weights.

``dncnn-bsds500``
    DnCNN of deepinv's architecture (20 layers, 64 features, grey, sigma = 2/255) trained by this
    project on the BSDS500 train photographs (``scripts/train_denoiser.py``); its training record is
    in the file's header, and with it the terms of those photographs: non-commercial research and
    education.
``dncnn-deepinv``
    deepinv's weights for the same network, the papers' denoiser: from the file named by the
    environment variable ``DIPA_DNCNN``, else from ``weights/dncnn_sigma2_gray.pth`` under
    ``DIPA_DATA``, else downloaded into ``DIPA_CACHE``. deepinv's own download and torch's cache are
    not used: deepinv unpickles whatever lies there, unchecked. Whatever the file's origin, its
    whole SHA-256 is compared before it is opened, and it is then read without running code. The
    address names the revision of Hugging Face's ``deepinv/dncnn`` that other projects on deepinv
    pin too; should it ever serve something else, the SHA-256 refuses it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import urllib.request
import warnings
from pathlib import Path

import torch
from deepinv.models import DnCNN
from torch import nn

from . import choices, files, paths, storage
from .checks import InputError, require_choice, require_file

NAMES = choices.DENOISERS
PACKAGED = Path(__file__).parent / "weights" / "dncnn_bsds500_sigma2.safetensors"
DEEPINV_FILE = "dncnn_sigma2_gray.pth"
DEEPINV_SHA256 = "be3c1a4fb240c8a001188e33f2149c25474b78d0e2882a39eba63af3616cf81d"
DEEPINV_BYTES = 2_676_535
DEEPINV_URL = f"https://huggingface.co/deepinv/dncnn/resolve/3bb1f2a95321781343331069776c3eba98707a56/{DEEPINV_FILE}"
SECONDS = 60  # without an answer, after which a download is given up


def load(name: str = "dncnn-bsds500") -> nn.Module:
    """A frozen grey denoiser in evaluation mode: ``denoiser(images, sigma)`` on (B, 1, H, W) in [0,
    1].

    Both networks ignore ``sigma``: they are trained for 2/255. Raises :class:`InputError` for an
    unknown name, a missing or damaged weight file, or a failed download.
    """
    require_choice("denoiser", name, NAMES)
    net = _packaged() if name == "dncnn-bsds500" else _deepinv()
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def training_record() -> dict:
    """How the packaged weights were made, and the terms they are under: data, recipe, versions,
    seconds, training PSNR.
    """
    return storage.read_tensors(PACKAGED)[1]


def fingerprint(denoiser: nn.Module) -> str:
    """SHA-256 of a denoiser's weights, for cache keys and run folders."""
    return storage.sha256_tensors(denoiser.state_dict())


def _packaged() -> DnCNN:
    net = DnCNN(1, 1, pretrained=None)
    net.load_state_dict(storage.read_weights(PACKAGED)[0], strict=True)
    return net


def local_deepinv_weights() -> Path | None:
    """The local file of deepinv's grey DnCNN weights, or None where neither variable names one."""
    named, data = paths.denoiser_file(), paths.data_directory()
    if named is not None:
        require_file("DIPA_DNCNN", named, f"point it at {DEEPINV_FILE} or unset it to download")
        return named
    path = data and data / "weights" / DEEPINV_FILE
    return path if path and path.is_file() else None


def _deepinv() -> DnCNN:
    path = local_deepinv_weights()
    content = _downloaded() if path is None else _verified(str(path), _read(path))
    net = DnCNN(1, 1, pretrained=None)
    net.load_state_dict(
        torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"), strict=True
    )
    return net


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(DEEPINV_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _verified(name: str, content: bytes) -> bytes:
    """The bytes of deepinv's file; anything else is refused by name, saying what it is."""
    if hashlib.sha256(content).hexdigest() != DEEPINV_SHA256:
        raise InputError(
            f"{name}: {_what(content)}, not deepinv's {DEEPINV_FILE} (SHA-256 "
            f"{DEEPINV_SHA256}); fetch it again"
        )
    return content


def _what(content: bytes) -> str:
    if not content:
        return "an empty file"
    if content.lstrip()[:1] == b"<":
        return "an HTML page"
    cut = len(content) < DEEPINV_BYTES and content.startswith(b"PK\3\4")
    return f"truncated: {len(content):,} of {DEEPINV_BYTES:,} bytes" if cut else "another file"


def _downloaded() -> bytes:
    """The bytes of deepinv's file, from our cache where they are there and right, else fetched
    and kept there.
    """
    path = paths.cache_directory() / "weights" / DEEPINV_FILE
    with contextlib.suppress(InputError):  # absent or damaged: fetched again
        return _verified(str(path), _read(path))
    content = _verified(DEEPINV_URL, _fetched())
    try:
        files.write_bytes(path, content)
    except OSError as error:
        warnings.warn(f"{error}; set DIPA_CACHE to a folder that can be written", stacklevel=2)
    return content


def _fetched() -> bytes:
    try:
        with urllib.request.urlopen(DEEPINV_URL, timeout=SECONDS) as answer:
            return answer.read(DEEPINV_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        # no network, or an answer that breaks off
        advice = (
            f"set DIPA_DNCNN to a local {DEEPINV_FILE}, or use denoiser 'dncnn-bsds500', which "
            f"works offline"
        )
        raise InputError(
            f"denoiser: 'dncnn-deepinv' could not be downloaded ({type(error).__name__}); {advice}"
        ) from error
