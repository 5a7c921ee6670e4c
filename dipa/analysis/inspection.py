r"""A look at an operator before anything is trained: is it what the formulas take for granted, what
is there to gain, and which form of P fits.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from deepinv.physics.noise import ZeroNoise

from ..adjoint import Probe, norm, normal_like, parts, probe, repeat_error
from ..checks import foreign, require, require_images
from ..operators.ranges import has_range_basis
from ..physics import image_size, numbers_of, require_operator, require_takes
from . import singular
from .forms import Known, Recommendation, Room, recommend
from .singular import Spectrum

MAX_PIXELS = 4096  # of an operator whose matrix is looked at: its eigenvalues cost n^3
REPEATS = 5  # of which the median is told
# deepinv's names for the level of a noise model
LEVELS = ("sigma", "gain", "a", "l", "N0", "mu")


@dataclass(frozen=True)
class Inspection:
    r"""What :func:`inspect` found; ``str()`` is the printed report.

    Attributes:
        operator: the name of its class.
        img_size: (C, H, W) of the images; n = C H W.
        measured: the shape of each tensor of the measurements of one image.
        dtype, device: of the images it was looked at with.
        linearity: :math:`\|H(u+v)-Hu-Hv\|/(\|Hu\|+\|Hv\|)`, at most ``tolerance``.
        repeats: how much A of one image changes from call to call, relative, at most ``tolerance``.
        adjoint: the error of the dot test, relative, see :class:`dipa.adjoint.Probe`.
        adjoint_holds: whether that is at most ``tolerance``.
        tolerance: 0.001; of half precisions the square root of their rounding.
        spectrum: :math:`L=\|H\|_2^2`, condition number on the range and rank.
        channels_alone: whether :math:`H^\top H` acts on each channel alone.
        channels_alike: whether it also does the same to each.
        shift_invariant: whether :math:`H^\top H` commutes with periodic shifts, up to rounding:
            diagonal after a discrete Fourier transform.
        projector: whether :math:`(H^\top H)^2=c\,H^\top H`: the fixed preconditioners are then
            mere stepsizes.
        noise: the class of each of deepinv's noise models, none for no noise.
        noise_levels: their levels by name, such as ``sigma``.
        noise_share: :math:`\|\varepsilon\|/\|Hx\|` over the given images; None without images or
            noise.
        seconds, adjoint_seconds: of one application of A and of A_adjoint to one image (medians).
        room: bytes of P in each form, and what is free.
        recommended: a form of P, and why.
    """

    operator: str
    img_size: tuple[int, int, int]
    measured: tuple[tuple[int, ...], ...]
    dtype: str
    device: str
    linearity: float
    repeats: float
    adjoint: float
    adjoint_holds: bool
    tolerance: float
    spectrum: Spectrum
    channels_alone: bool
    channels_alike: bool
    shift_invariant: bool
    projector: bool
    noise: tuple[str, ...]
    noise_levels: dict[str, float]
    noise_share: float | None
    seconds: float
    adjoint_seconds: float
    room: Room
    recommended: Recommendation

    @property
    def pixels(self) -> int:
        """n = C H W, the numbers in an image."""
        return math.prod(self.img_size)

    @property
    def null_share(self) -> float | None:
        """(n - r) / n, the share of directions that H does not see; None without a rank."""
        rank = self.spectrum.rank
        return None if rank is None else (self.pixels - rank) / self.pixels

    @property
    def stepsize(self) -> float | None:
        """1 / L; None where L is zero or unknown."""
        return 1 / self.spectrum.squared_norm if self.spectrum.squared_norm else None

    def plain(self) -> dict[str, Any]:
        """Everything as plain values that JSON can hold."""
        further = {"null_share": self.null_share, "stepsize": self.stepsize}
        return _listed(asdict(self) | further)

    def __str__(self) -> str:
        shapes = " and ".join(str(shape) for shape in self.measured)
        head = f"{self.operator}: images {self.img_size}, measurements {shapes}"
        rows = [*_soundness(self), *_numbers(self), *_structure(self), *_costs(self)]
        rows += [("recommended", self.recommended.form)]
        rows += [("", f"- {reason}") for reason in self.recommended.reasons]
        lines = [f"  {name:<18}  {text}" for name, text in rows]
        return "\n".join([f"{head} ({self.dtype} on {self.device})", *lines])


@torch.no_grad()
def inspect(
    physics: LinearPhysics,
    img_size: tuple[int, int, int] | None = None,
    *,
    images: torch.Tensor | None = None,
) -> Inspection:
    r"""A check of any deepinv ``LinearPhysics`` before anything is trained.

    Asked of random images, each error relative: :math:`H(u+v)=Hu+Hv`, A twice the same, the dot
    test :math:`\langle Hx,w\rangle=\langle x,H^\top w\rangle` (the real inner product of complex
    measurements, the sum over several tensors), whether :math:`H^\top H` mixes channels, commutes
    with shifts, is a projector. Norm, condition number on the range and rank are exact for at most
    4,096 numbers in an image (its matrix is computed where it fits a quarter of the free memory)
    and for shift-invariant operators of any size; else bounds and estimates, as
    ``spectrum.how`` says.

    Args:
        physics: the operator H, with its noise model. Measurements may be several tensors.
        img_size: (C, H, W), where neither the operator nor ``images`` carries it.
        images: (B, C, H, W) in the range that will be used: noise is then told relative to what
            is measured of them.

    Returns:
        :class:`Inspection`. A wrong adjoint is reported, not refused.

    Raises:
        InputError: no operator with A and A_adjoint, or one that cannot take such images one by
            one, that is not linear, or that draws anew at every call; images that are none.

    Source: this project's; the estimates are those of Golub and Meurant, *Matrices, Moments and
    Quadrature* (2010).
    """
    require_operator("physics", physics)
    image = _image(physics, img_size, images)
    require_takes("physics", physics, image, several=True)
    kind, what = type(physics).__name__, f"images {tuple(image.shape[1:])}, {image.dtype}"
    with foreign("physics", what, f"images that this {kind} takes"):
        probed = probe(physics, image)
        _require_sound(physics, image, probed)
        return _inspected(physics, image, images, probed)


def _image(
    physics: LinearPhysics, img_size: tuple[int, ...] | None, images: torch.Tensor | None
) -> torch.Tensor:
    """One random image of the size, dtype and device that are given, or the operator's own."""
    if images is None:
        size = image_size(physics, img_size)
        known = isinstance(physics, torch.nn.Module)
        blank = numbers_of(physics, size) if known else torch.empty(0)
        return normal_like(blank.new_zeros(1, *size), 0, "image")
    require_images("images", images, None if img_size is None else image_size(physics, img_size))
    return normal_like(images[:1], 0, "image")


