"""Training at equilibrium: the best parameter of a problem with a closed form, what restarts save,
exact resume, and what is refused.
"""

import deepinv
import pytest
import torch
from batteries import (
    identity_denoiser,
    images,
    matrix_physics,
    refuses,
    smooth_images,
    solver,
)
from torch import nn

import dipa
from dipa import Budget
from dipa.operators.measure import measure
from dipa.training import train_equilibrium

SIZE = (1, 4, 4)


class Ridge(nn.Module):
    """The prior exp(w) ||x||^2 / 2, whose weight is learned."""

    def __init__(self, weight: float = 0.3):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(float(weight)).log())

    def step(self, z, direction, stepsize):
        return (z - stepsize * direction) / (1 + stepsize * self.w.exp())


def denoising(noise: float = 0.2):
    """H is the identity, with noise."""
    physics = matrix_physics(torch.eye(16), SIZE)
    physics.noise_model = deepinv.physics.GaussianNoise(noise)
    return physics


def ista(prior, iterations: int = 3) -> dipa.FISTA:
    return dipa.FISTA(prior, iterations, momentum="none", start="zero")


def best_weight(physics, x) -> float:
    """x* = y / (1 + w): least squares in 1 / (1 + w)."""
    y = physics.A_adjoint(measure(physics, x))
    return ((y * y).sum() / (y * x).sum() - 1).item()


@pytest.mark.parametrize("tail", [None, 1, 5])
def test_it_finds_the_weight_of_least_squares(tail):
    """The gradients of all three point the same way here, so all end in the same weight."""
    physics, x, prior = denoising(), images(6, *SIZE), Ridge()
    budget = Budget(steps=150, batch_size=6, learning_rate=0.1, schedule="cosine")
    options = {"tail": tail, "budget": budget, "stepsize": 0.5, "progress": False}
    fit = train_equilibrium(ista(prior), None, physics, x, **options)
    assert prior.w.exp().item() == pytest.approx(best_weight(physics, x), rel=1e-2)
    assert fit.trained is prior
    assert fit.history[0]["contraction"] == pytest.approx(0.5 / (1 + 0.5 * 0.3), rel=0.05)


def test_the_equilibrium_does_not_depend_on_how_many_iterations_the_solver_has():
    """Another K is the same training."""
    physics, x = denoising(), images(4, *SIZE)
    ends = []
    for count in (1, 50):
        prior = Ridge()
        budget = Budget(steps=5, batch_size=4, learning_rate=0.1)
        train_equilibrium(
            ista(prior, count), None, physics, x, budget=budget, stepsize=0.5, progress=False
        )
        ends.append(prior.w.item())
    assert ends[0] == ends[1]


def test_a_restart_saves_iterations_and_changes_nothing_else():
    physics, x = denoising(), images(6, *SIZE)
    ends = {}
    for restart in (True, False):
        prior = Ridge()
        budget = Budget(steps=20, batch_size=3, learning_rate=0.01, schedule="constant")
        fit = train_equilibrium(
            ista(prior),
            None,
            physics,
            x,
            restart=restart,
            budget=budget,
            stepsize=0.2,
            tolerance=1e-6,
            progress=False,
        )
        ends[restart] = prior.w.item(), [record["iterations"] for record in fit.history]
    assert ends[True][0] == pytest.approx(ends[False][0], rel=1e-4)
    assert sum(ends[True][1][2:]) < 0.7 * sum(ends[False][1][2:])
    assert ends[True][1][0] == ends[False][1][0], "nothing is kept yet"


def test_a_preconditioner_and_a_denoiser_learn_together():
    physics, x = dipa.operators.single_pixel(SIZE, ratio=0.5), smooth_images(6, size=4)
    denoiser = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    with torch.no_grad():
        denoiser.weight.copy_(0.9 * torch.eye(9)[4].reshape(1, 1, 3, 3))
    before = denoiser.weight.clone()

    class Taking(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = denoiser

        def forward(self, x, sigma):
            return self.net(x)

    P = dipa.LinearPreconditioner.identity(physics, SIZE)
    weights = [p.clone() for p in P.parameters()]
    prior = dipa.PnP(Taking())
    made = ista(prior)
    budget = Budget(steps=30, batch_size=6, learning_rate=1e-2, schedule="constant")
    fit = train_equilibrium(made, P, physics, x, budget=budget, stepsize=0.5, progress=False)
    assert fit.trained is P and fit.history[-1]["loss"] < 0.8 * fit.history[0]["loss"]
    assert not torch.equal(denoiser.weight, before)
    assert any(not torch.equal(a, b) for a, b in zip(weights, P.parameters(), strict=True))
    y = physics.A(x)
    for count in (3, 40):  # for no number of iterations in particular: no warning
        assert ista(prior, count)(y, physics, preconditioner=fit).status == "completed"
    assert P.setting["stepsize"] == 0.5 and "iterations" not in P.setting


def test_a_resumed_training_ends_in_the_same_tensors(tmp_path):
    """The kept equilibria are part of it."""
    physics, x = denoising(), images(6, *SIZE)

    def train(file, stop=None):
        prior = Ridge()

        def report(record):
            if record["step"] == stop:
                raise KeyboardInterrupt

        budget = Budget(steps=8, batch_size=2, learning_rate=0.05, checkpoint_every=2)
        options = {"budget": budget, "stepsize": 0.2, "progress": False, "iterations": 4}
        fit = train_equilibrium(
            ista(prior), None, physics, x, checkpoint=file, report=report, **options
        )
        return prior.w.item(), [record["iterations"] for record in fit.history]

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "part", stop=5)
    assert train(tmp_path / "part") == whole


def test_refuses():
    physics, x = denoising(), images(4, *SIZE)
    quick = {"budget": Budget(steps=1, batch_size=2), "progress": False}
    train = lambda made, P=None, **options: train_equilibrium(  # noqa: E731
        made, P, physics, x, **{**quick, **options}
    )
    refuses(lambda: train(solver(3)), "solver.momentum", "nesterov", "none")
    decaying = dipa.FISTA(Ridge(), 3, momentum="none", prior_decay=1.0)
    refuses(lambda: train(decaying), "solver.prior_decay", "1")
    refuses(lambda: train(ista(dipa.PnP(identity_denoiser))), "preconditioner", "parameters")
    refuses(lambda: train(ista(Ridge()), tail=0), "tail", "0")
    refuses(lambda: train(ista(Ridge()), tolerance=0), "tolerance", "0")
    refuses(lambda: train(ista(Ridge()), stepsize=1e9), "stepsize", "diverged")
    refuses(lambda: train(ista(Ridge(1e-9)), tail=None, stepsize=2.0), "operator", "contracts")
