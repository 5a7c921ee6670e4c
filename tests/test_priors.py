import dataclasses

import deepinv
import pytest
import torch
from batteries import (
    Counting,
    identity_denoiser,
    images,
    matrix_physics,
    refuses,
    relative,
    rng,
    tiny_denoiser,
)
from members import PRIORS

import dipa
from dipa.priors import RED, DenoiserPrior

every_prior = pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)


@every_prior
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_each_channel_is_denoised_alone(prior, channels):
    prior = prior(tiny_denoiser())
    x = images(2, channels, 8, 8)
    together = prior.denoise(x)
    assert together.shape == x.shape
    for c in range(channels):
        assert relative(together[:, c : c + 1], prior.denoise(x[:, c : c + 1])) < 1e-6


@every_prior
def test_the_denoiser_gets_grey_images_and_sigma(prior):
    seen = []

    def denoiser(x, sigma):
        seen.append((tuple(x.shape), sigma))
        return x

    prior(denoiser, sigma=0.05).denoise(images(2, 3, 8, 4))
    assert seen == [((6, 1, 8, 4), 0.05)]


def test_pnp_step_is_the_denoised_gradient_step():
    z, direction = images(2, 1, 8, 8), images(2, 1, 8, 8, seed=1)
    assert torch.equal(dipa.PnP(identity_denoiser).step(z, direction, 0.3), z - 0.3 * direction)
    denoiser = tiny_denoiser()
    assert (
        relative(dipa.PnP(denoiser).step(z, direction, 0.3), denoiser(z - 0.3 * direction)) < 1e-6
    )


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, 3.0])
def test_red_step_adds_the_denoiser_residual_at_the_point_itself(weight):
    z, direction = images(2, 2, 8, 8), images(2, 2, 8, 8, seed=1)
    assert (
        relative(RED(identity_denoiser, weight=weight).step(z, direction, 0.3), z - 0.3 * direction)
        < 1e-7
    )
    denoiser = tiny_denoiser()
    denoised = torch.cat([denoiser(z[:, c : c + 1], 0.0) for c in range(2)], dim=1)
    by_hand = z - 0.3 * direction - 0.3 * weight * z + 0.3 * weight * denoised
    assert relative(RED(denoiser, weight=weight).step(z, direction, 0.3), by_hand) < 1e-6


@pytest.mark.parametrize("momentum", ["none", "nesterov"])
def test_red_with_a_shrinking_denoiser_is_tikhonov(momentum):
    """D(x) = c x makes RED the gradient of weight (1 - c) / 2 ||x||^2, whose minimiser is known."""
    matrix = torch.randn(10, 16, generator=rng(0), dtype=torch.float64)
    physics, x = matrix_physics(matrix, (1, 4, 4)), images(2, 1, 4, 4, dtype=torch.float64)
    y, weight, c = physics.A(x), 3.0, 0.75
    prior = RED(lambda images, sigma: c * images, weight=weight)
    stepsize = 1 / (torch.linalg.matrix_norm(matrix, 2).item() ** 2 + weight * (1 - c))
    found = dipa.FISTA(prior, iterations=3000, momentum=momentum, start="zero")(
        y, physics, stepsize=stepsize
    ).x
    normal = matrix.T @ matrix + weight * (1 - c) * torch.eye(16, dtype=torch.float64)
    assert relative(found.flatten(1), torch.linalg.solve(normal, matrix.T @ y.T).T) < 1e-7


@every_prior
def test_bf16_is_close_keeps_the_dtype_and_is_really_used(prior):
    x = images(2, 2, 16, 16)
    full, half = (
        prior(tiny_denoiser(), precision=precision).denoise(x) for precision in ("float32", "bf16")
    )
    assert half.dtype == full.dtype == torch.float32
    assert 0 < relative(half, full) < 1e-2


@every_prior
def test_float64_stays_float64(prior):
    x = images(1, 1, 8, 8, dtype=torch.float64)
    assert prior(tiny_denoiser().double()).step(x, x, 0.5).dtype == torch.float64


@every_prior
def test_one_call_per_step_whatever_the_batch(prior):
    denoiser = Counting(identity_denoiser)
    x = images(5, 2, 8, 8)
    prior(denoiser).step(x, x, 0.5)
    assert (denoiser.calls, denoiser.planes) == (1, 10)


def test_description_is_plain_and_tells_priors_apart():
    described = {"sigma": 0.1, "precision": "float32"}
    assert dipa.PnP(identity_denoiser, sigma=0.1).describe() == {"kind": "PnP"} | described
    assert (
        RED(identity_denoiser, sigma=0.1, weight=0.5).describe()
        == {"kind": "RED", "weight": 0.5} | described
    )
    assert RED(identity_denoiser).describe() != RED(identity_denoiser, weight=2.0).describe()


