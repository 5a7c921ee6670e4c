"""Train the packaged denoiser: deepinv's grey DnCNN (20 layers, 64 features) at sigma = 2/255 on
BSDS500 *train*, with the training loop of dipa.

    python scripts/train_denoiser.py --bsds PATH_TO_BSDS500_TRAIN --out FILE

writes the weights with their training record in the header; the packaged ones are
``dipa/weights/dncnn_bsds500_sigma2.safetensors``.

Recipe: residual mean squared error in units of the noise, Adam with a one-cycle rate, multi-scale
patches with flips, transposition and intensity inversion (Zhang et al., "Beyond a Gaussian
denoiser", IEEE TIP 26(7), 2017, and the multi-scale patches of its public code). Half the patches
are stretched in contrast until part of them is black: photographs have few saturated areas, and in
a trial a network that had never seen any was a weak prior for digits, at the same denoising
quality. The last layer starts at zero, so training starts at the identity. A killed run continues
from its checkpoint and ends in the same tensors as an uninterrupted one.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import deepinv
import numpy as np
import torch
from PIL import Image

from dipa import device, seeding, storage
from dipa.checks import InputError, require, require_int, require_path
from dipa.encoded import Picture, in_tar, is_picture, numbers
from dipa.identity import describe
from dipa.settings import Budget
from dipa.training.loop import Record, Training

# Goes into the record, and with it wherever the weights go.
DATA = (
    "BSDS500, train split (P. Arbelaez, M. Maire, C. Fowlkes, J. Malik, Contour Detection "
    "and Hierarchical Image Segmentation, "
    "IEEE TPAMI 33(5), 898-916, 2011)"
)
TERMS = (
    "The photographs of BSDS500 are for non-commercial research and educational purposes. "
    "These weights were trained on them: "
    "use them for the same purposes. The licence of the code (MIT) does not cover them."
)


@dataclass(frozen=True)
class DenoiserRecipe:
    """All that shapes the weights: ``sigma`` in [0, 1] intensity units, ``patch`` in pixels,
    ``stretched`` a share of patches.
    """

    sigma: float = 2 / 255
    depth: int = 20
    features: int = 64
    steps: int = 8_000
    batch_size: int = 16
    patch: int = 40
    scales: tuple[float, ...] = (1.0, 0.9, 0.8, 0.7, 0.5)
    stretched: float = 0.5
    learning_rate: float = 8e-4
    clip: float = 1.0
    precision: str = "bf16"
    seed: int = 0


def read_photographs(source: str | Path) -> dict[str, Image.Image]:
    """The grey (ITU-R 601) photographs of a folder or ``.tar`` of JPEG files, by name; what is
    unreadable is refused.
    """
    source = require_path("--bsds", source)
    require(source.exists(), "--bsds", str(source), "the BSDS500 train folder or tar file")
    try:
        pictures = (
            _in_folder(source)
            if source.is_dir()
            else {Path(p.name).name: p for p in sorted(in_tar(source, (".jpg",)))}
        )
        require(
            len(pictures) > 0,
            str(source),
            "no photograph",
            "a folder or tar file that holds .jpg photographs",
        )
        return {name: _grey(picture) for name, picture in pictures.items()}
    except InputError as error:
        raise InputError(f"--bsds: {error}") from error


def _in_folder(folder: Path) -> dict[str, Picture]:
    return {
        path.name: Picture(str(path), path.read_bytes)
        for path in sorted(folder.rglob("*.jpg"))
        if is_picture(path.name)
    }


def _grey(picture: Picture) -> Image.Image:
    values, white = numbers(picture, 1)
    return Image.fromarray(np.rint(values[..., 0] * (255 / white)).astype(np.uint8))


def _check_sides(photographs: dict[str, Image.Image], recipe: DenoiserRecipe) -> None:
    smallest = min(recipe.scales)
    for name, photo in photographs.items():
        fits = round(min(photo.size) * smallest) >= recipe.patch
        allowed = f"sides of at least {recipe.patch} pixels at scale {smallest:g}"
        require(fits, "--bsds", f"{name} of {photo.width} x {photo.height} pixels", allowed)


def pyramid(photographs: dict[str, Image.Image], scales: tuple[float, ...]) -> list[torch.Tensor]:
    """Every photograph at every scale (bicubic), as uint8 tensors (H, W)."""
    levels = []
    for photo in photographs.values():
        for scale in scales:
            size = (round(photo.width * scale), round(photo.height * scale))
            levels.append(torch.from_numpy(np.array(photo.resize(size, Image.Resampling.BICUBIC))))
    return levels


def stretch(patch: torch.Tensor, level: float, top: float) -> torch.Tensor:
    """Darken a patch so that its share ``level`` is exactly 0 and its brightest pixel is
    ``top``; flat patches stay.
    """
    low, high = torch.quantile(patch, level), patch.max()
    return patch if high - low < 0.05 else ((patch - low) / (high - low) * top).clamp_min(0)


def draw_patches(
    levels: list[torch.Tensor], recipe: DenoiserRecipe, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean and noisy patches (B, 1, patch, patch) in [0, 1] of training step ``step``, from
    its own generator.
    """
    rng = seeding.generator(recipe.seed, "patches", step)

    def draw(high: int) -> int:
        return int(torch.randint(high, (), generator=rng))

    patches = []
    for _ in range(recipe.batch_size):
        level = levels[draw(len(levels))]
        top, left = draw(level.shape[0] - recipe.patch + 1), draw(level.shape[1] - recipe.patch + 1)
        patch = level[top : top + recipe.patch, left : left + recipe.patch].float() / 255
        patch = torch.rot90(patch, draw(4))
        patch = patch.T if draw(2) else patch
        patch = 1 - patch if draw(2) else patch
        chance, level, top = torch.rand(3, generator=rng).tolist()
        patches.append(
            stretch(patch, 0.1 + 0.8 * level, 0.3 + 0.7 * top)
            if chance < recipe.stretched
            else patch
        )
    clean = torch.stack(patches)[:, None]
    return clean, clean + recipe.sigma * torch.randn(clean.shape, generator=rng)


