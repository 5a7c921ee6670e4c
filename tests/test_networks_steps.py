"""Networks for step lengths: what they start as, what they do not see, files."""

import math

import deepinv
import pytest
import torch
from batteries import images, refuses

import dipa
from dipa.networks import StepNetwork
from dipa.operators import in_wavelets

SIZE, NORM = (2, 8, 12), 4.0
X, GRADIENT = images(3, *SIZE) - 0.5, images(3, *SIZE, seed=1) - 0.5
SHAPES = {"image": (3,), "entry": (3, *SIZE)}


def network(lengths: str, moved: bool = True) -> StepNetwork:
    """One in evaluation mode, with a last layer that is not zero."""
    made = StepNetwork(SIZE, lengths=lengths, features=4, blocks=2, norm=NORM)
    if moved:
        for parameter in (made.last or made.network.Conv_1x1).parameters():
            parameter.data = images(*parameter.shape, seed=2) - 0.5
    return made.eval()


@pytest.mark.parametrize("lengths", SHAPES)
def test_untrained_steps_are_those_of_the_lipschitz_constant(lengths):
    found = network(lengths, moved=False)(X, GRADIENT)
    assert torch.equal(found, torch.full(SHAPES[lengths], 1 / NORM))


@pytest.mark.parametrize("lengths", SHAPES)
def test_lengths_do_not_depend_on_units(lengths):
    """Neither on those of the images nor on how far the solution is, image by image."""
    made, scale = network(lengths), torch.tensor([1e-3, 1.0, 50.0]).reshape(3, 1, 1, 1)
    found, scaled = made(X, GRADIENT), made(scale * X, GRADIENT / scale)
    assert found.shape == SHAPES[lengths] and (found > 0).all() and found.std() > 1e-3
    assert torch.allclose(found, scaled, rtol=1e-4)


@pytest.mark.parametrize("lengths", SHAPES)
def test_lengths_stay_in_their_range(lengths):
    made = network(lengths)
    for parameter in (made.last or made.network.Conv_1x1).parameters():
        parameter.data = parameter.data * 1e6
    ends = torch.tensor([math.exp(-8) / NORM, math.exp(8) / NORM])
    found = made(X, GRADIENT).detach()
    assert torch.allclose(found.aminmax().min, ends[0]) or torch.allclose(found.max(), ends[1])
    assert (found >= ends[0] * 0.999).all() and (found <= ends[1] * 1.001).all()


def test_zero_stays_finite():
    zero = torch.zeros_like(X)
    assert torch.isfinite(network("entry")(zero, zero)).all()


@pytest.mark.parametrize("lengths", SHAPES)
def test_a_file_gives_the_same_lengths(lengths, tmp_path):
    made = network(lengths).train()
    made(X, GRADIENT)  # moves the statistics of the batch normalisation
    dipa.save(made, tmp_path / "steps.safetensors")
    again, _ = dipa.load(tmp_path / "steps.safetensors")
    assert torch.equal(again(X, GRADIENT), made.eval()(X, GRADIENT)) and not again.training


def test_the_seed_decides_the_weights_and_leaves_torch_alone():
    torch.manual_seed(5)
    first = StepNetwork(SIZE, features=4, blocks=2, seed=1)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)
    weights = [
        next(StepNetwork(SIZE, features=4, blocks=2, seed=seed).parameters()) for seed in (1, 2)
    ]
    assert torch.equal(next(first.parameters()), weights[0])
    assert not torch.equal(*weights)


def test_scaled_gradient_projection_takes_them():
    """Untrained ones change nothing of a solve; ones that differ do."""
    mask = (images(*SIZE, seed=3) > 0.4).float()
    physics = in_wavelets(deepinv.physics.Inpainting(SIZE, mask=mask), "haar", 2)
    y = physics(images(3, *SIZE))
    solver = dipa.solvers.SGP(dipa.Prox(deepinv.optim.prior.L1Prior(), 0.01), iterations=3)
    made = StepNetwork(SIZE, features=4, blocks=2).eval()
    plain, by_network, told = (
        solver(y, physics, steps=steps).x
        for steps in (lambda x, gradient, k: 1.0, made, dipa.training.Fit(made, [], {}))
    )
    assert torch.allclose(plain, by_network, atol=1e-6) and torch.equal(by_network, told)
    assert not torch.allclose(plain, solver(y, physics, steps=network("entry")).x, atol=1e-3)


def test_what_is_refused():
    for name, bad in {
        "lengths": "row",
        "features": 0,
        "blocks": 1,
        "norm": 0.0,
        "seed": -1,
        "img_size": (8, 8),
    }.items():
        given = {"img_size": SIZE} | {name: bad}
        refuses(lambda given=given: StepNetwork(**given), name)
    refuses(lambda: StepNetwork(SIZE, features=2**13, blocks=3), "features and blocks")
    refuses(lambda: network("image")(X[..., :-1], GRADIENT[..., :-1]), "x.shape")
    refuses(lambda: network("image")(X, GRADIENT[:1]), "gradient")
