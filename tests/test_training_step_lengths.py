"""Training of step lengths: the length that a search finds, the iterates of the source by hand,
what is shown when, and exact resume.
"""

import deepinv
import pytest
import torch
from batteries import images, refuses, rng
from torch import nn

import dipa
from dipa import Budget
from dipa.networks import StepNetwork
from dipa.operators import in_wavelets
from dipa.training import train_steps

SIZE, COUNT = (1, 8, 8), 6
L1 = dipa.Prox(deepinv.optim.prior.L1Prior(), 0.02)
SOLVER = dipa.solvers.SGP(L1, iterations=3)
QUICK = Budget(steps=2, batch_size=COUNT, learning_rate=1e-3)


class Constant(nn.Module):
    """One length for all; remembers what it was shown."""

    def __init__(self, length: float = 1.0):
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor(float(length)).log())
        self.shown: list[torch.Tensor] = []

    def forward(self, x, gradient):
        self.shown.append(x.detach().clone())
        return self.exponent.exp().expand(len(x))


def problem():
    """Inpainting with a mask for every image, in wavelet coefficients."""
    x = images(COUNT, *SIZE)
    masks = (torch.rand(x.shape, generator=rng(1)) < 0.6).float()
    physics = in_wavelets(deepinv.physics.Inpainting(SIZE, mask=masks), "haar", 2)
    return physics, physics[1].A(x)


def soft(v: torch.Tensor, level: float) -> torch.Tensor:
    return v.sign() * (v.abs() - level).clamp_min(0)


def proposed(physics, y, x, length: float) -> torch.Tensor:
    """Equation (6)."""
    return soft(x - length * physics.A_adjoint(physics.A(x) - y), 0.02 * length)


def errors(x, target) -> torch.Tensor:
    return (x - target).flatten(1).square().sum(dim=1) / target.flatten(1).square().sum(dim=1)


def converged(physics, y) -> torch.Tensor:
    return dipa.FISTA(L1, iterations=1200)(y, physics, stepsize="1/L").x


def test_the_first_length_is_the_one_that_a_search_finds():
    """Of the squared error to the converged image, relative image by image."""
    kernel = deepinv.physics.functional.gaussian_blur(sigma=(1, 1))
    physics = deepinv.physics.Blur(filter=kernel, padding="circular")
    y = physics(images(COUNT, *SIZE) - 0.5)
    start, target, network = torch.zeros(COUNT, *SIZE), converged(physics, y), Constant()
    budget = Budget(steps=300, batch_size=COUNT, learning_rate=0.02, schedule="cosine")
    fit = train_steps(network, SOLVER, physics, y, iterations=1, budget=budget, progress=False)
    lengths = torch.linspace(0.5, 5.0, 1801)
    losses = [errors(proposed(physics, y, start, t.item()), target).mean() for t in lengths]
    best = lengths[torch.stack(losses).argmin()].item()
    assert abs(best - 1.0) > 0.05 and abs(network.exponent.exp().item() - best) < 0.01
    assert abs(fit.history[-1]["loss"] - min(losses).item() / 2) < 1e-4


def test_a_step_of_the_network_and_one_of_the_lipschitz_constant():
    """Equations (6) and (8): errors of the iterates for a length that is not trained."""
    physics, y = problem()
    budget = Budget(steps=1, batch_size=COUNT, learning_rate=1e-12)
    fit = train_steps(Constant(1.5), SOLVER, physics, y, budget=budget, progress=False)
    x, target = torch.zeros(COUNT, *SIZE), converged(physics, y)
    expected = [errors(x, target).mean()]
    for _ in range(3):
        x = proposed(physics, y, proposed(physics, y, x, 1.5), 1.0)
        expected.append(errors(x, target).mean())
    found = torch.tensor(fit.record["nmse"])
    assert torch.allclose(found, 10 * torch.stack(expected).log10(), atol=1e-2)
    assert found[3] < found[1] < found[0]


