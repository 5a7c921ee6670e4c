"""Defaults that cannot mislead: units, stepsizes, operators and denoisers that are none, held-out
images, and the setting that travels with a preconditioner.
"""

import math
import warnings

import deepinv
import pytest
import torch
from batteries import (
    Bare,
    identity_denoiser,
    images,
    inpainting,
    matrix_physics,
    refuses,
    relative,
    rng,
    smooth_images,
    solver,
    tiny_denoiser,
)

import dipa
from dipa import Budget, LinearPreconditioner, LossWeights, NeuralPreconditioner
from dipa.operators import single_pixel
from dipa.physics import lipschitz, require_adjoint
from dipa.solvers.setting import SettingWarning
from dipa.training import fit_ridge
from dipa.training.ridge import NULL_WEIGHTS, REGULARIZATIONS
from dipa.training.validation import MOST, PATIENCE, Held, Validation, held_out
from dipa.training.worth import Worth

SHAPE = (1, 8, 8)
SUPERVISED = LossWeights(supervised=1.0)


def scaled(physics, factor: float):
    """The same operator in other units."""
    return deepinv.physics.LinearPhysics(
        A=lambda x, **_: factor * physics.A(x),
        A_adjoint=lambda y, **_: factor * physics.A_adjoint(y),
    )


def camera(ratio: float = 0.3):
    return single_pixel(SHAPE, ratio=ratio)


def train(P, physics=None, x=None, solve=None, *, steps=4, rate=1e-3, validation=0, **options):
    budget = Budget(steps=steps, batch_size=4, learning_rate=rate)
    options = {"losses": SUPERVISED, "progress": False} | options
    return dipa.distill(
        solve or solver(3),
        P,
        physics or camera(),
        None,
        smooth_images(12) if x is None else x,
        budget=budget,
        validation=validation,
        **options,
    )


# --- units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["matrix", "network"])
def test_training_by_default_does_not_depend_on_the_units_of_the_operator(name):
    """H and 100 H: the same PSNR in every step."""
    curves = []
    for physics in (scaled(camera(), factor) for factor in (1.0, 100.0)):
        P = (
            LinearPreconditioner.identity(physics, SHAPE, form="dense")
            if name == "matrix"
            else NeuralPreconditioner("cnn", img_size=SHAPE, features=4, blocks=1, code_dim=4)
        )
        fit = train(P, physics, solve=solver(4, start="zero"), rate=1e-2)
        curves.append([record["psnr"] for record in fit.history])
    assert curves[0] == pytest.approx(curves[1], abs=1e-3) and curves[0][-1] != curves[0][0]


def test_a_scaled_network_is_homogeneous_and_sends_zero_to_zero():
    P = NeuralPreconditioner(
        "cnn", img_size=SHAPE, features=4, blocks=1, code_dim=4, start="random"
    )
    gradient = images(2, *SHAPE) - 0.5
    for factor in (1e-6, 3.0, 1e5):
        assert relative(P(factor * gradient, gradient, 1), factor * P(gradient, gradient, 1)) < 1e-5
    assert not P(torch.zeros_like(gradient), gradient, 1).any()
    plain = NeuralPreconditioner(
        "cnn", img_size=SHAPE, features=4, blocks=1, code_dim=4, start="random", scaling="none"
    )
    size = gradient.square().mean(dim=(2, 3), keepdim=True).sqrt()
    assert relative(P(gradient, gradient, 1), size * plain(gradient / size, gradient, 1)) < 1e-6
    header = P.header()
    assert header.pop("scaling") == "image"
    older = NeuralPreconditioner.rebuild(header, P.state_dict())
    assert older.scaling == "none", "files before it had a name"


def test_the_scaled_adjoint_is_a_step_of_steepest_descent():
    matrix = torch.randn(5, 4, generator=rng(0), dtype=torch.float64)
    physics, y = matrix_physics(matrix, (1, 2, 2)), torch.randn(3, 5, generator=rng(1)).double()
    starts = [
        dipa.FISTA(Bare(), 1, start="scaled_adjoint")(y, H, iterates=True).iterates[0]
        for H in (physics, scaled(physics, 7.0))
    ]
    for i in range(3):
        b = matrix.T @ y[i]
        step = (b @ b) / (matrix @ b).square().sum()
        assert relative(starts[0][i].flatten(), step * b) < 1e-12
    assert relative(7.0 * starts[1], starts[0]) < 1e-12
    dark = dipa.FISTA(Bare(), 1)(torch.zeros(1, 5).double(), physics)
    assert dark.status == "completed" and not dark.x.any()


