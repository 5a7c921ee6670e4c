"""What every benchmark shares: its options, interleaved timings, peak memory, the problem it is
measured on, its output.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import dipa
from dipa import device as devices
from dipa import files
from dipa.checks import InputError, require_path
from dipa.experiments.manifest import provenance

Work = Callable[[], object]


def parser(doc: str, **defaults: Any) -> argparse.ArgumentParser:
    """A command line with --json, --device, --data, --denoiser, --repeats; ``defaults`` replace
    theirs.
    """
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--json", help="the file to write ratios, raw numbers and provenance to")
    made.add_argument(
        "--device",
        type=_timed,
        default="auto",
        help="cpu, cuda or cuda:N (default: a GPU where there is one)",
    )
    made.add_argument(
        "--data",
        default="embedded",
        choices=("embedded", "mnist", "bsds500"),
        help="images (default embedded)",
    )
    made.add_argument(
        "--denoiser",
        default="dncnn-bsds500",
        choices=dipa.denoisers.NAMES,
        help="default: the packaged one",
    )
    made.add_argument("--repeats", type=int, default=5, help="interleaved repetitions (default 5)")
    made.set_defaults(**defaults)
    return made


def _timed(asked: str) -> str:
    """The name of the device that ``asked`` means, one whose time and memory can be measured
    here.
    """
    try:
        chosen = devices.choose(asked)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if chosen.type == "mps":
        raise argparse.ArgumentTypeError("mps is not measured: cpu or cuda")
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    return str(chosen)


@dataclass(frozen=True)
class Setting:
    """The single-pixel problem of a benchmark: operators, images and denoiser, on one device."""

    device: str
    student: Any
    teacher: Any
    images: torch.Tensor
    test: torch.Tensor
    denoiser: Any

    @classmethod
    def make(
        cls, options: argparse.Namespace, size: int = 32, count: int = 64, test: int = 64
    ) -> Setting:
        """Ratio 0.2 and 0.7, as everywhere."""
        student, teacher = (
            dipa.operators.single_pixel((1, size, size), ratio=r).to(options.device)
            for r in (0.2, 0.7)
        )
        train, tested = (
            _images(options.data, split, size, n) for split, n in (("train", count), ("test", test))
        )
        denoiser = dipa.denoisers.load(options.denoiser).to(options.device)
        return cls(
            options.device,
            student,
            teacher,
            train.to(options.device),
            tested.to(options.device),
            denoiser,
        )

    def solver(self, iterations: int, precision: str, **options: Any) -> dipa.FISTA:
        """PnP-FISTA from zero with the setting's denoiser."""
        return dipa.FISTA(
            dipa.PnP(self.denoiser, precision=precision), iterations, start="zero", **options
        )


def _images(name: str, split: str, size: int, count: int) -> torch.Tensor:
    """``count`` images of a data set, repeated where it has fewer; beyond the largest size it
    has, its largest ones tiled.
    """
    largest, known = (128, None) if name == "embedded" else (1024, count)
    found = dipa.data.load(name, split, size=min(size, largest), count=known).images[:count]
    times = -(-size // found.shape[-1])
    return found.repeat(-(-count // len(found)), 1, times, times)[
        :count, :, :size, :size
    ].contiguous()


def synchronise(device: str) -> None:
    """Wait for the device: a GPU computes on while Python measures."""
    if device != "cpu":
        torch.cuda.synchronize(device)


def seconds(work: Work, device: str = "cpu") -> float:
    """The time of one call."""
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def interleaved(
    works: Mapping[str, Work], repeats: int, device: str = "cpu"
) -> dict[str, list[float]]:
    """Seconds of each piece of work, one after the other, again and again, after one call of
    each that is not counted.
    """
    for work in works.values():
        work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            found[name].append(seconds(work, device))
    return found


def ratio(times: Mapping[str, list[float]], first: str, second: str) -> float:
    """The median over the repetitions of (first / second), the two timed one after the other."""
    return statistics.median(a / b for a, b in zip(times[first], times[second], strict=True))


def peak_mib(work: Work, device: str = "cpu") -> float:
    """The most memory ``work`` held at once beyond what was held before, in MiB.

    The allocator's on a GPU; on Linux the resident set, whose high-water mark is set back first.
    """
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if not sys.platform.startswith("linux"):
        raise SystemExit("error: peak memory on the processor is measured on Linux only")
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])


def exponent(sizes: list[float], values: list[float]) -> float:
    r"""The slope p of the least-squares line through (log size, log value): value ~ size^p."""
    x, y = (torch.tensor(numbers, dtype=torch.float64).log() for numbers in (sizes, values))
    return (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()


@functools.cache
def started(device: str) -> dict[str, Any]:
    """Where this process runs, and with what: as it was when first asked for. A script of an hour
    asks before its work: the repository may move on meanwhile.
    """
    return provenance(torch.device(device))


def finish(
    result: dict[str, Any], headline: Mapping[str, Any], options: argparse.Namespace
) -> None:
    """Print the headline as one JSON line; write everything, with provenance, where asked."""
    print(
        json.dumps(
            {
                name: round(value, 3) if isinstance(value, float) else value
                for name, value in headline.items()
            }
        )
    )
    if options.json:
        settings = {name: value for name, value in vars(options).items() if name != "json"}
        made = {"settings": settings, "manifest": started(options.device)}
        files.write_json(require_path("--json", options.json), {**headline, **result, **made})