def test_every_iterate_so_far_is_shown():
    """Equation (9): in iteration k those of 0 to k, not the latest alone."""
    physics, y = problem()
    network = Constant()
    budget = Budget(steps=8, batch_size=COUNT, learning_rate=1e-12)
    train_steps(network, SOLVER, physics, y, budget=budget, progress=False)
    # 8 steps and the call that makes the next iterates, in each iteration
    zeros = [int((x.flatten(1).abs().sum(dim=1) == 0).sum()) for x in network.shown]
    assert zeros[:9] == [COUNT] * 9
    assert 0 < sum(zeros[9:17]) < 8 * COUNT and 0 < sum(zeros[18:26]) < 8 * COUNT
    assert zeros[17] == zeros[26] == 0
    distinct = {row.sum().item() for x in network.shown[18:26] for row in x.flatten(1)}
    assert len(distinct) > 2 * COUNT


def test_a_network_learns_more_than_one_length():
    """Lengths for each entry end nearer to the converged image than the best single length."""
    physics, y = problem()
    budget = Budget(steps=120, batch_size=COUNT, learning_rate=0.02, schedule="cosine")
    options = {"iterations": 1, "budget": budget, "progress": False}
    entry = StepNetwork(SIZE, lengths="entry", features=8, blocks=2)
    found = [
        train_steps(network, SOLVER, physics, y, **options).history[-1]["loss"]
        for network in (entry, Constant())
    ]
    assert found[0] < 0.8 * found[1]


@pytest.mark.parametrize("stopped", [1, 3, 4, 5])
def test_a_killed_training_goes_on_to_the_bit(stopped, tmp_path):
    physics, y = problem()

    def train(name, report=None):
        network = StepNetwork(SIZE, features=4, blocks=2)
        budget = Budget(steps=2, batch_size=4, learning_rate=1e-2, checkpoint_every=1)
        options = {"budget": budget, "checkpoint": tmp_path / name, "progress": False}
        return train_steps(network, SOLVER, physics, y, report=report, **options)

    def kill(record, steps=[]):  # noqa: B006
        steps.append(record)
        if len(steps) == stopped:
            raise KeyboardInterrupt

    whole = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("killed", kill)
    again = train("killed")
    assert again.record["nmse"] == whole.record["nmse"]
    for first, second in zip(whole.trained.parameters(), again.trained.parameters(), strict=True):
        assert torch.equal(first, second)
    assert len(again.history) == 6 and [r["iteration"] for r in again.history] == [1, 1, 2, 2, 3, 3]


def test_the_converged_images_are_kept(tmp_path):
    """What is in the cache is read, and not where the problem is another."""
    physics, y = problem()
    options = {"budget": QUICK, "cache": tmp_path, "progress": False, "iterations": 1}
    first = train_steps(Constant(), SOLVER, physics, y, **options)
    (file,) = tmp_path.iterdir()
    tensors, record = dipa.storage.read_tensors(file)
    dipa.storage.write_tensors(file, {"x": 2 * tensors["x"]}, record)
    again = train_steps(Constant(), SOLVER, physics, y, **options)
    assert again.record["nmse"][1] != first.record["nmse"][1]
    halved = train_steps(Constant(), SOLVER, physics, y / 2, **options)
    dipa.storage.write_tensors(file, {"x": 2 * tensors["x"]}, record)
    alone = train_steps(Constant(), SOLVER, physics, y / 2, **options | {"cache": None})
    assert halved.record["nmse"] == alone.record["nmse"]
    other = train_steps(Constant(), SOLVER, physics, y, target_iterations=1300, **options)
    assert other.record["nmse"][1] == pytest.approx(first.record["nmse"][1], abs=1e-2)


def test_what_is_refused():
    physics, y = problem()
    good = {"network": Constant(), "solver": SOLVER, "physics": physics, "y": y, "progress": False}
    for name, bad in {
        "network": lambda x, gradient: 1.0,
        "solver": dipa.FISTA(L1),
        "budget": 3,
        "iterations": 0,
        "target_iterations": 0,
        "seed": -1,
        "progress": 1,
        "y": y[:, :, :5],
    }.items():
        refuses(lambda given=good | {name: bad}: train_steps(**given), name)

    class Wrong(Constant):
        def forward(self, x, gradient):
            return super().forward(x, gradient)[:, None]

    refuses(
        lambda: train_steps(**good | {"network": Wrong(), "budget": QUICK}), "network", "(6, 1)"
    )