def test_the_scaled_adjoint_of_a_projector_is_its_adjoint():
    physics = camera()
    y = physics.A(images(2, *SHAPE))
    start = dipa.FISTA(Bare(), 1, start="scaled_adjoint")(y, physics, iterates=True).iterates[0]
    assert relative(start, physics.A_adjoint(y)) < 1e-6


def test_a_start_of_ones_own():
    physics, x = camera(), images(2, *SHAPE)
    half = dipa.FISTA(Bare(), 1, start=lambda y, H: 0.5 * H.A_adjoint(y))
    y = physics.A(x)
    assert torch.equal(half(y, physics, iterates=True).iterates[0], 0.5 * physics.A_adjoint(y))
    refuses(lambda: dipa.FISTA(Bare(), 1, start=3), "start", "3")


def test_divergence_is_growth_from_the_start_of_each_image():
    """Doubling from 1 leaves a hundred times its start at k = 7; an image that starts at 50 may
    reach 5,000.
    """

    class Doubling:
        def step(self, z, direction, stepsize):
            return 2 * z

    physics = matrix_physics(torch.eye(4), (1, 2, 2))
    runs = dipa.FISTA(Doubling(), 30, momentum="none", start="adjoint")
    for start, k in ((1.0, 6), (0.01, 13), (50.0, 6)):
        result = runs(torch.full((1, 4), start), physics, stepsize=1e-9)
        assert (result.status, result.iterations) == ("diverged", k), start
    both = runs(torch.tensor([[1.0] * 4, [50.0] * 4]), physics, stepsize=1e-9)
    assert both.iterations == 6 and "exceeds 100;" in both.message


# --- stepsizes ------------------------------------------------------------------------------------


def gaussian():
    """Compressed sensing with L about 10: the papers' 0.4 is far beyond 2/L."""
    return deepinv.physics.CompressedSensing(16, SHAPE, rng=torch.Generator().manual_seed(0))


def test_a_stepsize_beyond_two_over_the_norm_is_refused_unless_p_makes_up_for_it():
    physics = scaled(camera(), 4.0)  # L = 16
    refuses(
        lambda: train(LinearPreconditioner.identity(physics, SHAPE), physics, stepsize=0.4),
        "stepsize",
        "0.4",
        "2/L = 0.125",
        "'1/L'",
    )
    small = LinearPreconditioner.identity(physics, SHAPE)
    small.matrix.data *= 0.1
    assert len(train(small, physics, stepsize=0.4).history) == 4
    P = LinearPreconditioner.identity(camera())
    imitation = {"losses": LossWeights(imitation=1), "teacher_stepsize": 3.0, "validation": 0}
    refuses(
        lambda: dipa.distill(solver(3), P, camera(), camera(0.7), smooth_images(4), **imitation),
        "teacher_stepsize",
        "2/L",
    )


def test_the_default_trains_an_operator_of_any_norm():
    physics = gaussian()
    fit = train(LinearPreconditioner.identity(physics), physics, steps=8)
    assert all(record["psnr"] > 0 for record in fit.history)
    assert fit.preconditioner.setting["stepsize"] == pytest.approx(1 / lipschitz(physics), rel=1e-3)


# --- what is no operator, what is no denoiser ----------------------------------------------------


def test_an_operator_with_a_wrong_adjoint_is_refused():
    camera_, x = camera(), smooth_images(4)
    wrong = deepinv.physics.LinearPhysics(
        A=camera_.A, A_adjoint=lambda y, **_: camera_.A_adjoint(y).flip(-1)
    )
    words = ("student", "LinearPhysics", "not the adjoint", "dot test")
    refuses(lambda: train(LinearPreconditioner.identity(wrong, SHAPE), wrong, x), *words)
    twice = deepinv.physics.LinearPhysics(
        A=camera_.A, A_adjoint=lambda y, **_: 1.01 * camera_.A_adjoint(y)
    )
    refuses(lambda: require_adjoint("physics", twice, x), "not the adjoint", "dot test")
    require_adjoint("physics", camera_, x)


def test_an_operator_that_is_not_linear_or_draws_anew_is_refused():
    x = smooth_images(4)
    square = deepinv.physics.LinearPhysics(A=lambda x, **_: x**2, A_adjoint=lambda y, **_: y)
    refuses(lambda: require_adjoint("physics", square, x), "physics", "a linear operator")
    drawing = deepinv.physics.LinearPhysics(
        A=lambda x, **_: x * (torch.rand_like(x) > 0.5), A_adjoint=lambda y, **_: y
    )
    refuses(lambda: require_adjoint("physics", drawing, x), "at every call", "a fixed operator")