def build(recipe: DenoiserRecipe) -> deepinv.models.DnCNN:
    """The untrained network: Kaiming start from the seed, last layer zero (the identity map)."""
    net = deepinv.models.DnCNN(1, 1, depth=recipe.depth, nf=recipe.features, pretrained=None)
    rng = seeding.generator(recipe.seed, "weights")
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
            torch.nn.init.zeros_(module.bias)
    torch.nn.init.zeros_(net.out_conv.weight)
    return net.to(memory_format=torch.channels_last)


def budget(recipe: DenoiserRecipe) -> Budget:
    """Steps, batch, rate and clipping of the recipe, as the training loop takes them."""
    return Budget(
        steps=recipe.steps,
        batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        clip=recipe.clip,
        schedule="one_cycle",
        checkpoint_every=500,
    )


def train(
    photographs: dict[str, Image.Image], recipe: DenoiserRecipe, checkpoint: Path
) -> tuple[torch.nn.Module, dict]:
    """Run the recipe to its end, from ``checkpoint`` where there is one; returns the network and
    its record: mean PSNR of the patches over each 500 steps, and seconds.
    """
    _check_sides(photographs, recipe)
    net, levels = build(recipe), pyramid(photographs, recipe.scales)
    identity = {"recipe": describe(asdict(recipe)), "photographs": describe(levels)}
    training = Training.start(
        net,
        budget(recipe),
        name="net",
        what="the denoiser",
        identity=identity,
        checkpoint=checkpoint,
    )

    def objective(index: torch.Tensor, step: int) -> tuple[torch.Tensor, Record]:
        clean, noisy = (patches[index] for patches in draw_patches(levels, recipe, step))
        with device.autocast(recipe.precision, clean.device):
            residual = net(noisy.to(memory_format=torch.channels_last)) - clean
        loss = (residual / recipe.sigma).square().mean()
        return loss, {"psnr": -10 * math.log10(loss.item() * recipe.sigma**2)}

    training.run(objective, count=recipe.batch_size, seed=recipe.seed)
    record = {"training_psnr": _means(training.history), "seconds": round(training.seconds, 1)}
    return net.to(memory_format=torch.contiguous_format), record


def _means(history: list[Record], every: int = 500) -> list[list[float]]:
    """Step and mean PSNR of every stretch of ``every`` steps."""
    stretches = [history[first : first + every] for first in range(0, len(history), every)]
    return [
        [part[-1]["step"], round(sum(record["psnr"] for record in part) / len(part), 3)]
        for part in stretches
    ]


def main(argv: list[str] | None = None) -> int:
    """The command line; bad input is one line and exit status 2."""
    parser = argparse.ArgumentParser(
        prog="python scripts/train_denoiser.py", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--bsds", required=True, help="BSDS500 train photographs: a folder or a tar file"
    )
    parser.add_argument("--out", required=True, help="the .safetensors file to write")
    parser.add_argument("--steps", type=int, default=DenoiserRecipe.steps, help="training steps")
    parser.add_argument("--seed", type=int, default=DenoiserRecipe.seed)
    options = parser.parse_args(argv)
    recipe = DenoiserRecipe(steps=options.steps, seed=options.seed)
    try:
        out = require_path("--out", options.out)
        require_int("--steps", options.steps, 1)
        photographs = read_photographs(options.bsds)
        net, record = train(photographs, recipe, out.with_suffix(".checkpoint"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "deepinv": deepinv.__version__,
    }
    record |= {
        "data": DATA,
        "terms": TERMS,
        "recipe": asdict(recipe),
        "photographs": len(photographs),
        "threads": torch.get_num_threads(),
        "versions": versions,
    }
    storage.write_tensors(out, net.state_dict(), record)
    out.with_suffix(".checkpoint").unlink(missing_ok=True)
    print(f"wrote {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
