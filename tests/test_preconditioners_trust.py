"""Images of another kind are told by their measurements, and reconstructed without what was made of
others.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from batteries import refuses, rng, smooth_images, tiny_denoiser

import dipa
from dipa import LinearPreconditioner
from dipa.operators import single_pixel
from dipa.preconditioners import ComposedPreconditioner, ScalarSteps, trust

SIZE = (1, 16, 16)
ALPHA = 0.4


def strokes(count: int, seed: int = 0) -> torch.Tensor:
    """Bright bars on black: a kind of its own, far from smooth images."""
    generator, made = rng(seed), torch.zeros(count, *SIZE)
    for image in made:
        row, column = (int(torch.randint(3, 11, (1,), generator=generator)) for _ in range(2))
        level = 0.6 + 0.4 * torch.rand(1, generator=generator).item()
        image[0, row : row + 3, 3:13] = level
        image[0, 2:14, column : column + 2] = level
    return made


def camera():
    return single_pixel(SIZE, ratio=0.3)


def ridge(count: int = 300, **options) -> LinearPreconditioner:
    return LinearPreconditioner.ridge(camera(), strokes(count), stepsize=ALPHA, **options)


def solver(momentum: str = "nesterov", **options) -> dipa.FISTA:
    prior = dipa.PnP(tiny_denoiser())
    return dipa.FISTA(prior, 6, momentum=momentum, start="zero", **options)


def foreign(count: int = 4) -> torch.Tensor:
    return 0.5 + 0.4 * smooth_images(count, 16, 16)


def test_features_are_shares_of_the_energy_by_hand():
    physics, x = camera(), strokes(3)
    features, left = trust.first_step(ridge(), physics, physics(x), ALPHA)
    seen = physics.A_adjoint(physics(x)).double().numpy()[:, 0]
    rows, columns = np.abs(np.fft.fftfreq(16))[:, None], np.abs(np.fft.fftfreq(16))[None]
    radius = 2 * np.sqrt(rows**2 + columns**2)
    power = np.abs(np.fft.fft2(seen)) ** 2
    # every frequency counts once for the half that a real transform keeps
    half = np.zeros((16, 16))
    half[:, :9] = 1
    total = (power * half).sum(axis=(1, 2))
    bands = np.stack(
        [
            (power * half * ((low <= radius) & (radius < high))).sum(axis=(1, 2)) / total
            for low, high in zip(trust.EDGES[:-1], trust.EDGES[1:], strict=True)
        ],
        axis=1,
    )
    cells = (seen**2).reshape(3, 4, 4, 4, 4).sum(axis=(2, 4)).reshape(3, 16)
    wanted = np.concatenate([bands, cells / cells.sum(axis=1, keepdims=True)], axis=1)
    assert np.allclose(np.exp(features.numpy()) - trust.LEAST, wanted, atol=1e-5)
    assert bands[:, 0] == pytest.approx(power[:, 0, 0] / total)


def test_what_is_left_is_the_gradient_after_the_step():
    physics, x, P = camera(), strokes(2), ridge()
    y = physics(x)
    v = -ALPHA * P(-physics.A_adjoint(y), x, 1)
    after = physics.A_adjoint(physics.A(v) - y)
    wanted = after.flatten(1).norm(dim=1) / physics.A_adjoint(y).flatten(1).norm(dim=1)
    _, left = trust.first_step(P, physics, y, ALPHA)
    assert torch.allclose(left, wanted, atol=1e-5)
    none = trust.first_step(dipa.Identity(), physics, y, 1 / 1.0)[1]
    assert none.max() < 1e-5, "a step of 1/L on a projector leaves nothing"


@pytest.mark.parametrize("count", [300, 2000])
def test_others_of_the_kind_are_trusted_and_another_kind_is_not(count):
    P, physics = ridge(count), camera()
    assert P.trusts(physics, physics(strokes(200, seed=5))).all()
    assert not P.trusts(physics, physics(foreign(20))).any()
    assert not P.trusts(physics, physics(1 - strokes(20, seed=6))).any()


def test_brightness_does_not_matter_and_an_image_of_zeros_is_trusted():
    P, physics = ridge(), camera()
    assert P.trusts(physics, physics(0.3 * strokes(20, seed=5))).all()
    assert P.trusts(physics, physics(torch.zeros(1, *SIZE))).all()


def test_each_image_is_judged_alone():
    P, physics = ridge(), camera()
    mixed = torch.cat([strokes(2, seed=5), foreign(2)])[[2, 0, 3, 1]]
    assert P.trusts(physics, physics(mixed)).tolist() == [False, True, False, True]


def test_a_step_that_does_not_explain_the_data_is_not_trusted():
    """Features alone do not tell: P is ruined, the images are its own."""
    P, physics = ridge(), camera()
    P.matrix.data.mul_(-1)
    assert not P.trusts(physics, physics(strokes(20))).any()


def test_of_few_images_nothing_is_said():
    P, physics = ridge(trust.FEWEST - 1), camera()
    assert "trust" not in P.setting and P.trusts(physics, physics(foreign())) is None
    assert "trust" in ridge(trust.FEWEST).setting


def test_untrusted_images_are_those_of_the_plain_solver_and_the_others_those_of_p():
    P, physics = ridge(), camera()
    x = torch.cat([strokes(2, seed=5), foreign(2)])
    y = physics(x)
    found = solver()(y, physics, preconditioner=P, stepsize=ALPHA)
    free = solver(safeguard=False)(y, physics, preconditioner=P, stepsize=ALPHA)
    plain = solver()(y, physics, stepsize="1/L")
    assert found.trusted.tolist() == [True, True, False, False] and free.trusted is None
    assert torch.allclose(found.x[:2], free.x[:2], atol=1e-5)
    assert torch.allclose(found.x[2:], plain.x[2:], atol=1e-5)
    assert "2 of 4 images untrusted" in found.message and "untrusted" not in free.message
    error = [dipa.metrics.psnr(result.x, x)[2:].mean() for result in (found, free)]
    assert error[0] > error[1] + 3


def test_untrusted_images_take_nesterovs_momentum_and_the_whole_prior():
    P, physics = ridge(), camera()
    y = physics(torch.cat([strokes(1, seed=5), foreign(1)]))
    decay = {"prior_decay": 1.0}
    found = solver("none", **decay)(y, physics, preconditioner=P, stepsize=ALPHA)
    free = solver("none", safeguard=False, **decay)(y, physics, preconditioner=P, stepsize=ALPHA)
    plain = solver("nesterov")(y, physics, stepsize="1/L")
    assert torch.allclose(found.x[:1], free.x[:1], atol=1e-5)
    assert torch.allclose(found.x[1:], plain.x[1:], atol=1e-5)


def test_double_precision_is_kept():
    """Momentum differs from image to image, in the numbers of the images."""
    physics = camera().double()
    x = torch.cat([strokes(1, seed=5), foreign(1)]).double()
    P = LinearPreconditioner.ridge(physics, strokes(300).double(), stepsize=ALPHA)
    prior = dipa.PnP(lambda x, sigma: 0.5 * (x + x.roll(1, -1)))
    made = dipa.FISTA(prior, 6, momentum="none", start="zero")
    found = made(physics(x), physics, preconditioner=P, stepsize=ALPHA)
    plain = replace(made, momentum="nesterov")(physics(x), physics, stepsize="1/L")
    assert found.trusted.tolist() == [True, False] and found.x.dtype == torch.float64
    assert torch.allclose(found.x[1:], plain.x[1:], rtol=0, atol=1e-13)


def test_where_all_are_trusted_nothing_changes():
    P, physics = ridge(), camera()
    y = physics(strokes(3, seed=5))
    found = solver()(y, physics, preconditioner=P, stepsize=ALPHA)
    free = solver(safeguard=False)(y, physics, preconditioner=P, stepsize=ALPHA)
    assert torch.equal(found.x, free.x) and found.trusted.all()
    assert found.message == free.message


def test_p_is_not_called_where_none_is_trusted():
    P, physics = ridge(), camera()
    y = physics(foreign())
    calls = []
    P.register_forward_hook(lambda *_: calls.append(1))
    result = solver()(y, physics, preconditioner=P, stepsize=ALPHA)
    assert not result.trusted.any() and len(calls) == 1, "once, to ask"
    assert result.status == "completed"


def test_the_deepinv_model_leaves_the_same_images_alone():
    P, physics = ridge(), camera()
    y = physics(torch.cat([strokes(2, seed=5), foreign(2)]))
    for guarded in (True, False):
        made = solver("none", safeguard=guarded)
        model = dipa.to_deepinv(made, P, physics, ALPHA)
        ours = made(y, physics, preconditioner=P, stepsize=ALPHA)
        assert torch.allclose(model(y, physics), ours.x, atol=1e-6)


def test_it_travels_with_a_file(tmp_path):
    P, physics = ridge(), camera()
    read, _ = dipa.load(dipa.save(P, tmp_path / "P.safetensors"))
    y = physics(torch.cat([strokes(2, seed=5), foreign(2)]))
    assert torch.equal(read.trusts(physics, y), P.trusts(physics, y))


def test_training_is_not_guarded_and_what_it_makes_is():
    """A P made of another kind of images is trained on all of its new ones, as one that knows
    nothing is.
    """
    physics, new = camera(), foreign(140)
    known, blank = ridge(), ridge()
    blank.setting = {}
    for P in (known, blank):
        dipa.distill(
            solver(),
            P,
            physics,
            None,
            new,
            losses=dipa.LossWeights(supervised=1.0),
            budget=dipa.Budget(steps=2, batch_size=5),
            stepsize=ALPHA,
            validation=0,
            progress=False,
        )
    assert torch.equal(known.matrix, blank.matrix)
    assert known.trusts(physics, physics(new)).all()
    assert not known.trusts(physics, physics(strokes(9))).any()


def test_closed_forms_know_their_images():
    physics, x = camera(), strokes(200)
    steps = dipa.fit_steps(ScalarSteps(4), solver(), physics, x)
    chosen = dipa.training.fit_ridge(solver(), physics, x)
    for fit in (steps, chosen):
        assert fit.trained.trusts(physics, physics(strokes(20, seed=5))).all()
        assert not fit.trained.trusts(physics, physics(foreign(20))).any()
    several = dipa.fit_steps(ScalarSteps(4), solver(), [physics, single_pixel(SIZE, ratio=0.5)], x)
    assert "trust" not in several.trained.setting, "it belongs to no operator"


def test_complex_images_and_compositions():
    physics = dipa.operators.mri((2, 16, 16), acceleration=2)
    pairs = torch.cat([strokes(200), 0.2 * strokes(200, seed=1)], dim=1)
    R = LinearPreconditioner.ridge(physics, pairs, stepsize=1.0, planes=True)
    other = torch.cat([foreign(5), foreign(5)], dim=1)
    assert R.trusts(physics, physics(pairs[:20])).all()
    assert not R.trusts(physics, physics(other)).any()
    P = ComposedPreconditioner(R, ScalarSteps(3))
    P.setting = trust.measured(P, physics, pairs, 1.0)
    assert not P.trusts(physics, physics(other)).any()


def test_numbers_that_are_not_finite_say_nothing():
    class Broken(ScalarSteps):
        def forward(self, gradient, iterate, k):
            return gradient * math.nan

    assert trust.measured(Broken(2), camera(), strokes(200), ALPHA) == {}


def test_the_switch_is_a_flag_and_part_of_the_solvers_description():
    refuses(lambda: solver(safeguard=1), "safeguard", "1")
    assert "safeguard" not in solver().describe()
    assert solver(safeguard=False).describe()["safeguard"] is False