def test_an_operator_is_looked_at_again_when_its_tensors_change():
    physics, x = inpainting(), smooth_images(2)
    seen = []
    original = physics.A
    physics.A = lambda *arguments, **named: seen.append(1) or original(*arguments, **named)
    for _ in range(2):
        require_adjoint("physics", physics, x)
    once = len(seen)
    physics.mask.mul_(2)
    require_adjoint("physics", physics, x)
    assert once > 0 and len(seen) == 2 * once


def test_complex_measurements_have_their_real_inner_product():
    physics = deepinv.physics.LinearPhysics(
        A=lambda x, **_: torch.fft.fft2(x, norm="ortho"),
        A_adjoint=lambda y, **_: torch.fft.ifft2(y, norm="ortho").real,
    )
    require_adjoint("physics", physics, smooth_images(2))


def test_total_variation_starts_cold_and_a_denoiser_that_draws_is_not_trained_with():
    x, tv = smooth_images(2, 16), deepinv.models.TVDenoiser(n_it_max=20)
    physics = single_pixel((1, 16, 16), ratio=0.5)
    solve = dipa.FISTA(dipa.PnP(tv, sigma=0.05), 2)
    y = physics.A(x)
    runs = [solve(y, physics).x for _ in range(2)]
    assert torch.equal(*runs)
    drawing = solver(2, lambda x, sigma: x + 0.1 * torch.rand_like(x))
    refuses(
        lambda: train(LinearPreconditioner.identity(camera()), solve=drawing),
        "denoiser",
        "asked the same again",
    )


def test_a_noise_level_of_other_units_is_refused():
    for prior in (dipa.PnP, dipa.RED):
        refuses(lambda prior=prior: prior(identity_denoiser, sigma=5), "sigma", "5", "[0, 1]")


# --- reconstructions ------------------------------------------------------------------------------


def test_a_reconstruction_is_without_a_graph_unless_it_is_asked_for():
    physics, P = camera(), LinearPreconditioner.identity(camera())
    y = physics.A(smooth_images(2))
    result = solver()(y, physics, preconditioner=P, iterates=True)
    assert not result.x.requires_grad and not result.iterates.requires_grad
    assert result.x.numpy().shape == (2, *SHAPE)
    whole = solver()(y, physics, preconditioner=P, backward=None).x
    assert whole.requires_grad and torch.equal(whole.detach(), result.x)


def test_a_fit_stands_for_its_preconditioner():
    physics, x = camera(), smooth_images(2)
    fit = train(LinearPreconditioner.identity(physics))
    P, y, g = fit.preconditioner, physics.A(x), x[:1] - 0.5
    same = [
        (lambda q: solver()(y, physics, preconditioner=q).x),
        (lambda q: dipa.to_deepinv(solver(), q, physics)(y, physics)),
        (lambda q: dipa.analysis.directional(q, g, x)),
        (lambda q: dipa.analysis.jacobian(preconditioner=q, gradient=g)),
    ]
    for use in same:
        assert torch.equal(use(fit), use(P))
    again = train(fit)
    assert again.preconditioner is P


# --- the setting ----------------------------------------------------------------------------------


def trained(stepsize=0.5):
    return train(LinearPreconditioner.identity(camera()), stepsize=stepsize)


def test_a_solver_steps_as_in_training_and_files_keep_it(tmp_path):
    fit, physics = trained(), camera()
    y = physics.A(smooth_images(3))
    expected = solver()(y, physics, preconditioner=fit, stepsize=0.5).x
    assert torch.equal(solver()(y, physics, preconditioner=fit).x, expected)
    loaded, _ = dipa.load(dipa.save(fit, tmp_path / "p.safetensors"))
    assert loaded.setting == fit.preconditioner.setting
    assert relative(solver()(y, physics, preconditioner=loaded).x, expected) < 1e-6
    model = dipa.to_deepinv(solver(), loaded, physics)
    assert relative(model(y, physics), expected) < 1e-6


