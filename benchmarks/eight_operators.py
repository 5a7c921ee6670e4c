"""Every method on eight operators of deepinv: quality against seconds, by ``dipa.compare``.

Images are photographs (``--data``: the embedded ones, or those of BSDS500), for MRI the embedded
slices, ``--size`` pixels a side; all measurements have Gaussian noise of 0.01. What is fitted and
chosen never sees a test image, nor another part of its photograph.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import finish, parser, started
from deepinv import physics as dp

import dipa
from dipa import files, seeding

NOISE = 0.01
Size = tuple[int, int, int]


def coil_maps(count: int, side: int) -> torch.Tensor:
    """Smooth complex sensitivities (1, count, side, side) of coils around the image, whose
    squares add up to 1.
    """
    axis = torch.linspace(-1, 1, side)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    maps = []
    for coil in range(count):
        angle = 2 * math.pi * coil / count
        far = (columns - math.cos(angle)).square() + (rows - math.sin(angle)).square()
        phase = columns * math.cos(angle) + rows * math.sin(angle)
        maps.append(torch.exp(-far / 1.5) * torch.exp(1j * phase))
    whole = torch.stack(maps)[None]
    return whole / whole.abs().square().sum(dim=1, keepdim=True).sqrt()


def mask(side: int) -> torch.Tensor:
    """A quarter of the lines of k-space, drawn with a Gaussian density."""
    generator = seeding.generator(0, "mask")
    made = dp.generator.GaussianMaskGenerator((2, side, side), acceleration=4, rng=generator)
    return made.step(1)["mask"]


def drawn() -> torch.Generator:
    """Of the operators that are random."""
    return seeding.generator(0, "operator")


def blurred(sigma: float) -> torch.Tensor:
    """A Gaussian kernel."""
    return dp.functional.gaussian_blur(sigma=(sigma, sigma))


# by name: channels, and the operator for images of a size
OPERATORS: dict[str, tuple[int, Callable[[Size], dp.LinearPhysics]]] = {
    "circular blur": (1, lambda size: dp.BlurFFT(size, filter=blurred(2.0))),
    "valid blur": (1, lambda size: dp.Blur(filter=blurred(1.5), padding="valid")),
    "sparse-view CT": (
        1,
        lambda size: dp.Tomography(angles=24, img_width=size[-1], normalize=True),
    ),
    "compressed sensing": (
        1,
        lambda size: dp.CompressedSensing(m=math.prod(size) // 3, img_size=size, rng=drawn()),
    ),
    "inpainting": (1, lambda size: dp.Inpainting(size, mask=0.5, rng=drawn())),
    "multi-coil MRI": (
        2,
        lambda size: dp.MultiCoilMRI(
            mask=mask(size[-1]), coil_maps=coil_maps(4, size[-1]), img_size=size[1:]
        ),
    ),
    "super-resolution": (
        1,
        lambda size: dp.Downsampling(img_size=size, filter="bicubic", factor=2),
    ),
    "demosaicing": (3, lambda size: dp.Demosaicing(size)),
}


def operator(name: str, side: int) -> dp.LinearPhysics:
    """An operator for images of a side, the same each time: deepinv draws where it normalises."""
    channels, make = OPERATORS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make((channels, side, side))


def images(data: str, channels: int, side: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``count`` to fit and choose on, and 8 to test on, of other photographs or slices."""
    name = "embedded-mri" if channels == 2 else data
    load = dipa.data.load
    return (
        load(name, "train", size=side, count=count, channels=channels).images,
        load(name, "test", size=side, count=8, channels=channels).images,
    )


def compared(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """The comparison on one operator as plain values, with its seconds."""
    physics, channels = operator(name, options.size), OPERATORS[name][0]
    train, test = images(options.data, channels, options.size, options.count)
    physics.set_noise_model(dp.GaussianNoise(NOISE))
    physics.to(options.device)
    trained = dipa.Budget(steps=options.steps or 1, batch_size=8, learning_rate=4e-4)
    began = time.perf_counter()
    found = dipa.compare(
        physics,
        train.to(options.device),
        test=test.to(options.device),
        budget=trained if options.steps else None,
        limit=options.limit,
        progress=False,
    )
    print(f"\n{name}\n{found}", file=sys.stderr, flush=True)
    return found.plain() | {"all_seconds": time.perf_counter() - began}


def main(argv: list[str] | None = None) -> None:
    """Compare on the operators asked for; what the file already has of the same options stays."""
    options = arguments().parse_args(argv)
    for name in options.operators:
        if name not in OPERATORS:
            raise SystemExit(f"error: --operators: got {name!r}; allowed: {', '.join(OPERATORS)}")
    started(options.device)
    shaped = {key: getattr(options, key) for key in ("data", "size", "count", "steps", "limit")}
    known = _known(options.json, shaped)
    for name in options.operators:
        if name not in known:
            known[name] = compared(name, options)
            first = {key: found["rows"][0]["method"] for key, found in known.items()}
            finish({"operators": known, "options": shaped}, first, options)


def _known(path: str | None, shaped: dict[str, Any]) -> dict[str, Any]:
    """What a file has of the same options: a comparison that was stopped goes on."""
    if path is None or not Path(path).is_file():
        return {}
    before = files.read_json(Path(path))
    return before["operators"] if before.get("options") == shaped else {}


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("--operators", nargs="+", default=list(OPERATORS), help="default: all eight")
    made.add_argument("--size", type=int, default=64, help="side of the images (default 64)")
    made.add_argument("--count", type=int, default=40, help="images to fit on and choose by")
    made.add_argument("--steps", type=int, default=0, help="of L-DIPA and N-DIPA (default none)")
    made.add_argument(
        "--limit", type=int, default=0, help="iterations of the plain run to its limit"
    )
    return made


if __name__ == "__main__":
    main()
