"""Images as wavelet coefficients: an orthonormal basis, in front of any operator."""

from __future__ import annotations

import warnings
from typing import Any, cast

import numpy as np
import pywt
import torch
from deepinv.physics import LinearPhysics, compose

from ..checks import require, require_choice, require_int, require_tensor
from ..physics import require_operator

WAVELETS = tuple(name for family in ("haar", "db", "sym", "coif") for name in pywt.wavelist(family))


class WaveletSynthesis(LinearPhysics):
    r"""Images from their wavelet coefficients: :math:`c\mapsto W^\top c`, the adjoint of the
    orthonormal transform W. The borders are periodic, which keeps it orthonormal and as many
    coefficients as pixels: (B, C, H, W) both, the coarsest scale in the upper left corner. It is
    differentiable as often as one likes. PyWavelets computes it, on the processor.

    Args:
        wavelet: an orthogonal one of PyWavelets: a name of the families haar, db, sym and coif.
        level: scales, >= 1; H and W are multiples of :math:`2^{level}`.

    Raises:
        InputError: another wavelet or level; images of other sides or of no real float type.

    Source: the transform of "Accelerating Optimization Algorithms With Dynamic Parameter Selections
    Using CNNs" (arXiv 1902.02449), section 6.1: symlets of order 4, three levels. deepinv's
    ``WaveletPrior`` works in a redundant transform.
    """

    def __init__(self, wavelet: str = "sym4", level: int = 3):
        require_choice("wavelet", wavelet, WAVELETS)
        super().__init__()
        self.wavelet, self.level = wavelet, require_int("level", level, 1)

    def A(self, c: torch.Tensor, **_: Any) -> torch.Tensor:  # noqa: N802
        """The images of coefficients (B, C, H, W)."""
        return self._transformed(c, back=True)

    def A_adjoint(self, x: torch.Tensor, **_: Any) -> torch.Tensor:  # noqa: N802
        """The coefficients of images (B, C, H, W)."""
        return self._transformed(x, back=False)

    def A_dagger(self, x: torch.Tensor, **_: Any) -> torch.Tensor:  # noqa: N802
        """The same: W is orthonormal."""
        return self.A_adjoint(x)

    def _transformed(self, values: torch.Tensor, back: bool) -> torch.Tensor:
        require_tensor("images", values)
        fine = values.ndim == 4 and all(side % 2**self.level == 0 for side in values.shape[-2:])
        allowed = f"(B, C, H, W), H and W multiples of {2**self.level}"
        require(fine, "images", tuple(values.shape), allowed)
        real = values.dtype in (torch.float32, torch.float64)
        require(real, "images", values.dtype, "float32 or float64")
        return cast(torch.Tensor, _Transform.apply(values, self.wavelet, self.level, back))


def in_wavelets(physics: LinearPhysics, wavelet: str = "sym4", level: int = 3) -> LinearPhysics:
    r"""``physics`` on coefficients: :math:`A=HW^\top`.

    It takes the measurements that ``physics`` makes; its images, and those that its adjoint gives,
    are wavelet coefficients (:class:`WaveletSynthesis`). L is the same, and so is the noise model,
    but for what an operator does with noise besides: deepinv's inpainting has none outside its
    mask, which a composed one has.

    Args:
        physics: a deepinv linear operator H on images.
        wavelet: as of :class:`WaveletSynthesis`.
        level: as of :class:`WaveletSynthesis`.

    Returns:
        deepinv's composed operator: ``found[0]`` is the synthesis, ``found[1]`` is ``physics``.

    Raises:
        InputError: an operator that is not linear; another wavelet or level.
    """
    synthesis = WaveletSynthesis(wavelet, level)
    require_operator("physics", physics)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="At least one input physics is a Decomposable")
        composed = cast(LinearPhysics, compose(synthesis, physics))
    composed.on_coefficients = True  # dipa.physics.warn_range: of any value
    return composed


class _Transform(torch.autograd.Function):
    """W or its adjoint; each is the derivative of the other."""

    generate_vmap_rule = False

    @staticmethod
    def forward(values: torch.Tensor, wavelet: str, level: int, back: bool) -> torch.Tensor:
        """Computed by PyWavelets."""
        transform = _synthesised if back else _analysed
        found = transform(values.detach().cpu().numpy(), wavelet, level)
        return torch.from_numpy(found).to(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        """What the derivative needs."""
        ctx.settings = inputs[1:]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """The adjoint."""
        wavelet, level, back = ctx.settings
        return _Transform.apply(gradient, wavelet, level, not back), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, *_: Any) -> torch.Tensor:
        """The transform is linear."""
        return cast(torch.Tensor, _Transform.apply(tangent, *ctx.settings))

    @staticmethod
    def vmap(info: Any, in_dims: Any, values: torch.Tensor, *settings: Any) -> tuple[Any, int]:
        """All at once: what is mapped over joins the images."""
        moved = values.movedim(in_dims[0], 0)
        found = _Transform.apply(moved.flatten(0, 1), *settings)
        return found.reshape(moved.shape), 0


def _analysed(images: np.ndarray, wavelet: str, level: int) -> np.ndarray:
    """Scale by scale, each in the place of the approximation before."""
    found = images.copy()
    height, width = images.shape[-2:]
    for _ in range(level):
        parts = pywt.dwt2(found[..., :height, :width], wavelet, mode="periodization")
        height, width = height // 2, width // 2
        for place, part in zip(_quarters(found, height, width), _flat(parts), strict=True):
            place[...] = part
    return found


def _synthesised(coefficients: np.ndarray, wavelet: str, level: int) -> np.ndarray:
    """The other way, from the coarsest scale."""
    found = coefficients.copy()
    for scale in range(level, 0, -1):
        height, width = (side >> scale for side in coefficients.shape[-2:])
        first, *others = _quarters(found, height, width)
        image = pywt.idwt2((first, tuple(others)), wavelet, mode="periodization")
        found[..., : 2 * height, : 2 * width] = image
    return found


def _flat(parts: Any) -> list[np.ndarray]:
    approximation, details = parts
    return [approximation, *details]


def _quarters(image: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """Approximation, horizontal, vertical and diagonal details, as views."""
    rows = (slice(0, height), slice(height, 2 * height))
    columns = (slice(0, width), slice(width, 2 * width))
    return [image[..., row, column] for column in columns for row in rows]