def test_the_stepsize_of_an_older_file_is_that_of_its_record(tmp_path):
    fit = trained()
    fit.preconditioner.setting = {}
    loaded, _ = dipa.load(dipa.save(fit, tmp_path / "p.safetensors"))
    assert loaded.setting == {"stepsize": 0.5}


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda run: run(stepsize=0.4), ("stepsize 0.4 (made with 0.5)",)),
        (lambda run: run(iterations=5), ("iterations 5 (made with 3)",)),
        (lambda run: run(momentum="none"), ("momentum none (made with nesterov)",)),
        (lambda run: run(start="zero"), ("start zero (made with scaled_adjoint)",)),
        (lambda run: run(restart=2), ("restart 2",)),
        (lambda run: run(denoiser=identity_denoiser), ("another denoiser",)),
        (lambda run: run(physics=inpainting()), ("operator Inpainting", "SinglePixel")),
    ],
)
def test_a_preconditioner_in_another_setting_says_what_differs_once(use, words):
    fit = trained()

    def run(physics=None, denoiser=None, iterations=3, stepsize=None, **changes):
        physics = physics or camera()
        solve = solver(iterations, denoiser, **changes)
        y = physics.A(smooth_images(2))
        return solve(y, physics, preconditioner=fit, stepsize=stepsize)

    with pytest.warns(SettingWarning) as caught:
        use(run)
    assert len(caught) == 1 and all(word in str(caught[0].message) for word in words)
    use(run)  # a second warning would be an error here
    run()


def test_the_same_setting_made_again_is_the_same():
    """Another object, other measurements, another number of images: nothing to say."""
    fit = trained()
    solver()(camera().A(smooth_images(5, seed=3)), camera(), preconditioner=fit)


# --- held-out images ------------------------------------------------------------------------------


def test_held_out_images_are_a_share_and_no_others():
    for count, share, most in ((100, 0.1, 10), (5000, 0.1, MOST), (30, 0.0, 0), (4, 0.1, 0)):
        kept, held = held_out(count, share, 3)
        assert len(held) == most
        assert sorted([*kept.tolist(), *held.tolist()]) == list(range(count))
    assert torch.equal(held_out(100, 0.1, 3)[1], held_out(100, 0.1, 3)[1])
    assert not torch.equal(held_out(100, 0.1, 3)[1], held_out(100, 0.1, 4)[1])


def test_looks_keep_the_best_and_end_after_a_while():
    module, qualities = torch.nn.Linear(1, 1, bias=False), iter([1.0, 3.0, 2.0, 2.0, 2.5, 2.9])
    looks = Validation(lambda: next(qualities), 100)
    assert [step for step in range(101) if looks.due(step)] == list(range(0, 101, 10))
    rare = Validation(lambda: 0.0, 100, apart=40)
    assert [step for step in range(101) if rare.due(step)] == [0, 40, 80, 100]
    for step in range(PATIENCE + 2):
        assert not looks.exhausted
        module.weight.data.fill_(step)
        looks.look(module, 10 * step)
    assert looks.exhausted and looks.best_look == (10, 3.0) and looks.best["weight"].item() == 1
    other = Validation(lambda: 0.0, 100)
    other.load_state_dict(looks.state_dict())
    assert other.looks == looks.looks and other.best["weight"].item() == 1


