"""Which recipe learns the first iteration best in the same time: successive halving.

    python benchmarks/recipes.py [--data mnist] [--seconds 20] [--json FILE]

Every recipe (network, width, learning rate, batch) trains N-DIPA behind one closed form, its first
iteration alone, for as many steps as take the given seconds here. The better half, by mean PSNR of
training images held out after a whole run (K = 20, the prior's share decays as 1 / k), begins
again with twice the time, until one is left. Source of the method: K. Jamieson and A. Talwalkar,
"Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
from common import finish, parser, started

import dipa
from dipa.settings import Budget, Phase

K, STUDENT_STEP, SIDE = 20, 0.4, 32
WARM, TIMED = 2, 6  # steps of a trial, of which the first are not timed


@dataclass(frozen=True)
class Recipe:
    """What is tried: a backbone and its width, learning rate and batch."""

    backbone: str
    features: int
    learning_rate: float
    batch_size: int

    @property
    def name(self) -> str:
        """In one line."""
        return f"{self.backbone} {self.features}, rate {self.learning_rate:g}, {self.batch_size}"


RECIPES = [
    Recipe(backbone, features, rate, batch)
    for (backbone, features), rate, batch in product(
        (("unet", 12), ("unet", 21), ("unet", 32), ("convnext", 32)), (1e-3, 3e-3), (16, 32)
    )
]


@dataclass(frozen=True)
class Problem:
    """The camera, its closed form, the images to train on and those held out."""

    physics: Any
    closed_form: dipa.LinearPreconditioner
    solver: dipa.FISTA
    train: torch.Tensor
    held: torch.Tensor

    @classmethod
    def make(cls, options: argparse.Namespace) -> Problem:
        """On the images of the options, the last of them held out."""
        physics = dipa.operators.single_pixel((1, SIDE, SIDE), ratio=0.2).to(options.device)
        count = options.count or None
        images = dipa.data.load(options.data, "train", size=SIDE, count=count).images
        images = images.to(options.device)
        train, held = images[: -options.held], images[-options.held :]
        closed = dipa.LinearPreconditioner.ridge(
            physics, train, stepsize=STUDENT_STEP, null_weight=1.0
        )
        denoiser = dipa.denoisers.load(options.denoiser).to(options.device)
        solver = dipa.FISTA(
            dipa.PnP(denoiser), K, momentum="none", start="zero", prior_decay=1.0, safeguard=False
        )
        return cls(physics, closed.requires_grad_(False), solver, train, held)

    def network(self, recipe: Recipe) -> dipa.ComposedPreconditioner:
        """An untrained network of this recipe behind the closed form."""
        size = {"features": recipe.features, "blocks": 3, "scaling": "image"}
        network = dipa.NeuralPreconditioner(recipe.backbone, img_size=(1, SIDE, SIDE), **size)
        return dipa.ComposedPreconditioner(self.closed_form, network.to(self.held.device))

    def trained(self, recipe: Recipe, steps: int, report: Any = None) -> torch.nn.Module:
        """P after so many steps on the first iteration."""
        budget = Budget(
            steps=steps,
            batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            schedule="one_cycle",
        )
        return dipa.distill(
            self.solver,
            self.network(recipe),
            self.physics,
            None,
            self.train,
            phases=[Phase(budget, iterations=1, before_prior=True)],
            stepsize=STUDENT_STEP,
            validation=0,
            progress=False,
            report=report,
        ).trained

    def steps(self, recipe: Recipe, seconds: float) -> int:
        """How many steps of this recipe take ``seconds`` here."""
        times: list[float] = []
        self.trained(recipe, WARM + TIMED, lambda record: times.append(time.perf_counter()))
        return max(WARM, round(seconds * (TIMED - 1) / (times[-1] - times[WARM])))

    @torch.no_grad()
    def psnr(self, P: torch.nn.Module) -> float:
        """Mean PSNR of the images held out after K iterations."""
        y = self.physics.A(self.held)
        x = self.solver(y, self.physics, preconditioner=P, stepsize=STUDENT_STEP).x
        return dipa.metrics.psnr(x, self.held).mean().item()


def halved(problem: Problem, recipes: Sequence[Recipe], seconds: float) -> list[dict[str, Any]]:
    """The trials of every round, the best first; twice the seconds from one to the next."""
    trials: list[dict[str, Any]] = []
    left, number = list(recipes), 1
    while left:
        found = [trial(problem, recipe, seconds) | {"round": number} for recipe in left]
        order = sorted(range(len(left)), key=lambda at: -found[at]["psnr"])
        trials += [found[at] for at in order]
        left = [left[at] for at in order[: len(left) // 2]]
        seconds, number = 2 * seconds, number + 1
    return trials


def trial(problem: Problem, recipe: Recipe, seconds: float) -> dict[str, Any]:
    """One recipe for so many seconds."""
    steps, began = problem.steps(recipe, seconds), time.perf_counter()
    P = problem.trained(recipe, steps)
    took, psnr = time.perf_counter() - began, problem.psnr(P)
    print(f"{recipe.name}: {steps} steps, {took:.0f} s, {psnr:.2f} dB", flush=True)
    counted = {"steps": steps, "seconds": round(took), "psnr": round(psnr, 3)}
    numbers = P.second.parameter_count
    return asdict(recipe) | {"name": recipe.name, "parameters": numbers} | counted


def main(arguments: Sequence[str] | None = None) -> None:
    """Try and print."""
    made = parser(__doc__)
    made.add_argument("--seconds", type=float, default=20.0, help="of the first round (20)")
    made.add_argument("--count", type=int, default=0, help="images, 0 for all (default 0)")
    made.add_argument("--held", type=int, default=64, help="of them held out (default 64)")
    made.add_argument("--recipes", type=int, default=len(RECIPES), help="tried (default all)")
    options = made.parse_args(arguments)
    started(options.device)
    problem = Problem.make(options)
    trials = halved(problem, RECIPES[: options.recipes], options.seconds)
    untrained = problem.psnr(problem.closed_form)
    finish({"trials": trials, "closed form": untrained}, {"best": trials[-1]["psnr"]}, options)


if __name__ == "__main__":
    main()
