"""Facts about a deepinv operator: the size of its images, its numbers, norm and gradient, what
it can take, their range.
"""

from __future__ import annotations

import math
import warnings
import weakref

import torch
from deepinv.physics import LinearPhysics
from deepinv.physics.noise import GaussianNoise, ZeroNoise
from torch import nn

from . import adjoint, linalg, paired
from .adjoint import Measurements
from .checks import FOREIGN, InputError, foreign, require, require_img_size
from .remembered import Remembered, kind_of

MARGIN = 0.05  # beyond [0, 1] that interpolation and noise may reach without a word
_norms = Remembered[float]()
_numbers = Remembered[torch.Tensor]()
_sound = Remembered[bool]()  # operators with an exact adjoint
# operators whose user has been told of a range: once is enough
_told: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def declared_size(physics: LinearPhysics | None) -> tuple[int, int, int] | None:
    """(C, H, W) as the operator carries it, in ``img_size`` or (deepinv's blurs) ``imsize``;
    None where it does not.
    """
    sizes = (getattr(physics, name, None) for name in ("img_size", "imsize"))
    return next((tuple(size) for size in sizes if size is not None and len(size) == 3), None)


def image_size(
    physics: LinearPhysics, img_size: tuple[int, ...] | None = None
) -> tuple[int, int, int]:
    """(C, H, W) of the images an operator acts on: ``img_size`` where given, else what the operator
    carries.

    Raises :class:`InputError` where neither says.
    """
    size = declared_size(physics) if img_size is None else img_size
    return require_img_size(
        () if size is None else size, "(C, H, W) of the images this operator acts on"
    )


def numbers_like(module: nn.Module) -> torch.Tensor:
    """An empty tensor with dtype and device of the first floating-point buffer or parameter, else
    torch's defaults.

    Scalars come last: one that deepinv puts into a composition says nothing of the operators
    composed.
    """
    return next((tensor.new_empty(0) for tensor in _floating(module)), torch.empty(0))


@torch.no_grad()
def numbers_of(physics: LinearPhysics, img_size: tuple[int, ...]) -> torch.Tensor:
    """An empty tensor in the numbers, and on the device, that an operator works in on images
    ``img_size`` (C, H, W): those of its tensors; of one made of plain functions, which has none,
    the first that it takes and gives back of float32 and float64 on the processor and on a GPU.
    """
    held = next(iter(_floating(physics)), None)
    if held is not None and held.ndim > 0:
        return held.new_empty(0)
    known = _numbers.get(physics, tuple(img_size))
    if known is None:
        given = (like.new_zeros(1, *img_size) for like in _candidates(held))
        taken = (image.new_empty(0) for image in given if _works(physics, image))
        known = next(taken, numbers_like(physics))
        _numbers.put(physics, tuple(img_size), known)
    return known


def _floating(module: nn.Module) -> list[torch.Tensor]:
    held = sorted((*module.buffers(), *module.parameters()), key=lambda tensor: tensor.ndim == 0)
    return [tensor for tensor in held if tensor.is_floating_point()]


def _candidates(scalar: torch.Tensor | None) -> list[torch.Tensor]:
    first = [] if scalar is None else [scalar.new_empty(0)]
    places = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    kinds = (torch.get_default_dtype(), torch.float32, torch.float64)
    return first + [torch.empty(0, dtype=kind, device=place) for place in places for kind in kinds]


def _works(physics: LinearPhysics, image: torch.Tensor) -> bool:
    try:
        seen = physics.A_adjoint(physics.A(image))
    except FOREIGN:
        return False
    same = isinstance(seen, torch.Tensor) and seen.device == image.device
    return same and seen.dtype == image.dtype


def require_operator(name: str, physics: object) -> None:
    """Refuse what has no ``A``, ``A_adjoint`` and ``A_adjoint_A`` to call."""
    able = all(
        callable(getattr(physics, method, None)) for method in ("A", "A_adjoint", "A_adjoint_A")
    )
    require(able, name, type(physics).__name__, "a deepinv LinearPhysics")


def require_beside(name: str, held: object, other: str, beside: object) -> None:
    """Refuse a tensor or module on another device than the one ``beside`` it, which is called
    ``other``.

    A module is where its first floating-point tensor is, single numbers left aside: they go with
    every device.
    """
    got, allowed = _place(held), _place(beside)
    if got is not None and allowed is not None and got != allowed:
        raise InputError(f"{name}.device: got {got}; allowed: {allowed}, that of {other}")