def _require_sound(physics: LinearPhysics, image: torch.Tensor, probed: Probe) -> None:
    """Refuse what is not linear or draws anew; a wrong adjoint alone is a finding."""
    if not probed.sound:
        got, allowed = probed.fault(physics, image)
        kept = got == probed.wrong_adjoint
        require(kept, "physics", f"{type(physics).__name__} {got}", allowed)


def _inspected(
    physics: LinearPhysics, image: torch.Tensor, images: torch.Tensor | None, probed: Probe
) -> Inspection:
    """Everything that is told of an operator that is linear."""
    size, measured = (image.shape[1], image.shape[2], image.shape[3]), physics.A(image)
    seconds = _seconds(lambda: physics.A(image), image.device)
    back = _seconds(lambda: physics.A_adjoint(measured), image.device)
    shifts = probed.sound and _shift_invariant(physics, image)
    spectrum = _spectrum(physics, image, probed.sound, shifts, seconds + back)
    alone, alike = _channels(physics, image) if probed.sound else (False, False)
    projects = probed.sound and _projector(physics, image)
    room, models = Room.of(size, spectrum.rank, image), _noise_models(physics)
    coordinates = probed.sound and has_range_basis(physics, size)
    known = Known(size, spectrum, probed.sound, shifts, projects, alike, coordinates)
    return Inspection(
        operator=type(physics).__name__,
        img_size=size,
        measured=tuple(tuple(tensor.shape[1:]) for tensor in parts(measured)),
        dtype=str(image.dtype).removeprefix("torch."),
        device=str(image.device),
        linearity=probed.linearity,
        repeats=repeat_error(physics.A, image),
        adjoint=probed.adjoint,
        adjoint_holds=probed.sound,
        tolerance=probed.tolerance,
        spectrum=spectrum,
        channels_alone=alone,
        channels_alike=alike,
        shift_invariant=shifts,
        projector=projects,
        noise=tuple(type(model).__name__.lstrip("_") for model in models) or ("none",),
        noise_levels={name: level for model in models for name, level in _levels(model).items()},
        noise_share=None if images is None or not models else _noise_share(physics, images),
        seconds=seconds,
        adjoint_seconds=back,
        room=room,
        recommended=recommend(known, room),
    )


