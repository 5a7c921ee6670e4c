import functools
import warnings

import deepinv
import pytest
import torch
from batteries import downsampling, images, inpainting, refuses, rng, solver

import dipa
from dipa.operators import mri, single_pixel, super_resolution
from dipa.physics import declared_size, image_size, numbers_like, numbers_of, warn_range


def test_image_size_is_read_wherever_the_operator_keeps_it():
    nameless = deepinv.physics.Blur(filter=torch.ones(1, 1, 3, 3) / 9, padding="circular")
    for physics in (single_pixel((1, 16, 16), ratio=0.5), downsampling(16), inpainting(16)):
        assert declared_size(physics) == image_size(physics) == (1, 16, 16)
    assert declared_size(nameless) is declared_size(None) is None
    assert image_size(nameless, [1, 4, 8]) == (1, 4, 8)
    refuses(lambda: image_size(nameless), "img_size", "(C, H, W)")
    flat = inpainting(16)
    flat.img_size = (16, 16)
    assert declared_size(flat) is None, "not the size of an image (C, H, W)"


def test_numbers_are_those_of_the_first_tensor_that_has_a_fraction():
    module = torch.nn.Module()
    module.register_buffer("index", torch.arange(3))
    assert (
        numbers_like(module).dtype == torch.get_default_dtype()
        and numbers_like(module).numel() == 0
    )
    module.register_parameter(
        "weight", torch.nn.Parameter(torch.zeros(2, dtype=torch.float64, device="meta"))
    )
    like = numbers_like(module)
    assert (like.dtype, like.device.type, like.numel()) == (torch.float64, "meta", 0)
    exact = downsampling(8).double()
    assert numbers_like(exact).dtype == torch.float64
    same = deepinv.physics.LinearPhysics(A=lambda y, **_: y, A_adjoint=lambda y, **_: y)
    assert numbers_like(same * exact).dtype == torch.float64, (
        "not of the scalar that the composition brings"
    )


# --- the range of images --------------------------------------------------------------------------


