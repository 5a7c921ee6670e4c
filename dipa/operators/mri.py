"""Single-coil Cartesian MRI with masks of one-dimensional Gaussian density, over deepinv's
physics and generator.
"""

from __future__ import annotations

import hashlib
from typing import Any

import deepinv
import torch
from deepinv.physics.generator import GaussianMaskGenerator

from .. import seeding
from ..checks import (
    plain_value,
    require,
    require_flag,
    require_int,
    require_kind,
    require_number,
    require_tensor,
)
from .bases import FourierBasis, HartleyBasis
from .measure import gaussian_noise, operator_sides, sigma_of


class MRI(deepinv.physics.MRI):
    r"""Single-coil MRI :math:`y = M F x + \varepsilon`, F the centred unitary 2-D Fourier
    transform, M a 0/1 mask.

    Images (2, H, W) are complex, as (re, im) channels: :math:`H^\top H` is an orthogonal projector.
    Images (1, H, W) are real: H embeds them and its adjoint keeps the real part, the variant that
    drops the imaginary part at each iteration. There :math:`H^\top H` multiplies the spectrum by
    :math:`\tfrac12(M(k)+M(-k))`, with values 0, 1/2 and 1.

    Measurements are the full masked k-space (B, 2, H, W), as in deepinv; noise falls on measured
    entries only. Made by :func:`mri` or :func:`mri_pair`.

    Source: D2GP Sec. II.A item 2, Sec. III (masks of 1-D Gaussian density); DIPA Scenario 1.
    """

    def __init__(
        self,
        mask: torch.Tensor,
        *,
        channels: int,
        acceleration: float,
        mask_seed: int | None,
        noise_sigma: float,
    ):
        super().__init__(mask=mask, noise_model=gaussian_noise(noise_sigma))
        self.img_size = (channels, *mask.shape)
        self.acceleration, self.mask_seed, self.noise_sigma = (
            float(acceleration),
            mask_seed,
            noise_sigma,
        )
        self.register_buffer("spectrum", gram_spectrum(mask, channels))

    @property
    def norm_sq(self) -> float:
        r""":math:`\|H\|_2^2`, the largest eigenvalue of the Gram."""
        return self.spectrum.max().item()

    def update_parameters(self, mask=None, **kwargs):
        """Masks are fixed at construction: raises :class:`InputError` for another one."""
        require(
            mask is None,
            "mask",
            "another mask",
            "the one this operator was made with; make another operator",
        )

    def V_adjoint(self, x: torch.Tensor) -> torch.Tensor:  # noqa: N802
        """F x: images (B, C, H, W) -> k-space (B, 2, H, W)."""
        return (
            super().V_adjoint(x)
            if self.img_size[0] == 2
            else self.from_torch_complex(self.fft(x[:, 0]))
        )

    def V(self, y: torch.Tensor) -> torch.Tensor:  # noqa: N802
        """F^H y, its real part where images are real: k-space (B, 2, H, W) -> images (B, C, H,
        W).
        """
        return super().V(y)[:, : self.img_size[0]]

    def A_A_adjoint(self, y: torch.Tensor, **kwargs) -> torch.Tensor:  # noqa: N802
        """H H^T y, through the image: dropping its imaginary part mixes k and -k."""
        return self.A(self.A_adjoint(y, **kwargs), **kwargs)

    def A_dagger(self, y: torch.Tensor, **kwargs) -> torch.Tensor:  # noqa: N802
        """The pseudo-inverse: for complex images the adjoint, for real ones averaged over k and
        -k where both are seen.
        """
        inverse = torch.where(self.spectrum > 0, 1 / self.spectrum, torch.zeros_like(self.spectrum))
        return self.V(inverse * self.V_adjoint(self.A_adjoint(y)))

    def prox_l2(
        self, z: torch.Tensor | float | None, y: torch.Tensor, gamma: float | torch.Tensor, **kwargs
    ) -> torch.Tensor:
        r""":math:`\arg\min_x\frac\gamma2\|Hx-y\|^2+\frac12\|x-z\|^2`, exactly, in the Fourier
        domain.

        ``z`` may be a number or None (zero); ``gamma`` > 0 a number or one per image (B,).
        """
        gamma = torch.as_tensor(gamma).to(self.spectrum).reshape(-1, 1, 1, 1)
        target = self.A_adjoint(y) + (0.0 if z is None else z) / gamma
        return self.V(self.V_adjoint(target) / (self.spectrum + 1 / gamma))

    def range_basis(self) -> FourierBasis | HartleyBasis:
        """Orthonormal coordinates of range(H^T): measured Fourier coefficients, for real images
        :meth:`plane_basis`.
        """
        if self.img_size[0] == 1:
            return self.plane_basis()
        return FourierBasis(self.img_size, self.mask[0].flatten().nonzero().flatten())

    def plane_basis(self) -> HartleyBasis:
        """Real Hartley functions on mask or mirrored mask, (1, H, W): real and imaginary parts
        of any H^T y.
        """
        mask = self.mask[0, 0]
        seen = mask + mirrored(mask)
        return HartleyBasis((1, *mask.shape), seen.flatten().nonzero().flatten())

    def describe(self) -> dict:
        """What makes this operator, as plain values (for cache keys and run folders); the mask
        by a hash of its entries.
        """
        record = {
            "kind": "mri",
            "img_size": list(self.img_size),
            "acceleration": self.acceleration,
            "mask_seed": self.mask_seed,
        }
        entries = bytes(self.mask[0, 0].to(torch.uint8).flatten().tolist())
        return record | {
            "noise_sigma": self.noise_sigma,
            "mask": hashlib.sha256(entries).hexdigest()[:16],
        }