def _spectrum(
    physics: LinearPhysics, image: torch.Tensor, sound: bool, shifts: bool, seconds: float
) -> Spectrum:
    """Exact from the matrix, exact from shifts, or what a few products tell."""
    size, like = (image.shape[1], image.shape[2], image.shape[3]), image[:0].flatten()
    n, rows = math.prod(size), singular.flat(physics.A(image)).shape[1]
    free = Room.of(size, None, image).free
    if n <= MAX_PIXELS and 8 * n * (2 * rows + n) <= free / 4:
        return singular.from_matrix(physics, size, like)
    if shifts:
        return singular.from_shifts(physics, size, like)
    return singular.by_lanczos(physics, size, like, seconds) if sound else singular.NOTHING


def _channels(physics: LinearPhysics, image: torch.Tensor) -> tuple[bool, bool]:
    """Whether the Gram of one plane in channel c stays in channel c, and is the same plane."""
    channels, limit = image.shape[1], _rounding(image)
    seen = []
    for channel in range(channels):
        single = torch.zeros_like(image)
        single[0, channel] = image[0, 0]
        seen.append(physics.A_adjoint_A(single)[0])
    whole, kept = torch.stack(seen), torch.stack([seen[c][c] for c in range(channels)])
    left = whole.clone()
    left[range(channels), range(channels)] = 0
    alone = bool(left.norm() <= limit * whole.norm())
    return alone, alone and bool((kept - kept[:1]).norm() <= limit * whole.norm())


def _shift_invariant(physics: LinearPhysics, image: torch.Tensor) -> bool:
    """Whether the Gram commutes with the shifts by one pixel, which make all periodic ones."""
    seen = physics.A_adjoint_A(image)
    moved = (physics.A_adjoint_A(image.roll(1, axis)) - seen.roll(1, axis) for axis in (-1, -2))
    return all(bool(part.norm() <= _rounding(image) * seen.norm()) for part in moved)


def _projector(physics: LinearPhysics, image: torch.Tensor) -> bool:
    """Whether the Gram of a Gram is a multiple of it."""
    seen = physics.A_adjoint_A(image)
    again = physics.A_adjoint_A(seen)
    factor = (again * seen).sum() / seen.square().sum().clamp_min(1e-30)
    return bool((again - factor * seen).norm() <= _rounding(image) * again.norm())


def _rounding(image: torch.Tensor) -> float:
    """What rounding may make of a property that else holds exactly: 1e-5 in float32.

    A Gram that nearly commutes with shifts (a smooth filter before a downsampling) has other
    small eigenvalues than one that does.
    """
    return 100 * torch.finfo(image.dtype).eps


def _seconds(call: Callable[[], object], place: torch.device) -> float:
    """The median of a few calls, after one that is not counted."""
    times = []
    for _ in range(REPEATS + 1):
        _wait(place)
        start = time.perf_counter()
        call()
        _wait(place)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _wait(place: torch.device) -> None:
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def _noise_models(physics: Any) -> list[Any]:
    """The noise models that add noise: one, or one of each operator of a stack."""
    stacked = getattr(physics, "physics_list", None)
    if stacked is not None:
        return [model for part in stacked for model in _noise_models(part)]
    model = getattr(physics, "noise_model", None)
    silent = isinstance(model, (ZeroNoise, torch.nn.Identity))
    return [] if silent or not isinstance(model, torch.nn.Module) else [model]