def told(call) -> list[str]:
    """The texts of the warnings of ``call``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(
        warning.category is UserWarning and warning.filename == __file__ for warning in caught
    ), caught
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (255 * images(2, 1, 8, 8), ("[0.", "25", "divide by 255")),
        (255 * images(2, 3, 8, 8), ("divide by 255",)),
        (65535 * images(2, 1, 8, 8), ("scale them",)),
        (2 * images(2, 1, 8, 8) - 1, ("[-0.9", "dipa works on [0, 1]: scale them")),
        (255 * images(2, 2, 8, 8), ("dipa works on [-1, 1]",)),
        (images(2, 1, 8, 8), ()),
        (1.09 * images(2, 1, 8, 8) - 0.04, ()),
        (2 * images(2, 2, 8, 8) - 1, ()),
    ],
)
def test_a_range_beyond_the_unit_is_said_once(images, words):
    texts = told(lambda: warn_from_here(images))
    assert len(texts) == (1 if words else 0)
    assert all(word in texts[0] for word in ("x: values in [", *words)) if words else True


def warn_from_here(batch):
    """The warning names the line that calls the function that warns."""
    (lambda: warn_range("x", batch))()


SIZE = (1, 16, 16)


@pytest.mark.parametrize("factor", [1, 255])
def test_images_handed_to_training_and_to_the_solver_are_looked_at_once(factor):
    x, physics = (
        factor * images(3, *SIZE),
        [single_pixel(SIZE, ratio=ratio) for ratio in (0.3, 0.6)],
    )
    P, network = (
        dipa.LinearPreconditioner.identity(physics[0]),
        dipa.endtoend.build("u-net", SIZE, features=2, blocks=2),
    )
    budget, run = dipa.Budget(steps=2, batch_size=2), {"progress": False}
    weights = dipa.LossWeights(imitation=1.0)
    found = told(
        lambda: dipa.distill(
            solver(), P, *physics, x, losses=weights, budget=budget, **run, validation=0
        )
    )
    other, third = single_pixel(SIZE, ratio=0.3), single_pixel(SIZE, ratio=0.3)
    found += told(lambda: dipa.train_network(network, other, x, budget=budget, **run))
    found += told(lambda: solver()(third.A(x), third, x_true=x, history=True))
    assert [text.split(":")[0] for text in found] == (
        [] if factor == 1 else ["images", "images", "x_true"]
    )


def test_measurements_that_no_image_in_the_unit_range_gives_are_said_once_for_an_operator():
    for make in (
        lambda: single_pixel(SIZE, ratio=0.3),
        lambda: single_pixel(SIZE, ratio=0.3, noise_sigma=0.1),
        lambda: super_resolution(SIZE, factor=2),
        lambda: mri(SIZE, acceleration=2),
        lambda: deepinv.physics.BlurFFT(
            SIZE, filter=deepinv.physics.functional.gaussian_blur(sigma=(1.0, 1.0))
        ),
    ):
        physics, x = make(), images(2, *SIZE)
        brightest, too_bright = physics(torch.ones_like(x)), physics(255 * x)
        assert told(functools.partial(solver(), brightest, physics)) == []
        (text,) = told(functools.partial(solver(), too_bright, physics))
        assert text.startswith("y: norm") and type(physics).__name__ in text and "[0, 1]" in text
        assert told(lambda: solver()(physics(255 * x), physics)) == []  # noqa: B023
    loud = single_pixel(SIZE, ratio=0.3, noise_sigma=50.0)
    assert told(lambda: solver()(loud(images(2, *SIZE)), loud)) == [], (
        "noise that the operator declares"
    )
    plain = deepinv.physics.Blur(filter=torch.ones(1, 1, 3, 3) / 9, padding="circular")
    assert told(lambda: solver()(plain.A(255 * images(2, *SIZE)), plain, stepsize=1.0)) == [], (
        "says nothing of its norm"
    )


# --- operators made of plain functions ------------------------------------------------------------


def plain(dtype: torch.dtype) -> deepinv.physics.LinearPhysics:
    """Functions around a matrix of one dtype, with noise whose scalar says float32."""
    matrix = torch.randn(30, 64, generator=rng(0), dtype=dtype)
    return deepinv.physics.LinearPhysics(
        A=lambda x, **_: x.flatten(1) @ matrix.T,
        A_adjoint=lambda y, **_: (y @ matrix).reshape(-1, 1, 8, 8),
        noise_model=deepinv.physics.GaussianNoise(0.1),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_plain_functions_are_asked_in_what_numbers_they_work(dtype):
    physics, size = plain(dtype), (1, 8, 8)
    matrix = dipa.linalg.dense(physics.A, size, dtype=dtype, device="cpu")
    assert numbers_of(physics, size).dtype == dtype
    norm = torch.linalg.matrix_norm(matrix, 2).item() ** 2
    assert dipa.physics.lipschitz(physics, size) == pytest.approx(norm, rel=1e-3)
    assert dipa.LinearPreconditioner.identity(physics, size).matrix.dtype == dtype
    x = torch.rand(2, *size, dtype=dtype)
    assert dipa.LinearPreconditioner.ridge(physics, x).matrix.dtype == dtype
    solver = dipa.FISTA(dipa.PnP(lambda images, sigma: images), iterations=2)
    model = dipa.to_deepinv(solver, None, physics, img_size=size)
    assert model(physics.A(x), physics).dtype == dtype
    assert dipa.inspect(physics, images=x).spectrum.rank == 30
    assert dipa.inspect(physics, size).dtype == str(dtype).removeprefix("torch.")


def test_what_takes_no_numbers_is_refused_by_name():
    broken = deepinv.physics.LinearPhysics(A=lambda x, **_: x @ "no", A_adjoint=lambda y, **_: y)
    assert numbers_of(broken, (1, 8, 8)).dtype == torch.float32
    refuses(lambda: dipa.LinearPreconditioner.identity(broken, (1, 8, 8)), "physics")
