"""Step lengths from a network inside scaled gradient projection, beside FISTA and a direct network.

    python benchmarks/learned_steps.py inpainting [--data bsds500] [--size 64] [--json FILE]

An image is recovered as the wavelet coefficients x that minimise 1/2 ||Ax - y||^2 + lambda ||x||_1.
Networks are trained on half of the samples without noise, from measurements alone, and tested there
and on what they were not trained for: other shares of samples, noise, another lambda. Every image
has a mask of its own. Source: arXiv 1902.02449, section 6 and Algorithms 2 to 4; its lambda and its
noise are for images in [0, 255], here in [0, 1].
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from common import finish, parser, started
from deepinv import physics as dp
from deepinv.optim import L1Prior

import dipa
from dipa import endtoend, networks, seeding
from dipa.operators import in_wavelets
from dipa.training import Budget, fit_lengths, train_network, train_steps

LONG, SHORT = 100, 40  # iterations of FISTA and of what is learned, in a test
NOISE = 5 / 255
Masks = Callable[[int, int, float, torch.Generator], torch.Tensor]


def samples(count: int, side: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Pixels drawn one by one."""
    drawn = torch.rand((count, 1, side, side), generator=generator)
    return (drawn < share).float()


def lines(count: int, side: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Lines of k-space, drawn with a Gaussian density."""
    size = (2, side, side)
    made = dp.generator.GaussianMaskGenerator(size, acceleration=1 / share, rng=generator)
    return made.step(count)["mask"]


def missing(size: tuple[int, int, int], mask: torch.Tensor) -> dp.LinearPhysics:
    """Inpainting."""
    return dp.Inpainting(size, mask=mask)


def fourier(size: tuple[int, int, int], mask: torch.Tensor) -> dp.LinearPhysics:
    """Fourier samples of images with a real and an imaginary part."""
    return dp.MRI(mask=mask, img_size=size)


def blur(size: tuple[int, int, int], mask: None) -> dp.LinearPhysics:
    """A Gaussian of standard deviation 2, periodic."""
    return dp.BlurFFT(size, filter=dp.functional.gaussian_blur(sigma=(2.0, 2.0)))


@dataclass(frozen=True)
class Task:
    """A kind of operator: channels of its images, masks, lambda, and the tests beside the one it
    is trained for, each as what it changes.
    """

    channels: int
    masks: Masks | None
    operator: Callable[..., dp.LinearPhysics]
    weight: float
    tests: dict[str, dict[str, float]]


LAMBDAS = {"half of lambda": 0.5, "twice lambda": 2.0, "ten times lambda": 10.0}
SHARES = {"30 %": {"share": 0.3}, "50 %": {}, "70 %": {"share": 0.7}}
OTHERS = {name: {"lambda": factor} for name, factor in LAMBDAS.items()}
TASKS = {
    "inpainting": Task(1, samples, missing, 0.1 / 255, SHARES | OTHERS),
    "fourier": Task(
        2, lines, fourier, 0.1 / 255, SHARES | {"50 %, noise": {"noise": NOISE}} | OTHERS
    ),
    "deblurring": Task(1, None, blur, 1e-5, {"blur": {}} | OTHERS),
}


@dataclass(frozen=True)
class Problem:
    """Coefficients of images with their operator and measurements."""

    truth: torch.Tensor
    physics: dp.LinearPhysics
    y: torch.Tensor
    weight: float

    @classmethod
    def make(cls, task: Task, images: torch.Tensor, seed: int, name: str, **changes: float):
        """Of some images: ``name`` is that of the draw of masks and noise."""
        side, generator = images.shape[-1], seeding.generator(seed, "learned steps", name)
        share = changes.get("share", 0.5)
        mask = task.masks and task.masks(len(images), side, share, generator)
        physics = in_wavelets(task.operator(tuple(images.shape[1:]), mask))
        truth = physics[0].A_adjoint(images)
        clean = physics.A(truth)
        noise = torch.randn(clean.shape, generator=generator) * changes.get("noise", 0.0)
        y = clean + physics[1].A(physics[1].A_adjoint(noise)) if task.masks else clean + noise
        return cls(truth, physics, y, task.weight * changes.get("lambda", 1.0))

    @property
    def prior(self) -> dipa.Prox:
        """The weighted l1 norm."""
        return dipa.Prox(L1Prior(), self.weight)

    def errors(self, x: torch.Tensor) -> torch.Tensor:
        """The squared error over the square of the truth, image by image, in dB."""
        error, square = (
            (part.flatten(1).square().sum(dim=1)) for part in (x - self.truth, self.truth)
        )
        return 10 * torch.log10(error / square)


def untrained(problem: Problem) -> Iterator[tuple[str, dict[str, Any]]]:
    """ISTA and FISTA with steps of 1/L: backtracking from there, L being 1, never finds another."""
    fista = dipa.FISTA(problem.prior, LONG, start="zero")
    for name, solver in {"ISTA": replace(fista, momentum="none"), "FISTA": fista}.items():
        yield name, curve(problem, solver, stepsize="1/L")


def curve(problem: Problem, solver: Any, **options: Any) -> dict[str, Any]:
    """Errors, seconds, and what else is known, over the iterations."""
    found: dict[str, list[float]] = {"nmse": [], "sd": [], "seconds": []}
    began, looked = time.perf_counter(), 0.0

    def look(state: Any) -> None:
        nonlocal looked
        now = time.perf_counter()
        errors = problem.errors(state.x)
        found["nmse"].append(round(errors.mean().item(), 4))
        found["sd"].append(round(errors.std().item(), 4))
        found["seconds"].append(round(now - began - looked, 4))
        for name in ("calls", "proposed"):
            if hasattr(state, name):
                value = getattr(state, name)
                value = value.float().mean().item() if isinstance(value, torch.Tensor) else value
                found.setdefault(name, []).append(round(value, 4))
        looked += time.perf_counter() - now

    solver(problem.y, problem.physics, observe=look, **options)
    found.setdefault("calls", [2 * k for k in range(len(found["nmse"]))])
    return found


def trained(options: argparse.Namespace, problem: Problem) -> dict[str, tuple[Any, dict]]:
    """What is learned, each with its training: networks that give one step length an image or one
    an entry, the same for all images in closed form, a network for the converged image in one go.
    """
    size = tuple(problem.truth.shape[1:])
    width = {"features": options.features, "blocks": 4}
    budget = Budget(steps=options.steps, batch_size=options.batch, schedule="one_cycle")
    rated = replace(budget, learning_rate=options.rate)
    common = {"seed": options.seed, "progress": False}
    solver = dipa.solvers.SGP(problem.prior, options.iterations)
    found = {}
    for name, lengths in (("step", "image"), ("diagonal", "entry")):
        norm = dipa.physics.lipschitz(problem.physics, size, problem.truth)
        network = networks.StepNetwork(size, lengths=lengths, norm=norm, seed=options.seed, **width)
        fit = train_steps(network, solver, problem.physics, problem.y, budget=rated, **common)
        found[name] = (fit.trained, told(fit) | {"nmse": fit.record["nmse"]})
        print(name, found[name][1], file=sys.stderr, flush=True)
    for name, lengths in (("fitted step", "image"), ("fitted diagonal", "entry")):
        fit = fit_lengths(solver, problem.physics, problem.y, lengths=lengths)
        found[name] = (fit.trained, told(fit) | {"nmse": fit.record["nmse"]})
    fista = dipa.FISTA(problem.prior, 1200, start="zero")
    converged = fista(problem.y, problem.physics, stepsize="1/L").x
    direct = endtoend.DirectUNet(size, start="adjoint", seed=options.seed, **width)
    whole = replace(budget, steps=options.steps * options.iterations, learning_rate=1e-3)
    arguments = (direct, problem.physics, problem.truth)
    fit = train_network(*arguments, budget=whole, targets=converged, **common)
    found["direct"] = (fit.trained, told(fit))
    return found


def told(fit: Any) -> dict[str, Any]:
    """Size and cost of a training."""
    held = [*fit.trained.parameters()] or [*fit.trained.buffers()]
    numbers = sum(numbers.numel() for numbers in held)
    return {"parameters": numbers, "seconds": fit.record["training_seconds"]}


@torch.no_grad()
def tested(problem: Problem, found: dict[str, tuple[Any, dict]]) -> dict[str, Any]:
    """Every method on one test."""
    curves = dict(untrained(problem))
    for name in [name for name in found if name != "direct"]:
        solver = dipa.solvers.SGP(problem.prior, SHORT)
        curves[name] = curve(problem, solver, steps=found[name][0])
    began = time.perf_counter()
    x = found["direct"][0](problem.y, problem.physics)
    errors, seconds = problem.errors(x), time.perf_counter() - began
    curves["direct"] = {
        "nmse": [errors.mean().item()],
        "sd": [errors.std().item()],
        "seconds": [seconds],
    }
    return curves


def images(options: argparse.Namespace, channels: int, split: str, count: int) -> torch.Tensor:
    """Photographs, with an imaginary part of zero where the operator is complex."""
    found = dipa.data.load(options.data, split, size=options.size, count=count).images[:count]
    return torch.cat([found, torch.zeros_like(found)], dim=1) if channels == 2 else found


def main(argv: list[str] | None = None) -> None:
    """Train, test, print."""
    options = arguments().parse_args(argv)
    started(options.device)
    task = TASKS[options.task]
    shown = images(options, task.channels, "train", options.count)
    fits = trained(options, Problem.make(task, shown, options.seed, "train"))
    shown, tests = images(options, task.channels, "test", options.test), {}
    for name, changes in task.tests.items():
        problem = Problem.make(task, shown, options.seed, "test", **changes)
        tests[name] = tested(problem, fits)
        ends = {way: (round(c["nmse"][-1], 2)) for way, c in tests[name].items()}
        print(name, ends, file=sys.stderr, flush=True)
    training = {name: record for name, (_, record) in fits.items()}
    first = next(name for name, changes in task.tests.items() if not changes)
    headline = {way: found["nmse"][-1] for way, found in tests[first].items()}
    finish({"tests": tests, "training": training}, headline, options)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    made = parser(__doc__)
    made.add_argument("task", choices=TASKS)
    made.add_argument("--size", type=int, default=64, help="side of the images (default 64)")
    made.add_argument("--count", type=int, default=200, help="training images (default 200)")
    made.add_argument("--test", type=int, default=50, help="test images (default 50)")
    made.add_argument("--features", type=int, default=8, help="of the networks (default 8)")
    made.add_argument("--iterations", type=int, default=12, help="trained for (default 12)")
    made.add_argument("--steps", type=int, default=80, help="of each iteration (default 80)")
    made.add_argument("--batch", type=int, default=16, help="images of a step (default 16)")
    made.add_argument("--rate", type=float, default=5e-3, help="learning rate (default 5e-3)")
    made.add_argument("--seed", type=int, default=0, help="of networks, masks and order")
    return made


if __name__ == "__main__":
    main()
