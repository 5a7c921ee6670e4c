"""The three tasks of the papers as configuration: each says what it needs, checks it, and makes
its two operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..checks import plain_fields, require, require_choice, require_int, require_number
from ..choices import ORDERINGS

if TYPE_CHECKING:
    from deepinv.physics import LinearPhysics

    Pair = tuple[LinearPhysics, LinearPhysics]


@dataclass(frozen=True)
class SinglePixelTask:
    """Single-pixel camera: one ordering, the compression ratios of student and teacher. D2GP
    Sec. II.A item 1.
    """

    kind: str = "single_pixel"
    size: int = 32
    ratio: float = 0.2
    teacher_ratio: float = 0.7
    ordering: str = "cake_cutting"
    noise_sigma: float = 0.0

    channels: ClassVar[int] = 1

    def __post_init__(self):
        plain_fields(self)
        require_choice("task.kind", self.kind, ("single_pixel",))
        require(self.size in (8, 16, 32, 64, 128), "task.size", self.size, "8, 16, 32, 64 or 128")
        require_number("task.ratio", self.ratio, 0, 1, open_low=True)
        require_number("task.teacher_ratio", self.teacher_ratio, 0, 1, open_low=True)
        require_choice("task.ordering", self.ordering, ORDERINGS)
        require_number("task.noise_sigma", self.noise_sigma, 0)

    def pair(self) -> Pair:
        """Student and teacher operators."""
        from .. import operators

        shape = (1, self.size, self.size)
        student, teacher = (
            operators.single_pixel(
                shape, ratio=ratio, ordering=self.ordering, noise_sigma=self.noise_sigma
            )
            for ratio in (self.ratio, self.teacher_ratio)
        )
        return student, teacher


@dataclass(frozen=True)
class MriTask:
    """Single-coil MRI: one-dimensional Gaussian masks of two acceleration factors, nested or not.
    D2GP Sec. II.A item 2.

    ``real`` drops the imaginary part at every iteration: images have one channel instead of two.
    """

    kind: str = "mri"
    size: int = 50
    acceleration: float = 5.0
    teacher_acceleration: float = 1.0
    mask_seed: int = 0
    nested: bool = True
    real: bool = False
    noise_sigma: float = 0.0

    def __post_init__(self):
        plain_fields(self)
        require_choice("task.kind", self.kind, ("mri",))
        require_int("task.size", self.size, 8, 512)
        require_number("task.acceleration", self.acceleration, 1, self.size)
        require_number("task.teacher_acceleration", self.teacher_acceleration, 1, self.size)
        require_int("task.mask_seed", self.mask_seed, 0, 2**31 - 1)
        require_number("task.noise_sigma", self.noise_sigma, 0)

    @property
    def channels(self) -> int:
        """Real and imaginary part, or the real part alone."""
        return 1 if self.real else 2

    def pair(self) -> Pair:
        """Student and teacher operators."""
        from .. import operators

        return operators.mri_pair(
            (self.channels, self.size, self.size),
            acceleration=self.acceleration,
            teacher_acceleration=self.teacher_acceleration,
            mask_seed=self.mask_seed,
            nested=self.nested,
            noise_sigma=self.noise_sigma,
        )


@dataclass(frozen=True)
class SuperResolutionTask:
    """Super-resolution: a 9 x 9 Gaussian blur and decimation by two resolution factors. D2GP
    Sec. II.A item 3.
    """

    kind: str = "super_resolution"
    size: int = 110
    factor: int = 4
    teacher_factor: int = 1
    noise_sigma: float = 0.0

    channels: ClassVar[int] = 1

    def __post_init__(self):
        plain_fields(self)
        require_choice("task.kind", self.kind, ("super_resolution",))
        require_int("task.size", self.size, 12, 512)
        require_int("task.factor", self.factor, 1, 16)
        require_int("task.teacher_factor", self.teacher_factor, 1, 16)
        require_number("task.noise_sigma", self.noise_sigma, 0)

    def pair(self) -> Pair:
        """Student and teacher operators."""
        from .. import operators

        shape = (1, self.size, self.size)
        student, teacher = (
            operators.super_resolution(shape, factor=factor, noise_sigma=self.noise_sigma)
            for factor in (self.factor, self.teacher_factor)
        )
        return student, teacher


Task = SinglePixelTask | MriTask | SuperResolutionTask
TASKS: dict[str, type] = {
    "single_pixel": SinglePixelTask,
    "mri": MriTask,
    "super_resolution": SuperResolutionTask,
}