def _levels(model: Any) -> dict[str, float]:
    """Each level that deepinv gives the model, the largest where it holds several."""
    held = {name: getattr(model, name, None) for name in LEVELS}
    return {
        name: float(torch.as_tensor(level).max())
        for name, level in held.items()
        if isinstance(level, (int, float, torch.Tensor)) and not isinstance(level, bool)
    }


def _noise_share(physics: Any, images: torch.Tensor) -> float:
    """Of a copy, so that no generator of the operator's moves on."""
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        clean = physics.A(images)
        return norm(copy.deepcopy(physics)(images) - clean) / max(norm(clean), 1e-30)


# --- the printed report --------------------------------------------------------------------------

Rows = list[tuple[str, str]]


def _soundness(inspection: Inspection) -> Rows:
    sums = f"yes: sums are kept up to {inspection.linearity:.1e}, "
    sums += f"two calls up to {inspection.repeats:.1e}"
    word = "exact" if inspection.adjoint_holds else "WRONG"
    dots = f"{word}: dot test {inspection.adjoint:.1e} (up to {inspection.tolerance:.1g} passes)"
    return [("linear", sums), ("adjoint", dots)]


def _numbers(inspection: Inspection) -> Rows:
    spectrum = inspection.spectrum
    known = spectrum.squared_norm is not None
    step = "" if inspection.stepsize is None else f"; stepsize 1/L = {inspection.stepsize:.4g}"
    norm_text = f"{spectrum.squared_norm:.4g}{step}" if known else "not computed"
    rows = [("L = ||H||^2", norm_text), ("condition number", _condition(spectrum))]
    return [*rows, ("rank", _rank(inspection)), ("computed", spectrum.how)]


def _condition(spectrum: Spectrum) -> str:
    if spectrum.condition_number is None:
        return "none: H is zero" if spectrum.squared_norm == 0 else "not computed"
    least = "" if spectrum.condition_exact else "at least "
    return f"{least}{spectrum.condition_number:.4g} on the range"


def _rank(inspection: Inspection) -> str:
    rank, share = inspection.spectrum.rank, inspection.null_share
    if rank is None or share is None:
        return "not computed"
    about = "" if inspection.spectrum.rank_exact else "about "
    return f"{about}{rank} of n = {inspection.pixels}: {about}{100 * share:.1f} % is null space"


def _structure(inspection: Inspection) -> Rows:
    if not inspection.adjoint_holds:
        return [("H^T H", "not looked at"), ("noise", _noise(inspection))]
    planes = "on each channel alone" if inspection.channels_alone else "on the channels together"
    planes += ", the same on each" if inspection.channels_alike else ""
    shifts = "shift invariant" if inspection.shift_invariant else "not shift invariant"
    projects = "a multiple of a projector" if inspection.projector else "no projector"
    acts = f"{planes}; " if inspection.img_size[0] > 1 else ""
    return [("H^T H", f"{acts}{shifts}; {projects}"), ("noise", _noise(inspection))]


def _noise(inspection: Inspection) -> str:
    levels = ", ".join(f"{name} {level:.4g}" for name, level in inspection.noise_levels.items())
    text = " and ".join(inspection.noise) + (f" ({levels})" if levels else "")
    share = inspection.noise_share
    return text if share is None else f"{text}, {100 * share:.2g} % of the measurements' norm"


def _costs(inspection: Inspection) -> Rows:
    times = (
        f"A {1e3 * inspection.seconds:.3g} ms, A_adjoint {1e3 * inspection.adjoint_seconds:.3g} ms"
    )
    return [("one application", times), ("memory of P", str(inspection.room))]


def _listed(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {name: _listed(part) for name, part in value.items()}
    return [_listed(part) for part in value] if isinstance(value, (list, tuple)) else value