def _place(held: object) -> torch.device | None:
    tensors: tuple[torch.Tensor, ...] = (held,) if isinstance(held, torch.Tensor) else ()
    tensors = (*held.buffers(), *held.parameters()) if isinstance(held, nn.Module) else tensors
    numbers = (tensor for tensor in tensors if tensor.is_floating_point() or tensor.is_complex())
    return next((tensor.device for tensor in numbers if tensor.ndim), None)


def require_takes(
    name: str,
    physics: LinearPhysics,
    images: torch.Tensor,
    *,
    several: bool = False,
    paired_too: bool = False,
) -> torch.Tensor:
    r"""Refuse an operator that cannot take such images (C, H, W, dtype, device) one by one, or,
    unless ``several``, measures in several tensors, or, unless ``paired_too``, has a parameter of
    its own for every image (:mod:`dipa.paired`).

    Returns :math:`H^\top Hx` of the first image, seen by each of the parameters.
    """
    require_operator(name, physics)
    require_beside(name, physics, "the images", images)
    what, kind = (
        f"images {tuple(images.shape[1:])}, {images.dtype} on {images.device}",
        type(physics).__name__,
    )
    with torch.no_grad(), foreign(name, what, f"images that this {kind} takes"):
        measured, seen = paired.applied(physics, images[:1])
    require(
        several or isinstance(measured, torch.Tensor),
        name,
        f"{kind} with measurements {type(measured).__name__}",
        "an operator whose measurements are one tensor",
    )
    real = isinstance(seen, torch.Tensor) and seen.is_floating_point()
    require(
        real,
        name,
        f"{kind} that gives back {getattr(seen, 'dtype', type(seen).__name__)}",
        "an operator on real images",
    )
    most = max(len(tensor) for tensor in (*adjoint.parts(measured), seen))
    require(
        most == 1 or paired_too,
        name,
        f"{kind} made for {most} images",
        "an operator for every image alone",
    )
    require(
        seen.shape[1:] == images.shape[1:],
        name,
        what,
        f"images {tuple(seen.shape[1:])}, which this {kind} gives back",
    )
    return seen


def require_adjoint(name: str, physics: LinearPhysics, images: torch.Tensor) -> None:
    r"""Refuse an operator that is not linear, that draws anew at every call, or whose adjoint is
    none: a wrong one raises no error, it sends every gradient somewhere else.

    Three applications of A and one of ``A_adjoint`` to an image like ``images`` (B, C, H, W), see
    :func:`dipa.adjoint.probe`, after those of :func:`require_takes`. Each relative error may be
    0.001 (half precisions: the square root of their rounding); noise is not looked at. Remembered
    for each operator and kind of images until one of its tensors changes.
    """
    if _sound.get(physics, kind_of(images)):
        return
    require_takes(name, physics, images, several=True)
    image, kind = images[:1].detach(), type(physics).__name__
    what = f"images {tuple(images.shape[1:])}, {images.dtype} on {images.device}"
    with torch.no_grad(), foreign(name, what, f"images that this {kind} takes"):
        probed = adjoint.probe(physics, image)
        fault = None if probed.sound else probed.fault(physics, image)
    if fault is not None:
        require(False, name, f"{kind} {fault[0]}", fault[1])
    _sound.put(physics, kind_of(images), True)


def require_applies(
    name: str, physics: LinearPhysics, img_size: tuple[int, int, int], *, several: bool = False
) -> None:
    """As :func:`require_takes`, of images ``img_size`` (C, H, W) in the operator's own dtype."""
    require_operator(name, physics)
    image = numbers_of(physics, img_size).new_zeros(1, *img_size)
    require_takes(name, physics, image, several=several)


def require_like(
    name: str, module: object, images: torch.Tensor, *, autocast: bool = False
) -> None:
    """Refuse a network whose parameters have another dtype or device than ``images``;
    ``autocast`` leaves float64 alone.
    """
    numbers = next(module.parameters(), images) if isinstance(module, nn.Module) else images
    same = numbers.dtype == images.dtype or (
        autocast and torch.float64 not in (numbers.dtype, images.dtype)
    )
    allowed = f"{images.dtype} on {images.device}, as the images are"
    require(
        same and numbers.device == images.device,
        name,
        f"parameters of {numbers.dtype} on {numbers.device}",
        allowed,
    )


