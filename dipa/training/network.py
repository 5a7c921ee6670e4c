"""Train an end-to-end network on clean images: the supervised loss, with the loop of all
training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .. import losses, metrics, paired
from ..cache import Identity
from ..checks import (
    require,
    require_flag,
    require_images,
    require_int,
    require_kind,
    require_new_file,
)
from ..gathered import Images, images_of
from ..identity import describe, describe_code, describe_physics
from ..operators.measure import measure
from ..physics import declared_size, require_like, require_takes, warn_range
from ..settings import Budget, Variations
from ..storage import Trained
from ..variations import varied
from .loop import Fit, Record, Training
from .pairs import rows_of


def train_network(
    network: nn.Module,
    physics: LinearPhysics,
    images: Images,
    *,
    budget: Budget | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    variations: Variations | None = None,
    targets: Images | None = None,
    progress: bool = True,
    report: Callable[[Record], None] | None = None,
) -> Fit:
    r"""Train ``network`` in place to reconstruct:
    :math:`\min_\theta\mathbb{E}_x\|f_\theta(Hx+\varepsilon,H)-x\|_2^2`.

    Args:
        network: ``network(y, physics) -> x``, such as those of :mod:`dipa.endtoend`.
        physics: H, the operator to train on. One whose parameters have a row for every image (a
            batch of N masks) shows each image to its own.
        images: clean images (N, C, H, W) in [0, 1] ([-1, 1] for real and imaginary parts); another
            range is one warning.
        budget: steps, optimiser, schedule; the loss is a sum over pixels, so ``clip`` decides the
            first steps.
        seed: of the order of images and of the measurement noise (not of the network's weights).
        checkpoint: a file to save to and resume from; a resumed run ends in the same tensors as an
            uninterrupted one (same machine, versions and thread count) for a network that draws no
            random numbers.
        variations: how far the images of a step are varied, as for :func:`~dipa.training.distill`.
        targets: images (N, C, H, W) to reconstruct from the measurements of ``images`` in their
            place, such as converged solutions; not with ``variations``.
        progress: show a bar with loss, PSNR and time left.
        report: called with each history record (step, loss, supervised, psnr, learning rate,
            gradient norm).

    Raises:
        InputError: arguments that do not fit together; a loss, gradient or updated network that is
            not finite. The checkpoint then stays as last saved, at most ``checkpoint_every`` steps
            back.

    Source: the loss is D2GP Eq. (6); DIPA Table 7 compares with networks trained end to end.
    """
    budget = Budget() if budget is None else budget
    require(
        isinstance(network, nn.Module),
        "network",
        network,
        "a torch module, network(y, physics) -> x",
    )
    require(isinstance(budget, Budget), "budget", budget, "a Budget")
    variations = Variations() if variations is None else variations
    require_kind("variations", variations, Variations)
    seed = require_int("seed", seed, 0)
    checkpoint, progress = (
        require_new_file("checkpoint", checkpoint),
        require_flag("progress", progress),
    )
    images = images_of("images", images)
    require_images("images", images)
    size = declared_size(physics) or tuple(images.shape[1:])
    require(
        size == tuple(images.shape[1:]),
        "physics.img_size",
        size,
        f"that of the images, {tuple(images.shape[1:])}",
    )
    require_like("network", network, require_takes("physics", physics, images, paired_too=True))
    count, noise_alone = rows_of("physics", physics, images, len(images))
    wanted = images if targets is None else images_of("targets", targets)
    got, allowed = tuple(wanted.shape), f"{tuple(images.shape)}, as the images"
    require(wanted.shape == images.shape, "targets.shape", got, allowed)
    own = targets is None or not variations.active
    require(own, "targets", "targets and variations", "the one or the other")
    warn_range("images", images, physics)
    how = [asdict(budget), seed] + ([asdict(variations)] if variations.active else [])
    how += [] if targets is None else [wanted]
    identity = _identity(network, physics, images, how) if checkpoint else {}
    training = Training.start(
        network,
        budget,
        name="network",
        what="the network",
        identity=identity,
        checkpoint=checkpoint,
    )

    def objective(index: torch.Tensor, step: int) -> tuple[torch.Tensor, Record]:
        x = varied(images[index], variations, seed=seed, draw=step, indices=index)
        seen = physics
        if count > 1:
            seen = paired.of_images(physics, index, count, noise_alone=noise_alone)
        x_hat = network(measure(seen, x, seed=seed, indices=index), seen)
        require(
            x_hat.shape == x.shape,
            "network",
            tuple(x_hat.shape),
            f"one that gives images {tuple(x.shape)}",
        )
        x = x if targets is None else wanted[index]
        loss = losses.supervised(x_hat, x).mean()
        return loss, {
            "supervised": loss.item(),
            "psnr": metrics.psnr(x_hat.detach(), x).mean().item(),
        }

    network.train()
    training.run(objective, count=len(images), seed=seed, progress=progress, report=report)
    network.eval()
    numbers = {
        "network": _describe(network),
        "budget": asdict(budget),
        "seed": seed,
        "images": len(images),
    }
    numbers |= {"variations": asdict(variations)} if variations.active else {}
    return Fit(
        network, training.history, numbers | {"training_seconds": round(training.seconds, 2)}
    )


def _describe(network: nn.Module) -> dict[str, Any]:
    return (
        {"name": network.kind, **network.header()}
        if isinstance(network, Trained)
        else {"kind": type(network).__name__}
    )


def _identity(
    network: nn.Module, physics: LinearPhysics, images: torch.Tensor, how: list[Any]
) -> Identity:
    """Ties a checkpoint to everything that shapes the run, the network's first weights included."""
    record = {
        "network": describe(network),
        "images": describe(images),
        "budget or seed": describe(how),
    }
    return {"dipa, torch or deepinv": describe_code()} | describe_physics(physics, images) | record