def without_warnings(call):
    """What ``call`` returns, and the texts of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return call(), [str(warning.message) for warning in caught]


def test_training_that_makes_things_worse_ends_at_its_start_and_says_so():
    """A rate of 1 throws P far off: the start is the best of the looks."""
    P = LinearPreconditioner.identity(camera())
    start = P.matrix.detach().clone()
    fit, texts = without_warnings(
        lambda: train(P, x=smooth_images(40), rate=0.3, steps=20, validation=0.2)
    )
    looks = fit.record["validation"]["looks"]
    assert fit.record["validation"]["best"] == 0 and torch.equal(P.matrix, start)
    assert len(fit.history) < 20, "stopped early"
    assert max(quality for _, quality in looks) == looks[0][1]
    assert any("Do not train" in text for text in texts)


def test_what_training_is_worth_is_measured_on_the_held_out_images():
    P, x, physics, solve = (
        LinearPreconditioner.identity(camera()),
        smooth_images(40),
        camera(),
        None,
    )
    solve = solver(3)
    fit, _ = without_warnings(
        lambda: train(P, physics, x, solve, rate=1e-2, steps=20, validation=0.2, seed=5)
    )
    worth, (_, index) = fit.record["worth"], held_out(40, 0.2, 5)
    y = physics.A(x[index])

    def psnr(**run):
        return dipa.metrics.psnr(solve(y, physics, **run).x, x[index]).mean().item()

    assert worth["images"] == 8 and worth["trained"] == pytest.approx(
        psnr(preconditioner=fit), abs=1e-3
    )
    assert worth["without"] == pytest.approx(psnr(), abs=1e-3)
    k, best = worth["steps"]
    curve = dipa.FISTA(solve.prior, 30)(y, physics, x_true=x[index], history=True).history
    assert best == pytest.approx(max(record["psnr"] for record in curve), abs=1e-4)
    assert curve[k]["psnr"] == pytest.approx(best, abs=1e-4)
    assert f"trained P {worth['trained']:.2f} dB" in worth["text"]


def test_a_worth_recommends_what_is_better_and_free():
    numbers = {"images": 8, "iterations": 3, "start": 20.0}
    steps, ridge = (7, 21.0), 22.0
    best = Worth(trained=23.0, without=20.0, steps=steps, closed_form=ridge, **numbers)
    assert best.advice == ""
    behind = Worth(trained=21.5, without=20.0, steps=steps, closed_form=ridge, **numbers)
    assert "closed form" in behind.advice
    stopped = Worth(trained=20.5, without=20.0, steps=steps, closed_form=None, **numbers)
    assert "stopped in time" in stopped.advice and "not computed" in str(stopped)


def test_a_training_is_not_lost_where_there_is_no_closed_form():
    blur = deepinv.physics.functional.gaussian_blur(sigma=(1.0, 1.0))
    stacked = deepinv.physics.stack(
        deepinv.physics.BlurFFT((1, 8, 8), filter=blur), single_pixel((1, 8, 8), ratio=0.3)
    )
    fit, _ = without_warnings(
        lambda: train(dipa.ScalarSteps(3), stacked, smooth_images(20), validation=0.2)
    )
    worth = fit.record["worth"]
    assert worth["closed_form"] is None and "StackedLinearPhysics" in worth["no_closed_form"]
    assert "closed form not computed (physics: got 'Stacked" in worth["text"]
    assert len(fit.history) > 0 and math.isfinite(worth["trained"])


def test_few_images_are_one_warning():
    P = LinearPreconditioner.identity(camera(), form="dense")
    _, texts = without_warnings(lambda: train(P, x=smooth_images(40), validation=0.1))
    assert any("40 with 2,560 numbers" in text and "4,096" in text for text in texts)
    small = dipa.ScalarSteps(3)
    _, texts = without_warnings(lambda: train(small, x=smooth_images(40), validation=0.1))
    assert not any("fewer than" in text for text in texts)


def test_a_training_with_held_out_images_resumes_to_the_bit(tmp_path):
    def run(steps, path=None, report=None):
        P, x = LinearPreconditioner.identity(camera()), smooth_images(40)
        options = {"checkpoint": path, "report": report, "validation": 0.2}
        return without_warnings(
            lambda: dipa.distill(
                solver(3),
                P,
                camera(),
                None,
                x,
                losses=SUPERVISED,
                budget=Budget(steps=steps, batch_size=4, checkpoint_every=3),
                progress=False,
                **options,
            )
        )[0]

    class Stop(Exception):
        pass

    def stop(record):
        if record["step"] == 8:
            raise Stop

    whole, path = run(12), tmp_path / "run.checkpoint"
    with pytest.raises(Stop):
        run(12, path, stop)
    resumed = run(12, path)
    assert torch.equal(resumed.preconditioner.matrix, whole.preconditioner.matrix)
    assert resumed.record["validation"] == whole.record["validation"]


def test_the_closed_form_is_chosen_on_held_out_images():
    x, physics, solve = smooth_images(60), camera(), solver(3)
    fit = fit_ridge(solve, physics, x, validation=0.2, seed=2)
    trials = fit.record["trials"]
    assert len(trials) == len(REGULARIZATIONS) + len(NULL_WEIGHTS)
    kept, index = held_out(60, 0.2, 2)
    held = Held.of(solve, physics, x, index, "1/L", 2)
    assert held.psnr(fit) == pytest.approx(max(trial["psnr"] for trial in trials), abs=1e-3)
    best = max(trials[len(REGULARIZATIONS) :], key=lambda trial: trial["psnr"])
    again = LinearPreconditioner.ridge(
        physics,
        x[kept],
        stepsize=1 / lipschitz(physics),
        regularization=best["regularization"] * lipschitz(physics) ** 2,
        null_weight=best["null_weight"],
    )
    assert relative(fit.preconditioner.matrix, again.matrix) < 1e-4
    assert math.isfinite(best["psnr"])
    refuses(lambda: fit_ridge(solve, physics, x[:4]), "images", "4")
    refuses(lambda: fit_ridge(solve, physics, x, validation=0.0), "validation", "0")


def test_the_denoiser_is_that_of_the_setting():
    """The same weights in another object are the same denoiser."""
    fit, physics = trained(), camera()
    again = solver(3, tiny_denoiser())
    again(physics.A(smooth_images(2)), physics, preconditioner=fit)
