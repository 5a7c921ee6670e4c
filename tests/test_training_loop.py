"""The loop of all training on an objective of one's own: batches, optimiser, clip and schedule
are those by hand.
"""

import hashlib

import pytest
import torch
from batteries import rng

from dipa import Budget
from dipa.identity import describe
from dipa.training import parallel
from dipa.training.loop import Training


def loop(
    objective, module=None, *, count=5, seed=0, checkpoint=None, report=None, **budget
) -> Training:
    module = module or torch.nn.Linear(3, 1, bias=False)
    told = Budget(**{"steps": 6, "batch_size": 2, "schedule": "constant", "clip": 0.0} | budget)
    training = Training.start(
        module,
        told,
        name="module",
        what="it",
        identity={"run": describe("a run")},
        checkpoint=checkpoint,
    )
    training.run(objective, count=count, seed=seed, progress=False, report=report)
    return training


def rates(training: Training) -> list[float]:
    return [record["learning_rate"] for record in training.history]


def told_losses(losses: list[float], **budget) -> list[float]:
    """The rates of a training whose losses are these, whatever it does."""
    module = torch.nn.Linear(1, 1, bias=False)

    def objective(index, step):
        return losses[step] + 0 * module.weight.sum(), {"psnr": 0.0}

    return rates(
        loop(objective, module, steps=len(losses), schedule="plateau", learning_rate=0.1, **budget)
    )


def test_the_plateau_schedule_looks_at_the_mean_of_its_window_alone():
    """Means of pairs: 5, then 4 (better), then 4.5 (worse); with the step before each pair, 17
    / 3 would be no better than 5.
    """
    found = told_losses([1.0, 9.0, 4.0, 4.0, 4.5, 4.5, 1.0], window=2, patience=0, factor=0.5)
    assert found == pytest.approx([0.1] * 6 + [0.05])


def test_the_plateau_schedule_waits_for_its_patience():
    bad = [1.0] + [2.0] * 6
    assert told_losses(bad, window=1, patience=2, factor=0.1) == pytest.approx(
        [0.1] * 4 + [0.01] * 3
    )
    assert told_losses(bad, window=1, patience=0, factor=0.1) == pytest.approx(
        [0.1, 0.1, *(0.1**k for k in range(2, 7))]
    )
    assert told_losses(bad, window=1, patience=6, factor=0.1) == [0.1] * 7


def quadratic(seed: int = 0):
    """Data, and a layer that is to fit them."""
    x, wanted = torch.randn(5, 3, generator=rng(1)), torch.randn(5, 1, generator=rng(2))
    module = torch.nn.Linear(3, 1, bias=False)
    module.weight.data = torch.randn(1, 3, generator=rng(seed))
    return module, lambda index: (module(x[index]) - wanted[index]).square().mean()


def recorded(loss):
    return lambda index, step: (loss(index), {"psnr": 0.0})


@pytest.mark.parametrize("clip", [0.0, 0.1])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_the_steps_are_those_of_torch(optimizer, decay, clip):
    (module, loss), (ours, our_loss) = quadratic(), quadratic()
    made = loop(
        recorded(loss),
        module,
        optimizer=optimizer,
        weight_decay=decay,
        clip=clip,
        learning_rate=0.05,
    )
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    by_torch, norms = kinds[optimizer](ours.parameters(), lr=0.05, weight_decay=decay), []
    for step in range(6):
        by_torch.zero_grad()
        our_loss(order(step)).backward()
        norms.append(ours.weight.grad.norm().item())
        if clip and norms[-1] > clip:
            ours.weight.grad.mul_(clip / norms[-1])
        by_torch.step()
    assert torch.allclose(module.weight, ours.weight, rtol=1e-6, atol=1e-7)
    assert [record["gradient_norm"] for record in made.history] == pytest.approx(norms, rel=1e-5)
    assert min(norms) > 0.1, "every step of a clipped training is clipped"


def order(step: int, count: int = 5, size: int = 2, seed: int = 0) -> torch.Tensor:
    """Epochs in an order of their own, one after the other, cut into batches."""
    first = [f"{seed}/epoch/{epoch}" for epoch in range(1 + (step + 1) * size // count)]
    seeds = [
        int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") // 2 for text in first
    ]
    return torch.cat([torch.randperm(count, generator=rng(own)) for own in seeds])[
        step * size : (step + 1) * size
    ]


@pytest.mark.parametrize("seed", [0, 7])
def test_batches_go_through_the_images_epoch_by_epoch_in_the_order_of_the_seed(seed):
    seen, (module, loss) = [], quadratic()

    def objective(index, step):
        seen.append((step, index.tolist()))
        return loss(index), {"psnr": 0.0}

    loop(objective, module, seed=seed, steps=10)
    assert seen == [(step, order(step, seed=seed).tolist()) for step in range(10)]
    assert [sorted(sum((index for _, index in seen), [])[5 * e : 5 * e + 5]) for e in range(4)] == [
        [*range(5)]
    ] * 4


def test_the_schedules_that_do_not_look_at_the_loss():
    module, loss = quadratic()
    cosine = rates(loop(recorded(loss), module, schedule="cosine", learning_rate=0.2, steps=4))
    assert cosine == pytest.approx([0.2, 0.1 + 0.1 * 0.5**0.5, 0.1, 0.1 - 0.1 * 0.5**0.5])
    assert rates(loop(recorded(loss), module, learning_rate=0.2)) == [0.2] * 6


def test_a_resumed_optimiser_keeps_its_moments(tmp_path):
    class Killed(Exception):
        pass

    def kill(record):
        if record["step"] == 4:
            raise Killed

    (module, loss), (ours, our_loss), (again, loss_again) = quadratic(), quadratic(), quadratic()
    options = {
        "checkpoint": tmp_path / "run.checkpoint",
        "checkpoint_every": 1,
        "learning_rate": 0.05,
    }
    whole = loop(recorded(loss), module, learning_rate=0.05, checkpoint_every=1)
    with pytest.raises(Killed):
        loop(recorded(our_loss), ours, report=kill, **options)
    assert loop(recorded(loss_again), again, **options).history == whole.history
    assert torch.equal(again.weight, module.weight) and not torch.equal(ours.weight, module.weight)


def test_numbers_are_shared_out_in_batches():
    assert [part.tolist() for part in parallel.batches(torch.arange(7), 3)] == [
        [0, 1, 2],
        [3, 4, 5],
        [6],
    ]
    assert parallel.batches(torch.arange(3), 5)[0].tolist() == [0, 1, 2]
