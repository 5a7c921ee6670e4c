"""Where a run computes and in what numbers. Everything else works on the device of the tensors
it is given.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from .checks import require, require_choice
from .choices import PRECISIONS

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
MULTIPLIES_BF16 = {"avx512_bf16", "amx_bf16"}  # flags of a processor
# kinds of devices without float64, eigenvalues and, in older versions of torch, frexp
LIMITED = {"mps"}
# caps of oneDNN's instructions
WITHOUT_BF16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"}


def choose(device: str = "auto") -> torch.device:
    """The device that ``device`` asks for: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is a GPU where there is one, else the processor. Of several processes that torchrun
    started on one machine each takes the GPU of its own number, where there is one for each; then
    none can be named.

    Raises:
        InputError: another text, or a device that is not there.
    """
    known = isinstance(device, str) and re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", device)
    require(known, "device", device, "auto, cpu, cuda, cuda:N or mps")
    name, _, number = device.partition(":")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name == "mps":
        require(
            torch.backends.mps.is_available(),
            "device",
            device,
            "cpu: this machine, or this torch, has no mps",
        )
        return torch.device("mps")
    return torch.device("cuda", _gpu(device, number))


def _gpu(device: str, number: str) -> int:
    """The number of the GPU that is asked for by number, or that is this process's own; refused
    where it is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    have = (
        f"cpu, or one of {count} GPUs, cuda:0 to cuda:{count - 1}"
        if count
        else "cpu: this machine, or this torch, has no GPU"
    )
    rank = own_gpu()
    alone = rank is None or os.environ["LOCAL_WORLD_SIZE"] == "1"
    require(
        alone or not number,
        "device",
        device,
        "cuda or auto: each of these processes takes a GPU of its own",
    )
    chosen = int(number) if number else rank or 0
    require(chosen < count, "device", device, have)
    return chosen


def own_gpu() -> int | None:
    """The number of the GPU that belongs to this process of several on one machine; None where
    there is not one for each.
    """
    local, beside = (os.environ.get(name, "") for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    enough = local.isdigit() and beside.isdigit() and torch.cuda.device_count() >= int(beside)
    return int(local) if enough else None


def describe(device: torch.device) -> dict[str, str | None]:
    """The device in words for a manifest: its name, and for a GPU also the versions of driver
    and CUDA (None: not known).
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return {
            "device": name,
            "processor": processor(),
            "driver": _driver(),
            "cuda": torch.version.cuda,
        }
    if device.type == "mps":
        return {"device": f"{processor()} (mps)", "processor": processor()}
    return {"device": processor()}


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _driver() -> str | None:
    """The version of NVIDIA's kernel driver; None where the system does not say."""
    try:
        version = re.search(
            r"Module\s+([\d.]+)", Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
        )
    except OSError:
        return None
    return version and version.group(1)


def able(tensor: torch.Tensor) -> torch.Tensor:
    """``tensor`` where float64, ``frexp`` and eigenvalues are: as it is, or on the processor if
    its device is ``LIMITED``.
    """
    return tensor.cpu() if tensor.device.type in LIMITED else tensor


# --- numbers --------------------------------------------------------------------------------------


def precision(asked: str, device: torch.device) -> str:
    """The numbers that ``asked`` means on ``device``: itself, or what ``auto`` chooses there.

    ``auto`` is ``bf16`` where the hardware multiplies it (GPUs of compute capability 8.0 and up;
    processors with AVX512-BF16 or AMX that torch and oneDNN are allowed to use), ``fp16`` on older
    GPUs, which emulate bf16, else ``float32``. ``tf32`` is float32 whose products a GPU may round
    to 10 bits; on other devices it is float32.
    """
    if not isinstance(asked, str) or asked not in PRECISIONS:
        require_choice("precision", asked, PRECISIONS)
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and _processor_multiplies_bf16() else "float32"


def _processor_multiplies_bf16() -> bool:
    cap = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    allowed = cap not in WITHOUT_BF16 and torch.backends.cpu.get_cpu_capability().startswith(
        "AVX512"
    )
    return allowed and bool(MULTIPLIES_BF16 & _flags())


@functools.cache
def _flags() -> frozenset[str]:
    """What the processor says it can do; nothing where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(
        next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), ())
    )


def autocast(asked: str, device: torch.device) -> torch.autocast:
    """A context in which a network computes in the numbers that ``asked`` means on ``device``;
    tensors stay as they are.
    """
    dtype = AUTOCAST.get(precision(asked, device))
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)


def power_of_two(numbers: torch.Tensor) -> torch.Tensor:
    """What brings each of ``numbers`` >= 0 into [1/2, 1) when it is divided by it, exactly; 1
    for 0.
    """
    sizes = able(numbers)
    mantissa, _ = torch.frexp(sizes)
    return torch.where(mantissa > 0, sizes / mantissa, torch.ones_like(sizes)).to(numbers.device)


def scaled(function: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """``function(images)`` whose gradient passes through it in units of its own size, so that half
    precision holds it.

    fp16 has no numbers below 6e-8: a gradient is multiplied by a power of two on its way in and
    divided by it on its way out, which changes nothing else. ``function`` must be differentiable in
    ``images`` alone.
    """
    unit: list[torch.Tensor] = []
    return _ScaleIn.apply(function(_ScaleOut.apply(images, unit)), unit)


class _ScaleIn(torch.autograd.Function):
    """The identity; its gradient leaves with a largest entry in [1/2, 1), and ``unit`` holds by
    what it was divided.
    """

    @staticmethod
    def forward(ctx, images, unit):
        ctx.unit = unit
        return images.view_as(images)

    @staticmethod
    def backward(ctx, gradient):
        ctx.unit[:] = [power_of_two(gradient.abs().amax().float())]
        return gradient / ctx.unit[0].to(gradient.dtype), None


class _ScaleOut(torch.autograd.Function):
    """The identity; its gradient is multiplied by ``unit`` again."""

    @staticmethod
    def forward(ctx, images, unit):
        ctx.unit = unit
        return images.view_as(images)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.unit[0].to(gradient.dtype), None


@contextlib.contextmanager
def rounding(allowed: bool) -> Iterator[None]:
    """A stretch in which a GPU may, or may not, round the factors of float32 products to 10 bits
    (TF32).

    torch rounds those of convolutions unless told not to. The setting is the process's, forward and
    backward.
    """
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept
