"""Image quality, by deepinv's metrics. PSNR is in dB for data range 1, without clipping.

Images are real batches (B, C, H, W) of one shape, dtype and device; anything else is an
:class:`InputError`.
"""

from __future__ import annotations

import torch
from deepinv.loss.metric import PSNR, SSIM

from .checks import require, require_int, require_same_images

SMALLEST = 6  # pixels a side: the 11 x 11 window of SSIM is mirrored at the edges


def psnr(x: torch.Tensor, x_true: torch.Tensor) -> torch.Tensor:
    """PSNR of each image (B,), capped by deepinv at 80 dB for identical images."""
    require_same_images(x=x, x_true=x_true)
    return PSNR()(x, x_true)


def ssim(x: torch.Tensor, x_true: torch.Tensor) -> torch.Tensor:
    """Structural similarity of each image (B,), on images of at least 6 x 6 pixels."""
    require_same_images(x=x, x_true=x_true)
    require(
        min(x.shape[2:]) >= SMALLEST,
        "x.shape",
        tuple(x.shape),
        f"H and W >= {SMALLEST} (the window of SSIM)",
    )
    return SSIM()(x, x_true)


def psnr_batch_mse(x: torch.Tensor, x_true: torch.Tensor, batch_size: int) -> float:
    """The authors' convention: PSNR of the mean squared error over a batch, averaged over batches
    by their size.

    Capped like :func:`psnr` at 80 dB for identical images, and never above the mean of :func:`psnr`
    over the same images (Jensen's inequality).
    """
    require_same_images(x=x, x_true=x_true)
    batch_size = require_int("batch_size", batch_size, 1)
    batches = zip(x.split(batch_size), x_true.split(batch_size), strict=True)
    return sum(
        PSNR()(a.reshape(1, -1), b.reshape(1, -1)).item() * len(a) for a, b in batches
    ) / len(x)


def magnitude(images: torch.Tensor) -> torch.Tensor:
    """The modulus of complex images kept as two channels (re, im): (B, 2, H, W) -> (B, 1, H, W)."""
    require_same_images(2, images=images)
    return images.square().sum(dim=1, keepdim=True).sqrt()


def summary(x: torch.Tensor, x_true: torch.Tensor, batch_size: int) -> dict[str, float]:
    """Both PSNR conventions, the standard deviation over images, and SSIM; for complex images the
    PSNR of the modulus too.

    The squared error of a complex image is averaged over its 2 H W numbers, as the authors' code
    does: where the imaginary part is nearly right that is 3 dB above the PSNR of the modulus.
    """
    values = psnr(x, x_true)
    deviation = values.std().item() if len(values) > 1 else 0.0
    modulus = (
        {"psnr_magnitude": psnr(magnitude(x), magnitude(x_true)).mean().item()}
        if x.shape[1] == 2
        else {}
    )
    return modulus | {
        "psnr": values.mean().item(),
        "psnr_sd_images": deviation,
        "psnr_batch_mse": psnr_batch_mse(x, x_true, batch_size),
        "ssim": ssim(x, x_true).mean().item(),
    }