@every_prior
def test_a_prior_is_fixed_and_can_be_varied(prior):
    one = prior(identity_denoiser)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.sigma = 0.3
    assert dataclasses.replace(one, sigma=0.3).describe() == one.describe() | {"sigma": 0.3}


@every_prior
def test_refuses(prior):
    refuses(
        lambda: prior(identity_denoiser, precision="fp8"),
        "precision",
        "'fp8'",
        "auto, float32, tf32, bf16, fp16",
    )
    refuses(lambda: prior(None), "denoiser", "None", "callable")
    refuses(lambda: prior(identity_denoiser, sigma=-0.1), "sigma", "-0.1")
    refuses(lambda: prior(identity_denoiser, sigma=float("nan")), "sigma", "nan")


def test_red_refuses_a_weight_out_of_range():
    refuses(lambda: RED(identity_denoiser, weight=-1.0), "weight", "-1.0")
    refuses(lambda: RED(identity_denoiser, weight=float("inf")), "weight", "inf")


def test_the_shared_part_is_no_prior():
    with pytest.raises(TypeError, match="step"):
        DenoiserPrior(identity_denoiser).step(images(1, 1, 4, 4), images(1, 1, 4, 4), 0.5)


def test_a_denoiser_of_colours_gets_them_together():
    seen = []

    def denoiser(x, sigma):
        seen.append(tuple(x.shape))
        return x.mean(dim=1, keepdim=True).expand_as(x)

    x = images(2, 6, 8, 4)
    for prior in (dipa.PnP(denoiser, channels=3), RED(denoiser, channels=3)):
        grouped = x.reshape(4, 3, 8, 4)
        wanted = grouped.mean(dim=1, keepdim=True).expand_as(grouped).reshape_as(x)
        assert torch.allclose(prior.denoise(x), wanted) and seen.pop() == (4, 3, 8, 4)
        assert prior.describe()["channels"] == 3
    assert "channels" not in dipa.PnP(denoiser).describe()
    refuses(lambda: dipa.PnP(denoiser, channels=0), "channels", "0")
    physics = deepinv.physics.Denoising()
    solver = dipa.FISTA(dipa.PnP(denoiser, channels=3), iterations=1)
    refuses(lambda: solver(images(1, 2, 8, 8), physics), "images.shape[1]", "3 channels")


def test_a_prior_of_deepinv_is_its_proximity_operator():
    """Soft thresholding at alpha lambda; and what FISTA converges to is what it minimises."""
    z, direction = images(2, 1, 8, 8) - 0.5, images(2, 1, 8, 8, seed=1)
    prior = dipa.Prox(deepinv.optim.prior.L1Prior(), weight=0.4)
    moved = z - 0.5 * direction
    wanted = moved.sign() * (moved.abs() - 0.2).clamp_min(0)
    assert torch.allclose(prior.step(z, direction, 0.5), wanted, atol=1e-6)
    matrix = torch.randn(20, 64, generator=rng(3))
    physics, y = matrix_physics(matrix, (1, 8, 8)), torch.randn(2, 20, generator=rng(4))
    x = dipa.FISTA(prior, iterations=3000, restart=50)(y, physics).x.flatten(1)
    gradient = (x @ matrix.T - y) @ matrix  # in -lambda sign(x), or within where x is 0
    assert (gradient.abs() <= 0.4 + 1e-3).all()
    on = x.abs() > 1e-4
    assert on.any() and torch.allclose(gradient[on], -0.4 * x[on].sign(), atol=1e-3)


def test_total_variation_starts_cold_every_time():
    prior, x = dipa.Prox(deepinv.optim.prior.TVPrior(n_it_max=5), 0.5), images(1, 1, 8, 8)
    assert torch.equal(prior.step(x, x, 0.1), prior.step(x, x, 0.1))


def test_what_is_no_prior_of_deepinv_is_refused():
    refuses(lambda: dipa.Prox(identity_denoiser), "prior", "deepinv")
    refuses(lambda: dipa.Prox(deepinv.optim.prior.L1Prior(), weight=-1.0), "weight", "-1")
    refuses(lambda: dipa.PnP(deepinv.optim.prior.TVPrior()), "denoiser", "Prox")
    broken = dipa.Prox(deepinv.optim.prior.L1Prior())
    object.__setattr__(broken.prior, "prox", lambda x, gamma: x[..., :2])
    refuses(lambda: broken.step(images(1, 1, 8, 8), images(1, 1, 8, 8), 0.1), "prior")