def data_gradient(physics: LinearPhysics, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    r""":math:`\nabla g(z)=H^\top(Hz-y)` of :math:`g(z)=\frac12\|Hz-y\|_2^2`. D2GP Eq. (1)."""
    with foreign(
        "y and z",
        f"{_shape(y)} and {_shape(z)}",
        f"measurements and images of this {type(physics).__name__}",
    ):
        return physics.A_adjoint(physics.A(z) - y)


def _shape(tensor: object) -> object:
    return tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else type(tensor).__name__


def lipschitz(
    physics: LinearPhysics,
    img_size: tuple[int, ...] | None = None,
    like: torch.Tensor | None = None,
) -> float:
    r""":math:`L=\|H\|_2^2`: the operator's own ``norm_sq`` where it declares one, else a power
    method.

    The power method runs on one image ``img_size`` (C, H, W), None where the operator carries its
    size, in dtype and on the device of ``like``, None for those of the operator's own tensors. It
    is remembered until a tensor of the operator changes. Of an operator with a parameter of its own
    for every image it is the largest one.
    """
    require_operator("physics", physics)
    if hasattr(physics, "norm_sq"):
        return float(physics.norm_sq)
    size = image_size(physics, img_size)
    like = numbers_of(physics, size) if like is None else like
    image = like.new_zeros(1, *size)
    norm = _norms.get(physics, kind_of(image))
    if norm is None:
        seen = require_takes("physics", physics, image, several=True, paired_too=True)
        norm = linalg.squared_norm(physics.A_adjoint_A, size, count=len(seen), like=like)
        _norms.put(physics, kind_of(image), norm)
    return norm


def warn_range(name: str, images: torch.Tensor, *operators: LinearPhysics | None) -> None:
    """One ``UserWarning`` with the range found, for images (B, C, H, W) that leave [0, 1] by more
    than 5 percent.

    Two channels may be real and imaginary parts, in [-1, 1]. ``operators``, which will see these
    images, are then known to :func:`warn_measurements`, which says no more about them. Coefficients
    (:func:`dipa.operators.in_wavelets`) may have any value.
    """
    if any(getattr(physics, "on_coefficients", False) for physics in operators):
        return
    low, high = (float(bound) for bound in images.detach().aminmax())
    floor = -1 if images.shape[1] == 2 else 0
    if low >= floor - MARGIN and high <= 1 + MARGIN:
        return
    _told.update(physics for physics in operators if isinstance(physics, nn.Module))
    advice = "divide by 255" if low >= 0 and 2 < high <= 255 else "scale them"
    warnings.warn(
        f"{name}: values in [{low:.4g}, {high:.4g}]; dipa works on [{floor}, 1]: {advice}",
        stacklevel=3,
    )


def warn_measurements(y: Measurements, physics: LinearPhysics, img_size: tuple[int, ...]) -> None:
    r"""One ``UserWarning`` per operator for measurements larger than it makes of any image in [0,
    1].

    None of n numbers of at most 1 gives :math:`\|y\|_2>\|H\|_2\sqrt n` but for noise. Asked where
    that is known and free: of an operator with a ``norm_sq``, or whose L was asked for before, as
    steps of 1/L do, with Gaussian noise or none.
    """
    noise = getattr(physics, "noise_model", None)
    known = isinstance(physics, nn.Module) and isinstance(noise, (GaussianNoise, ZeroNoise))
    if not known or physics in _told or not isinstance(y, torch.Tensor):
        return
    declared = getattr(physics, "norm_sq", None)
    norm_sq = _norms.get(physics, (img_size, y.dtype, y.device)) if declared is None else declared
    if norm_sq is None:
        return
    sigma = float(noise.sigma.max()) if isinstance(noise, GaussianNoise) else 0.0
    most = math.sqrt(float(norm_sq) * math.prod(img_size)) + 2 * sigma * math.sqrt(y[0].numel())
    norm = float(y.detach().reshape(len(y), -1).norm(dim=1).max())
    if norm > most * (1 + MARGIN):
        _told.add(physics)
        limit = (
            f"at most {most:.4g} is what this {type(physics).__name__} makes of images in [0, "
            f"1], which dipa works on"
        )
        warnings.warn(f"y: norm {norm:.4g}; {limit}", stacklevel=3)
