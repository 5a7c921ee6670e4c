"""Operators with a parameter for every image are, image by image, those made with it alone."""

import deepinv
import pytest
import torch
from batteries import identity_denoiser, images, relative, rng, solver

import dipa
from dipa import paired
from dipa.operators.measure import measure

N, SIZE = 5, (1, 8, 8)


def masks(count: int = N, channels: int = 1) -> torch.Tensor:
    return (torch.rand(count, channels, 8, 8, generator=rng(1)) < 0.6).float()


def filters(count: int = N) -> torch.Tensor:
    kernels = torch.rand(count, 1, 3, 3, generator=rng(2))
    return kernels / kernels.sum(dim=(2, 3), keepdim=True)


def noise(sigma: torch.Tensor) -> deepinv.physics.GaussianNoise:
    return deepinv.physics.GaussianNoise(sigma)


def inpainting(rows: slice):
    return deepinv.physics.Inpainting(SIZE, mask=masks()[rows])


def blur(rows: slice):
    return deepinv.physics.Blur(filter=filters()[rows], padding="circular")


def mri(rows: slice):
    mask = masks(channels=1)[rows].expand(-1, 2, 8, 8)
    return deepinv.physics.MRI(mask=mask, img_size=(8, 8))


def stacked(rows: slice):
    return deepinv.physics.stack(inpainting(rows), blur(rows))


MAKERS = {"inpainting": inpainting, "blur": blur, "mri": mri, "stacked": stacked}


def x_of(name: str) -> torch.Tensor:
    return images(N, 2 if name == "mri" else 1, 8, 8, seed=3)


@pytest.mark.parametrize("name", MAKERS)
def test_the_operator_of_some_images_is_the_one_made_with_their_parameters(name):
    whole, x = MAKERS[name](slice(None)), x_of(name)
    index = torch.tensor([4, 0, 3])
    some = paired.of_images(whole, index, N).A_adjoint_A(x[index])
    alone = [MAKERS[name](slice(i, i + 1)).A_adjoint_A(x[i : i + 1]) for i in index]
    assert relative(some, torch.cat(alone)) < 1e-6
    assert relative(whole.A_adjoint_A(x)[index], some) < 1e-6  # which stayed as it was


@pytest.mark.parametrize("name", MAKERS)
def test_one_image_is_seen_by_every_parameter(name):
    x = x_of(name)[:1]
    _, seen = paired.applied(MAKERS[name](slice(None)), x)
    alone = [MAKERS[name](slice(i, i + 1)).A_adjoint_A(x) for i in range(N)]
    assert relative(seen, torch.cat(alone)) < 1e-6
    measured, seen = paired.applied(MAKERS[name](slice(0, 1)), x)
    assert len(seen) == 1


def test_one_that_takes_no_image_raises_its_own_error():
    with pytest.raises(RuntimeError, match="size"):
        paired.applied(inpainting(slice(0, 1)), images(1, 1, 5, 7))


def test_the_norm_is_the_largest():
    """Of a circular blur it is the largest power of its frequencies."""
    power = torch.fft.fft2(filters() * torch.tensor([1.0, 2, 5, 3, 1])[:, None, None, None], (8, 8))
    kernels = filters() * torch.tensor([1.0, 2, 5, 3, 1])[:, None, None, None]
    physics = deepinv.physics.Blur(filter=kernels, padding="circular")
    wanted = power.abs().square().max().item()
    assert dipa.physics.lipschitz(physics, SIZE) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("name", ["inpainting", "blur", "mri"])
def test_a_solve_is_that_of_every_image_by_its_own_operator(name):
    whole, x, run = MAKERS[name](slice(None)), x_of(name), solver(3, identity_denoiser)
    step = 1 / dipa.physics.lipschitz(whole, tuple(x.shape[1:]), x)
    together = run(whole.A(x), whole, stepsize="1/L").x
    for i in range(N):
        physics = MAKERS[name](slice(i, i + 1))
        alone = run(physics.A(x[i : i + 1]), physics, stepsize=step).x
        assert relative(together[i : i + 1], alone) < 1e-5


def test_every_image_has_noise_of_its_own_level():
    levels = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4])
    x = images(N, *SIZE)
    whole = deepinv.physics.Denoising(noise(levels))
    y = measure(whole, x, seed=7)
    for i, level in enumerate(levels):
        alone = deepinv.physics.Denoising(noise(level))
        number = torch.tensor([i])
        assert torch.equal(y[number], measure(alone, x[number], seed=7, indices=number))
    assert torch.equal(whole.noise_model.sigma, levels)


def test_parameters_set_apart_are_set_nowhere_else():
    physics = blur(slice(0, 1))
    physics.noise_model = noise(0.1)
    before, twin = physics.filter.clone(), paired.apart(physics)
    twin.update(filter=filters()[1:2], sigma=torch.tensor([0.5]))
    assert torch.equal(physics.filter, before) and float(physics.noise_model.sigma) != 0.5
    assert torch.equal(twin.filter, filters()[1:2]) and float(twin.noise_model.sigma) == 0.5
