"""Train a network to give the step lengths of scaled gradient projection, iteration by
iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from deepinv.physics import LinearPhysics
from torch import nn

from .. import metrics, seeding
from ..cache import Cache, Identity
from ..checks import (
    require,
    require_flag,
    require_int,
    require_kind,
    require_new_file,
    require_path,
)
from ..identity import describe, describe_code, describe_physics, solve_identity
from ..physics import lipschitz
from ..settings import Budget
from ..solvers import FISTA, SGP
from ..solvers.fista import first_iterate
from .loop import Fit, Record, Training


def train_steps(
    network: nn.Module,
    solver: SGP,
    physics: LinearPhysics,
    y: torch.Tensor,
    *,
    iterations: int | None = None,
    budget: Budget | None = None,
    target_iterations: int = 1200,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    cache: str | Path | None = None,
    progress: bool = True,
    report: Callable[[Record], None] | None = None,
) -> Fit:
    r"""Train ``network`` in place to give the step lengths of ``solver``, from measurements alone.

    What is to be reached, :math:`x_*`, is the end of a long FISTA run. For k = 0, 1, ... the
    network is trained on all iterates so far, one drawn for each image of a step,

    .. math::
        \min_\theta\sum_{i\le k}\sum_n\frac{\|x_*-\tilde x_i\|_2^2}{2\|x_*\|_2^2},\qquad
        \tilde x_i=\mathrm{prox}_{D\lambda\psi}\big(x_i-D\,\nabla g(x_i)\big),\quad
        D=\Psi_\theta(x_i,\nabla g(x_i)),

    and then the next iterates are made: :math:`x_{k+1}` is one step of 1/L from
    :math:`\tilde x_k`.

    Args:
        network: ``network(x, gradient)`` -> D, such as :class:`~dipa.networks.StepNetwork`: (B,)
            or (B, C, H, W), of x and gradient (B, C, H, W).
        solver: whose steps these will be; its prior and start.
        physics: the operator; one with parameters for every measurement (N masks) has as many.
        y: measurements (N, ...).
        iterations: to train for, >= 1; None for the solver's.
        budget: of each iteration.
        target_iterations: of FISTA to :math:`x_*`, >= 1.
        seed: of the order.
        checkpoint: a file to save to and resume from, one for each iteration: ``.0``, ``.1``, ...
            are added to its name. A resumed training ends in the same tensors.
        cache: folder where :math:`x_*` is kept, None for none.
        progress: show a bar for each iteration.
        report: called with each history record.

    Returns:
        :class:`Fit`; its record has ``nmse``, the mean over the measurements of
        :math:`\|x_k-x_*\|^2/\|x_*\|^2` in dB, for k = 0, 1, ....

    Raises:
        InputError: arguments that do not fit together, measurements that the operator cannot use, a
            network that gives no step lengths; a loss, gradient or updated network that is not
            finite.

    Source: "Accelerating Optimization Algorithms With Dynamic Parameter Selections Using CNNs"
    (arXiv 1902.02449), Eqs. (6) to (9) and Algorithm 2. The division by :math:`\|x_*\|_2^2`, image
    by image, is ours.
    """
    require(isinstance(network, nn.Module), "network", network, "a torch module")
    require_kind("solver", solver, SGP)
    budget = Budget() if budget is None else budget
    require_kind("budget", budget, Budget)
    count = solver.iterations if iterations is None else require_int("iterations", iterations, 1)
    target_iterations = require_int("target_iterations", target_iterations, 1)
    seed, progress = require_int("seed", seed, 0), require_flag("progress", progress)
    file = require_new_file("checkpoint", checkpoint)
    folder = None if cache is None else require_path("cache", cache)
    x = first_iterate(solver.start, y, physics)
    target = converged(solver, target_iterations, y, physics, x, folder)
    norm = lipschitz(physics, tuple(x.shape[1:]), x)
    problem = StepProblem(solver, physics, y, target, norm, seed)
    states, history, errors, seconds = [problem.state(x)], [], [problem.nmse(x)], 0.0
    for k in range(count):
        training = Training.start(
            network,
            budget,
            name="network",
            what=f"the step lengths, iteration {k + 1}",
            identity=_identity(network, problem, budget) if file else {},
            checkpoint=file and file.with_name(f"{file.name}.{k}"),
        )
        network.train()
        objective = problem.objective(network, states, k)
        training.run(objective, count=len(y), seed=seed + k, progress=progress, report=report)
        network.eval()
        history += [{"iteration": k + 1, **record} for record in training.history]
        seconds += training.seconds
        x = problem.next(network, *states[-1])
        states.append(problem.state(x))
        errors.append(problem.nmse(x))
    record = {
        "budget": asdict(budget),
        "seed": seed,
        "iterations": count,
        "measurements": len(y),
        "nmse": errors,
        "training_seconds": round(seconds, 2),
    }
    return Fit(network, history, record)


def converged(
    solver: SGP,
    iterations: int,
    y: torch.Tensor,
    physics: LinearPhysics,
    start: torch.Tensor,
    folder: Path | None,
) -> torch.Tensor:
    """The end of a long FISTA run."""
    fista = FISTA(cast(Any, solver.prior), iterations, start=solver.start)
    identity = solve_identity(fista, physics, start, "1/L", 0) if folder else {}
    entry = Cache(folder, "converged", identity)(
        {"measurements": describe(y)} if folder else {},
        lambda: ({"x": fista(y, physics, stepsize="1/L").x}, {}),
    )
    return entry[0]["x"].to(start)


@dataclass(frozen=True)
class StepProblem:
    """What is minimised, and where that ends."""

    solver: SGP
    physics: LinearPhysics
    y: torch.Tensor
    target: torch.Tensor
    norm: float
    seed: int

    def state(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """An iterate and its data gradient."""
        with torch.no_grad():
            return x, self.physics.A_adjoint(self.physics.A(x) - self.y)

    def nmse(self, x: torch.Tensor) -> float:
        """Mean over the images of the squared error to the target over its square, in dB."""
        return 10 * torch.log10(self.errors(x, slice(None)).mean()).item()

    def errors(self, x: torch.Tensor, index: Any) -> torch.Tensor:
        """The same of each image, (B,), no dB."""
        target = self.target[index].flatten(1)
        sizes = target.square().sum(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
        return (x.flatten(1) - target).square().sum(dim=1) / sizes

    def proposed(self, network: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The step that the network proposes."""
        lengths = network(x, gradient)
        got = tuple(getattr(lengths, "shape", ())) or type(lengths).__name__
        fine = got in ((len(x),), tuple(x.shape))
        require(fine, "network", f"one that gives {got}", f"({len(x)},) or {tuple(x.shape)}")
        lengths = lengths.reshape(-1, 1, 1, 1) if lengths.ndim == 1 else lengths
        return self.solver.prior.step(x, gradient, lengths)

    def objective(
        self, network: nn.Module, states: list[tuple[torch.Tensor, torch.Tensor]], k: int
    ) -> Callable[[torch.Tensor, int], tuple[torch.Tensor, Record]]:
        """The loss on iterates of the first k iterations, one drawn for each image."""
        points, gradients = (torch.stack(parts) for parts in zip(*states, strict=True))

        def loss(index: torch.Tensor, step: int) -> tuple[torch.Tensor, Record]:
            drawn = seeding.generator(self.seed, "iteration", k, step)
            of = torch.randint(k + 1, (len(index),), generator=drawn)
            x = self.proposed(network, points[of, index], gradients[of, index])
            error = self.errors(x, index).mean() / 2
            psnr = metrics.psnr(x.detach(), self.target[index]).mean().item()
            return error, {"nmse": 10 * torch.log10(2 * error.detach()).item(), "psnr": psnr}

        return loss

    @torch.no_grad()
    def next(self, network: nn.Module, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The proposal, and a step of 1/L behind it, Eqs. (6) and (8)."""
        x, gradient = self.state(self.proposed(network, x, gradient))
        return self.solver.prior.step(x, gradient, 1 / self.norm)


def _identity(network: nn.Module, problem: StepProblem, budget: Budget) -> Identity:
    """Ties the checkpoint of an iteration to all that shapes it."""
    return (
        {"dipa, torch or deepinv": describe_code()}
        | describe_physics(problem.physics, problem.target)
        | {
            "network": describe(network),
            "measurements": describe([problem.y, problem.target]),
            "budget or seed": describe([asdict(budget), problem.seed]),
        }
    )