def mirrored(mask: torch.Tensor) -> torch.Tensor:
    """M(-k) for M (H, W) in centred order: flipped, and shifted by one along an even axis
    (whose Nyquist entry stays).
    """
    shifts = [1 - side % 2 for side in mask.shape]
    return mask.flip((0, 1)).roll(shifts, (0, 1))


def gram_spectrum(mask: torch.Tensor, channels: int) -> torch.Tensor:
    """Eigenvalues (H, W) of the Gram on each frequency, for complex (2 channels) or real (1)
    images.
    """
    return mask.clone() if channels == 2 else (mask + mirrored(mask)) / 2


def gaussian_mask(height: int, width: int, acceleration: float, seed: int) -> torch.Tensor:
    """Mask (height, width) of whole columns, as deepinv's ``GaussianMaskGenerator`` draws it from a
    generator of that seed.

    8 % of the columns at the centre (4 % from acceleration 8 on) are always there. Raises
    :class:`InputError` where the acceleration leaves no other column.
    """
    centre = int((0.08 if acceleration < 8 else 0.04) * width)
    allowed = (
        f"a number in [1, {width / (centre + 1):.4g}] at width {width} (a column beside the "
        f"{centre} at the centre)"
    )
    require(width // acceleration > centre, "acceleration", acceleration, allowed)
    generator = GaussianMaskGenerator(
        (height, width), acceleration, rng=torch.Generator().manual_seed(seed)
    )
    return generator.step()["mask"][0, 0]


def mri(
    img_size: tuple[int, int, int],
    *,
    acceleration: float | None = None,
    mask_seed: int = 0,
    noise_sigma: float = 0.0,
    mask: torch.Tensor | None = None,
) -> MRI:
    r"""Single-coil MRI with a seeded mask of 1-D Gaussian density, or with a given one.

    Args:
        img_size: (2, H, W) for complex images as (re, im) channels, (1, H, W) for real ones; any H,
            W >= 2.
        acceleration: :math:`\mathrm{AF}=n/\|M\|_0\ge1`; the mask has floor(W / AF) columns, all of
            them at 1. None with a given mask, whose own it then is.
        mask_seed: seed of the generator the mask is drawn from, an integer >= 0;
            ``torch.Generator().initial_seed()`` gives the mask of deepinv's generator without an
            explicit seed.
        noise_sigma: standard deviation of the Gaussian noise on the real and on the imaginary part
            of each measured entry, >= 0. Draw it with :func:`~dipa.operators.measure.measure`, or
            ``physics(x, seed=...)``.
        mask: 0/1 tensor (H, W) in centred order, instead of a drawn one; ``mask_seed`` is then not
            used.

    Raises:
        InputError: a size that is not three such integers, an acceleration below 1 or too large for
            the width, a negative seed or noise, a mask that is no 0/1 tensor (H, W) with a one.
    """
    channels, height, width = operator_sides(img_size, lambda side: side >= 2, "an integer >= 2")
    require(channels in (1, 2), "img_size channels", channels, "2 (complex, re and im) or 1 (real)")
    noise_sigma = sigma_of(noise_sigma)
    mask_seed, drawn = require_int("mask_seed", mask_seed, 0, 2**63 - 1), mask is None
    if mask is None:
        acceleration = require_number("acceleration", acceleration, 1)
        mask = gaussian_mask(height, width, acceleration, mask_seed)
    else:
        if acceleration is not None:
            acceleration = require_number("acceleration", acceleration, 1)
        mask = _given(mask, (height, width))
    acceleration = mask.numel() / mask.sum().item() if acceleration is None else acceleration
    return MRI(
        mask,
        channels=channels,
        acceleration=acceleration,
        mask_seed=mask_seed if drawn else None,
        noise_sigma=noise_sigma,
    )


def _given(mask: Any, shape: tuple[int, int]) -> torch.Tensor:
    tensor = isinstance(mask, torch.Tensor) and tuple(mask.shape) == shape
    got = tuple(mask.shape) if isinstance(mask, torch.Tensor) else type(mask).__name__
    require(tensor, "mask", got, f"a tensor of shape {shape}")
    require_tensor("mask", mask)
    require(not mask.is_complex(), "mask.dtype", mask.dtype, "a real type")
    binary = bool(((mask == 0) | (mask == 1)).all()) and bool(mask.any())
    require(binary, "mask", "other values", "zeros and ones, one of them at least")
    return mask.detach().cpu().float()


def mri_pair(
    img_size: tuple[int, int, int],
    *,
    acceleration: float,
    teacher_acceleration: float,
    mask_seed: int = 0,
    nested: bool = True,
    noise_sigma: float = 0.0,
) -> tuple[MRI, MRI]:
    """Student and teacher: the student measures with ``acceleration``, the virtual teacher with a
    smaller one.

    The student is :func:`mri` of the same arguments. With ``nested`` the teacher's mask comes from
    the same seed and holds the student's columns: where deepinv's draw misses some, they replace as
    many of its outermost other columns, so that both column counts stay those of the generator.
    Without, it is drawn from a seed of its own.

    Raises:
        InputError: as :func:`mri`; a teacher acceleration outside [1, ``acceleration``].
    """
    student = mri(img_size, acceleration=acceleration, mask_seed=mask_seed, noise_sigma=noise_sigma)
    teacher_acceleration = require_number(
        "teacher_acceleration", teacher_acceleration, 1, plain_value(acceleration)
    )
    nested = require_flag("nested", nested)
    seed = mask_seed if nested else seeding.derive(mask_seed, "teacher mask")
    teacher = mri(
        img_size, acceleration=teacher_acceleration, mask_seed=seed, noise_sigma=noise_sigma
    )
    if not nested:
        return student, teacher
    mask = nested_columns(student.mask[0, 0], teacher.mask[0, 0])
    common = {
        "channels": teacher.img_size[0],
        "acceleration": teacher_acceleration,
        "mask_seed": seed,
    }
    return student, MRI(mask, **common, noise_sigma=teacher.noise_sigma)


def nested_columns(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The teacher's mask (H, W) with the student's columns in the place of as many outermost
    columns of its own.
    """
    inner, outer = student[0] > 0, teacher[0] > 0
    missing = int((inner & ~outer).sum())
    distance = (torch.arange(len(inner)) - len(inner) // 2).abs()
    rank = torch.where(outer & ~inner, distance, -1)
    kept = outer | inner
    kept[rank.argsort(descending=True, stable=True)[:missing]] = False
    return kept.to(teacher.dtype).expand_as(teacher).contiguous()


def unshared_columns(student: MRI, teacher: MRI) -> int:
    """How many columns of k-space the student measures and the teacher does not: 0 where their
    masks are nested.

    Both of masks of whole columns and of one size. Raises :class:`InputError` where the sizes
    differ.
    """
    require_kind("student", student, MRI, "an")
    require_kind("teacher", teacher, MRI, "an")
    one, two = student.mask[0, 0], teacher.mask[0, 0]
    require(
        one.shape == two.shape,
        "teacher.mask.shape",
        tuple(two.shape),
        f"{tuple(one.shape)}, as the student's",
    )
    return int(((one > 0) & ~(two > 0)).any(dim=0).sum())
