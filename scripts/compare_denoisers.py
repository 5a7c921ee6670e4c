"""The packaged denoiser beside deepinv's weights, in one run: as a denoiser on Set12, and as a PnP
prior on digits.

    python scripts/compare_denoisers.py --set12 FOLDER --out FILE

The book's file is ``book/results/denoiser/comparison.json``.

Set12 is the folder of the twelve customary grey test photographs; the digits are MNIST test images
(``dipa data``).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dipa import data, denoisers, files, metrics, seeding
from dipa.checks import InputError, require, require_path
from dipa.encoded import Picture, numbers
from dipa.experiments.manifest import provenance
from dipa.operators import single_pixel
from dipa.priors import PnP
from dipa.solvers import FISTA

SIGMA = 2 / 255
RATIOS = {"single pixel, ratio 0.2": (0.2, 0.4), "single pixel, ratio 0.7": (0.7, 0.7)}


def read_folder(folder: Path) -> list[torch.Tensor]:
    """The grey photographs of a folder of PNG files, (1, 1, H, W) in [0, 1], by name."""
    paths = sorted(folder.glob("*.png"))
    require(
        len(paths) == 12,
        "--set12",
        f"{folder} with {len(paths)} PNG files",
        "the folder of the 12 Set12 photographs",
    )
    pictures = [numbers(Picture(str(path), path.read_bytes), 1) for path in paths]
    return [
        torch.from_numpy(values[..., 0].astype(np.float32) / white)[None, None]
        for values, white in pictures
    ]


@torch.no_grad()
def denoising_psnr(
    denoiser: torch.nn.Module, photographs: list[torch.Tensor], seed: int = 0
) -> float:
    """Mean PSNR over photographs of the denoised images, noise of standard deviation 2/255
    drawn from the seed.
    """
    values = []
    for index, clean in enumerate(tqdm(photographs, desc="denoising Set12", unit="image")):
        noise = torch.randn(clean.shape, generator=seeding.generator(seed, "Set12", index))
        values.append(metrics.psnr(denoiser(clean + SIGMA * noise, SIGMA), clean).item())
    return sum(values) / len(values)


@torch.no_grad()
def prior_psnr(
    denoiser: torch.nn.Module, digits: torch.Tensor, ratio: float, stepsize: float
) -> float:
    """Mean PSNR over digits of plug-and-play FISTA (K = 20, start 0, Nesterov momentum, no
    preconditioner).
    """
    physics = single_pixel(tuple(digits.shape[1:]), ratio=ratio)
    solver = FISTA(PnP(denoiser), start="zero")
    images = [
        solver(physics.A(x), physics, stepsize=stepsize).x
        for x in tqdm(digits.split(64), desc=f"ratio {ratio}", unit="batch")
    ]
    return metrics.psnr(torch.cat(images), digits).mean().item()


def compare(set12: Path, digits: int) -> dict:
    """All measurements for both denoisers, their differences (ours minus deepinv's) and the
    provenance.
    """
    began, photographs = time.monotonic(), read_folder(set12)
    images = data.load("mnist", "test", count=digits).images
    results, hashes = {}, {}
    for name in denoisers.NAMES:
        denoiser = denoisers.load(name)
        hashes[name] = denoisers.fingerprint(denoiser)
        results[name] = {"denoising Set12": denoising_psnr(denoiser, photographs)}
        results[name] |= {
            label: prior_psnr(denoiser, images, *setting) for label, setting in RATIOS.items()
        }
    ours, theirs = (results[name] for name in ("dncnn-bsds500", "dncnn-deepinv"))
    what = (
        f"Set12 at noise level 2/255 (12 photographs); {digits} MNIST test digits at 32 x 32, "
        f"mean PSNR over images."
    )
    difference = {key: ours[key] - theirs[key] for key in ours}
    manifest = provenance() | {"seconds": round(time.monotonic() - began, 1)}
    return {
        "what": what,
        "results": results,
        "difference": difference,
        "sha256": hashes,
        "manifest": manifest,
    }


def main(argv: list[str] | None = None) -> int:
    """The command line; bad input is one line and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="python scripts/compare_denoisers.py", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--set12", required=True, help="folder of the 12 Set12 photographs (PNG)")
    parser.add_argument("--out", required=True, help="the JSON file to write")
    parser.add_argument(
        "--digits", type=int, default=256, help="how many MNIST test digits (default 256)"
    )
    options = parser.parse_args(argv)
    try:
        out = require_path("--out", options.out)
        comparison = compare(require_path("--set12", options.set12), options.digits)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    files.write_json(out, comparison)
    for name, values in (*comparison["results"].items(), ("difference", comparison["difference"])):
        print(
            f"{name:<15}" + "".join(f"{key}: {value:6.2f} dB   " for key, value in values.items())
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
