"""Learning at equilibrium: how wrong the gradient of a tail is, and what it is trained to.

    python benchmarks/equilibrium.py deblurring [--data bsds500] [--size 64] [--json FILE]

Levels of an elastic net on wavelet coefficients (dipa.elastic_net) are learned for one operator:
through K unrolled iterations, and at equilibrium with the exact gradient and with tails of one
and more applications, each image from its last equilibrium or from the start. Tested after K
iterations and far beyond. Source: "Restarted contractive operators to learn at equilibrium" (2025),
of which the abstract alone is public; the operators, noise and sizes are ours. (Denoising with
steps of 1/L is one proximity operator: its equilibrium is reached at once, and any tail is exact.)
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from common import finish, parser, started
from deepinv import physics as dp

import dipa
from dipa import seeding
from dipa.elastic_net import ElasticNet
from dipa.operators import in_wavelets
from dipa.operators.measure import measure
from dipa.reports.equilibrium import TAILS
from dipa.solvers import State, at_equilibrium, equilibrium
from dipa.training import train_equilibrium

K, ENDS = 20, (20, 80, 200, 1000)
CURVATURES = (0.3, 0.1, 0.03)  # of the gradient's bias: other contractions
NOISE = {"deblurring": 2 / 255, "inpainting": 10 / 255}
WAYS = {  # at equilibrium: applications in the tail, and whether images restart where they ended
    "exact, restart": (None, True),
    "tail 1, restart": (1, True),
    "tail 4, restart": (4, True),
    "tail 1, from the start": (1, False),
}


def operator(task: str, side: int, dtype: torch.dtype = torch.float32) -> dp.LinearPhysics:
    """What is measured of images (1, side, side), on their coefficients."""
    return in_wavelets(_on_images(task, side, dtype))


def _on_images(task: str, side: int, dtype: torch.dtype) -> dp.LinearPhysics:
    size, noise = (1, side, side), dp.GaussianNoise(NOISE[task])
    if task == "deblurring":
        kernel = dp.functional.gaussian_blur(sigma=(1.0, 1.0)).to(dtype)
        return dp.BlurFFT(size, filter=kernel, noise_model=noise)
    generator = seeding.generator(0, "equilibrium mask")
    mask = (torch.rand(size, generator=generator) < 0.5).to(dtype)
    return dp.Inpainting(size, mask=mask, noise_model=noise)


@dataclass(frozen=True)
class Problem:
    """An operator on coefficients, and the coefficients of training and test images."""

    physics: Any
    train: torch.Tensor
    test: torch.Tensor

    @classmethod
    def make(cls, options: argparse.Namespace) -> Problem:
        """As the options say."""
        physics = operator(options.task, options.size)
        shown = [
            dipa.data.load(options.data, split, size=options.size, count=count).images[:count]
            for split, count in (("train", options.count), ("test", options.test))
        ]
        return cls(physics, *(physics[0].A_adjoint(images) for images in shown))

    @property
    def size(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return tuple(self.train.shape[1:])

    def solver(self, prior: ElasticNet, iterations: int = K) -> dipa.FISTA:
        """Proximal gradient from zero."""
        return dipa.FISTA(prior, iterations, momentum="none", start="zero")


def biases(problem: Problem, task: str, curvature: float) -> dict[str, Any]:
    r"""The relative error of the gradient of each tail at untrained levels, and its bound

    :math:`q^{\mathrm{tail}}/(1-q)\,\|\partial_\theta T\|\,\|\nabla\ell\|`, with the contraction
    :math:`q=1/(1+\alpha\rho)` of the operator; beside it the one that was measured.
    """
    prior = ElasticNet(problem.size, curvature=curvature).double()
    physics, c = operator(task, problem.size[1], torch.float64), problem.train[:8].double()
    y = measure(physics, c)
    scheme = problem.solver(prior).scheme(y, physics, torch.zeros_like(c), None, "1/L")
    step = lambda x: scheme.step(State(0, x, x)).x  # noqa: E731
    found = equilibrium(step, torch.zeros_like(c), tolerance=1e-12, iterations=20_000)

    def gradient(tail: int | None) -> torch.Tensor:
        x = at_equilibrium(step, found.x, tail=tail, tolerance=1e-12, iterations=20_000)
        return torch.autograd.grad((x - c).square().sum(), prior.logarithms)[0]

    exact, alpha = gradient(None), cast(float, scheme.stepsize)
    with torch.no_grad():  # a level moves its own subband alone: the columns are orthogonal
        shrink = 1 / (1 + alpha * curvature)
        active = torch.stack(
            [(found.x * (prior.subband == s) != 0).sum() for s in range(len(prior.levels))]
        )
        moved = (alpha * prior.levels * shrink * active.sqrt()).max()
        most = moved * 2 * (found.x - c).norm() / (1 - shrink) / exact.norm()
        bounds = {tail: (shrink**tail * most).item() for tail in TAILS}
    errors = {tail: ((gradient(tail) - exact).norm() / exact.norm()).item() for tail in TAILS}
    measured = found.contraction.amax().item()
    return {"q": shrink, "contraction": measured, "errors": errors, "bounds": bounds}


def unrolled(problem: Problem, options: argparse.Namespace) -> tuple[ElasticNet, dict[str, Any]]:
    """Levels that are trained through K iterations, exactly."""
    prior, began = ElasticNet(problem.size, curvature=options.curvature), time.perf_counter()
    solver = problem.solver(prior)
    optimizer = torch.optim.Adam(prior.parameters(), lr=options.rate)
    for step in range(options.steps):
        index = seeding.batch_indices(len(problem.train), options.batch, step, options.seed)
        c = problem.train[index]
        y = measure(problem.physics, c, seed=options.seed, indices=index)
        x = solver(y, problem.physics, stepsize="1/L", backward=None).x
        optimizer.zero_grad()
        (x - c).square().flatten(1).sum(dim=1).mean().backward()
        optimizer.step()
    return prior, {"seconds": round(time.perf_counter() - began, 1)}


def at_the_end(
    problem: Problem, options: argparse.Namespace, tail: int | None, restart: bool
) -> tuple[ElasticNet, dict[str, Any]]:
    """Levels that are trained at equilibrium."""
    prior = ElasticNet(problem.size, curvature=options.curvature)
    budget = dipa.Budget(
        steps=options.steps,
        batch_size=options.batch,
        learning_rate=options.rate,
        schedule="constant",
        clip=0.0,
    )
    fit = train_equilibrium(
        problem.solver(prior),
        None,
        problem.physics,
        problem.train,
        tail=tail,
        restart=restart,
        budget=budget,
        tolerance=options.tolerance,
        iterations=1000,
        seed=options.seed,
        progress=False,
    )
    taken = [record["iterations"] for record in fit.history]
    seconds = round(fit.record["training_seconds"], 1)
    return prior, {"seconds": seconds, "iterations": sum(taken) / len(taken)}


@torch.no_grad()
def tested(problem: Problem, prior: ElasticNet, seed: int) -> dict[str, Any]:
    """Mean PSNR of the test images after each number of iterations, and the contraction there."""
    y = measure(problem.physics, problem.test, seed=seed, stream="test noise")
    iterates = problem.solver(prior, max(ENDS))(y, problem.physics, stepsize="1/L", iterates=True)
    images = problem.physics[0].A(problem.test)
    psnr = {
        str(k): dipa.metrics.psnr(problem.physics[0].A(iterates.iterates[k]), images).mean().item()
        for k in ENDS
    }
    return {"psnr": psnr, "levels": prior.levels.tolist()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, test, print."""
    made = parser(__doc__)
    made.add_argument("task", choices=NOISE)
    made.add_argument("--size", type=int, default=64, help="side of the images (default 64)")
    made.add_argument("--count", type=int, default=100, help="training images (default 100)")
    made.add_argument("--test", type=int, default=30, help="test images (default 30)")
    made.add_argument("--steps", type=int, default=60, help="of each training (default 60)")
    made.add_argument("--batch", type=int, default=10, help="images of a step (default 10)")
    made.add_argument("--rate", type=float, default=0.1, help="learning rate (default 0.1)")
    made.add_argument("--curvature", type=float, default=0.01, help="of the prior (default 0.01)")
    made.add_argument("--tolerance", type=float, default=1e-4, help="of equilibria (1e-4)")
    made.add_argument("--seed", type=int, default=0, help="of order and noise")
    options = made.parse_args(arguments)
    started(options.device)
    problem = Problem.make(options)
    bias = {str(curvature): biases(problem, options.task, curvature) for curvature in CURVATURES}
    untrained = ElasticNet(problem.size, curvature=options.curvature)
    fits: dict[str, tuple[ElasticNet, dict]] = {"untrained": (untrained, {"seconds": 0.0})}
    fits[f"unrolled, K = {K}"] = unrolled(problem, options)
    for name, (tail, restart) in WAYS.items():
        fits[name] = at_the_end(problem, options, tail, restart)
    ways = {}
    for name, (prior, record) in fits.items():
        ways[name] = record | tested(problem, prior, options.seed)
        print(name, record, ways[name]["psnr"], file=sys.stderr, flush=True)
    headline = {name: way["psnr"][str(max(ENDS))] for name, way in ways.items()}
    finish({"bias": bias, "ways": ways}, headline, options)


if __name__ == "__main__":
    main()
