"""Steps in closed form, against dense least squares and the properties they must have."""

import warnings

import deepinv
import numpy as np
import pytest
import torch
from batteries import (
    identity_denoiser,
    images,
    matrix_physics,
    refuses,
    relative,
    rng,
    smooth_images,
    solver,
    tiny_denoiser,
)

import dipa
from dipa import fit_steps, linalg, metrics
from dipa.operators import single_pixel
from dipa.operators.bases import MatrixBasis
from dipa.operators.measure import gaussian_noise, measure
from dipa.preconditioners import (
    CombinedSteps,
    ConvolutionalSteps,
    FourierSteps,
    LinearPreconditioner,
    LinearSteps,
    PointwiseSteps,
    ScalarSteps,
)
from dipa.training.family import Family
from dipa.training.validation import held_out

SHAPE = (1, 8, 8)


def blur(height: int = 8, width: int = 8, channels: int = 1, scale: float = 1.0, noise: float = 0):
    kernel = scale * deepinv.physics.functional.gaussian_blur(sigma=(0.7, 0.5), angle=20)
    physics = deepinv.physics.BlurFFT(
        img_size=(channels, height, width), filter=kernel[..., : height // 2 * 2 - 1, :]
    )
    if noise:
        physics.noise_model = gaussian_noise(noise)
    return physics


def response(physics, height: int = 8, width: int = 8) -> torch.Tensor:
    """h at the frequencies of rfft2, by the operator's answer to a point."""
    point = torch.zeros(1, physics.img_size[0], height, width, dtype=torch.float64)
    point[..., 0, 0] = 1
    return torch.fft.rfft2(physics.double().A(point))[0, 0]


def bare(iterations: int, **options) -> dipa.FISTA:
    """No denoiser."""
    return solver(iterations, identity_denoiser, **({"momentum": "none"} | options))


def low_rank(complement: float = 0.0) -> LinearPreconditioner:
    """The identity on the 16 slowest cosines of 8 x 8 pixels."""
    place = np.outer(np.arange(4), np.arange(8) + 0.5)
    waves = np.cos(np.pi / 8 * place) * np.where(np.arange(4) > 0, 0.5, 8**-0.5)[:, None]
    rows = torch.from_numpy(np.kron(waves, waves))
    return LinearPreconditioner(rows.T.clone(), MatrixBasis(SHAPE, rows), complement).float()


MAKERS = {
    "scalar": lambda K: ScalarSteps(K),
    "kernels": lambda K: ConvolutionalSteps(K, 3),
    "pointwise": lambda K: PointwiseSteps(K, SHAPE),
    "matrices": lambda K: LinearSteps(K, low_rank()),
    "fourier": lambda K: FourierSteps(K, SHAPE),
    "radial": lambda K: FourierSteps(K, radial=True, knots=6),
}


# --- what is fitted -------------------------------------------------------------------------------


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (9, 6)])
def test_without_noise_the_filter_is_the_inverse_of_the_gram(size, iterations):
    """One step is the least-squares inverse 1 / |h|^2 over alpha, at every frequency."""
    physics = blur(*size)
    h, x = response(physics, *size), images(5, 1, *size, dtype=torch.float64)
    P = FourierSteps(iterations, (1, *size)).double()
    fit = fit_steps(P, bare(1, start="zero"), physics, x, stepsize=0.7, regularization=1e-14)
    assert fit.preconditioner is P
    assert relative(P.response(1, *size).detach(), 1 / (0.7 * h.abs() ** 2)) < 1e-6
    made = bare(1, start="zero")(physics.A(x), physics, preconditioner=P, stepsize=0.7).x
    assert relative(made, x) < 1e-6


@pytest.mark.parametrize("regularization", [1e-3, 0.3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", MAKERS)
def test_the_regularised_fit_solves_the_dense_normal_equations(name, channels, regularization):
    """Design matrix by linearity, one column a parameter, from the action of P alone."""
    physics, alpha = blur(channels=channels, noise=0.05), 0.7
    x = images(4, channels, 8, 8, dtype=torch.float64)
    fit = fit_steps(
        MAKERS[name](1).double(),
        bare(1, start="zero"),
        physics.double(),
        x,
        stepsize=alpha,
        regularization=regularization,
        sweeps=1,
        batch_size=3,
        seed=5,
    )
    # sweep 0 is the identity; the fitted one is kept only where it is nearer, as it is here
    found = fit.preconditioner.steps.detach().flatten()
    gradient = -physics.A_adjoint(measure(physics, x, seed=5))
    probe, columns = MAKERS[name](1).double(), []
    for j in range(found.numel()):
        unit = torch.zeros(found.numel(), dtype=torch.float64)
        unit[j] = 1
        probe.steps.data = unit.reshape(probe.steps.shape)
        columns.append((alpha * probe(gradient, x, 1)).detach().flatten())
    A, b = torch.stack(columns, dim=1).numpy(), -x.flatten().numpy()
    gram, right = A.T @ A, A.T @ b
    if name == "fourier":
        # two numbers of column 0 or 4 make one frequency: their half sum; every frequency apart
        power = torch.fft.rfft2(alpha * gradient, norm="ortho").abs().square().sum(dim=(0, 1))
        cross = torch.fft.rfft2(alpha * gradient, norm="ortho").conj() * torch.fft.rfft2(
            -x, norm="ortho"
        )
        expected = cross.real.sum(dim=(0, 1)) / (power + regularization * power.mean())
        assert relative(found.reshape(8, 5), expected) < 1e-9
        exact = np.linalg.lstsq(A, b, rcond=1e-12)[0]
        free = fit_steps(
            FourierSteps(1, SHAPE).double(),
            bare(1, start="zero"),
            physics,
            x,
            stepsize=alpha,
            regularization=0,
            sweeps=1,
            seed=5,
        ).preconditioner
        assert relative(free.steps.detach().flatten(), torch.from_numpy(exact)) < 1e-6
        return
    level = regularization * np.trace(gram) / len(gram)
    between = np.diff(np.eye(len(gram)), axis=0)
    penalty = np.eye(len(gram))
    if name == "radial":
        penalty = between.T @ between + 1e-6 * np.eye(len(gram))
    expected = np.linalg.solve(gram + level * penalty, right)
    assert relative(found, torch.from_numpy(expected)) < 1e-9


def test_noise_makes_it_the_wiener_filter():
    """White images and white noise: S / (|h|^2 S + sigma^2) over alpha, to what 4,000 images
    tell.
    """
    physics = blur(noise=0.2)
    h, x = response(physics), images(4000, 1, 8, 8, dtype=torch.float64) - 0.5
    with pytest.warns(UserWarning, match="images"):
        P = fit_steps(FourierSteps(1, SHAPE).double(), bare(1, start="zero"), physics, x, sweeps=1)
    wiener = (1 / 12) / (h.abs() ** 2 / 12 + 0.2**2) * h.abs().max() ** 2
    assert relative(P.preconditioner.response(1, 8, 8).detach(), wiener) < 0.05


@pytest.mark.parametrize("prior", ["none", "denoiser"])
@pytest.mark.parametrize("momentum", ["none", "nesterov"])
@pytest.mark.parametrize("name", MAKERS)
def test_each_iteration_is_the_best_for_what_came_before(name, momentum, prior):
    """A change of the numbers of iteration k alone makes z^k - alpha d^k worse, for every k."""
    physics, x = blur(noise=0.02).double(), smooth_images(6, dtype=torch.float64)
    denoiser = identity_denoiser if prior == "none" else tiny_denoiser().double()
    run = solver(3, denoiser, momentum=momentum)
    P = MAKERS[name](3).double()
    fit_steps(P, run, physics, x, regularization=0 if name != "radial" else 1e-9, seed=2)
    y, fitted = measure(physics, x, seed=2), P.steps.data.clone()

    def errors() -> list[float]:
        found = []

        def observe(state):
            if state.k:
                before = state.z - state.stepsize * state.direction
                found.append((before - x).square().sum().item())

        run(y, physics, preconditioner=P, observe=observe)
        return found

    best = errors()
    for k in range(3):
        for sign in (-0.1, 0.1):
            P.steps.data = fitted.clone()
            P.steps.data[k] += sign
            assert errors()[k] > best[k]


@pytest.mark.parametrize("name", MAKERS)
def test_without_a_denoiser_every_iteration_lowers_the_error(name):
    physics, x = blur(noise=0.02), smooth_images(6)
    fit = fit_steps(MAKERS[name](5), bare(5), physics, x)
    start = (physics.A_adjoint(measure(physics, x)) - x).square().mean().item()
    losses = [start, *(record["loss"] for record in fit.history)]
    assert all(
        after <= before * (1 + 1e-6) for before, after in zip(losses, losses[1:], strict=False)
    )
    assert losses[-1] < 0.8 * start and [record["step"] for record in fit.history] == [*range(1, 6)]


def test_a_finer_form_fits_no_worse():
    """Scalars are radial filters, radial filters are filters: at iteration 1."""
    physics, x = blur(noise=0.02).double(), smooth_images(6, dtype=torch.float64)
    losses = [
        fit_steps(MAKERS[name](2).double(), bare(1), physics, x, regularization=1e-12).history[0][
            "loss"
        ]
        for name in ("scalar", "radial", "fourier")
    ]
    assert losses[0] > losses[1] > losses[2]


# --- what it does not depend on -------------------------------------------------------------------


@pytest.mark.parametrize("K", [1, 4])
@pytest.mark.parametrize("name", MAKERS)
def test_the_units_of_the_operator_do_not_matter(name, K):
    """H and 10 H, noise and 10 noise, each with its own 1/L: the same P, the same images."""
    x = smooth_images(6, dtype=torch.float64)
    made = []
    for scale in (1.0, 10.0):
        physics = blur(scale=scale, noise=0.02 * scale).double()
        run = solver(4, tiny_denoiser().double(), start="zero")
        fit = fit_steps(MAKERS[name](K).double(), run, physics, x)
        y = measure(physics, x, seed=9)
        made.append(
            (
                fit.preconditioner.steps.detach(),
                run(y, physics, preconditioner=fit.preconditioner).x,
            )
        )
    assert relative(made[1][0], made[0][0]) < 1e-6
    assert relative(made[1][1], made[0][1]) < 1e-6


@pytest.mark.parametrize("K", [1, 3])
def test_the_size_of_the_batches_does_not_matter(K):
    physics, x = blur(noise=0.02).double(), smooth_images(7, dtype=torch.float64)
    made = [
        fit_steps(
            FourierSteps(K, SHAPE).double(),
            solver(3, tiny_denoiser().double()),
            physics,
            x,
            batch_size=size,
        ).preconditioner.steps.detach()
        for size in (2, 7)
    ]
    assert relative(made[0], made[1]) < 1e-9


# --- regularizations ------------------------------------------------------------------------------


def test_what_leaves_the_basis_is_not_fitted():
    """With a complement the matrix is fitted to what that leaves."""
    physics, x = blur(noise=0.02).double(), smooth_images(20, dtype=torch.float64)
    P = LinearSteps(1, low_rank(complement=0.5)).double()
    fit_steps(P, bare(1, start="adjoint"), physics, x, regularization=0, sweeps=1, stepsize=1.0)
    z = physics.A_adjoint(measure(physics, x))
    g = physics.A_adjoint(physics.A(z) - measure(physics, x))
    V = P.basis.rows.double()
    inside = (g.flatten(1) @ V.T).numpy()
    target = (z - x - 0.5 * g).flatten(1) + 0.5 * g.flatten(1) @ V.T @ V
    wanted = np.linalg.lstsq(inside, target.numpy(), rcond=None)[0].T
    assert relative(P.steps[0].detach(), torch.from_numpy(wanted)) < 1e-6


@pytest.mark.parametrize("name", MAKERS)
def test_of_several_regularizations_each_iteration_has_the_best_on_images_held_out(name):
    levels, kept = (1e-6, 0.1, 30.0), range(20)
    physics, x = blur(noise=0.3).double(), smooth_images(20, dtype=torch.float64)
    _, held = held_out(20, 0.25, 4)
    train = [i for i in kept if i not in held.tolist()]
    y, run = measure(physics, x, seed=4), bare(3, start="adjoint")
    P = MAKERS[name](3).double()
    fit = fit_steps(P, run, physics, x, regularization=levels, validation=0.25, seed=4)
    assert fit.record["regularization"] == list(levels) and fit.record["validation"] == 0.25
    z = physics.A_adjoint(y)
    alpha = 1 / dipa.physics.lipschitz(physics, SHAPE)
    for k in range(1, 4):
        g = physics.A_adjoint(physics.A(z) - y)
        trials = []
        for level in levels:
            one = MAKERS[name](1).double()
            parts = one.normal_equations(z[train] - x[train], alpha * g[train])
            one.steps.data[0] = one.solution(*parts, level)
            after = (z - alpha * one(g, z, 1)).detach()
            trials.append(((after - x)[held].square().sum().item(), one.steps[0].detach(), after))
        best = min(trials, key=lambda trial: trial[0])
        assert relative(P.steps[k - 1].detach(), best[1]) < 1e-6
        z = best[2]


@pytest.mark.parametrize(("levels", "best"), [((0.0, 0.5), 0.0), ((9.0, 0.5, 2.0), 0.5)])
def test_of_several_regularizations_all_iterations_have_one(levels, best):
    """The sums over the states of the run with P = I, of the images that are not held out."""
    physics, x = blur(noise=0.02).double(), smooth_images(20, dtype=torch.float64)
    run, y, seen = bare(3), measure(physics, x, seed=1), []
    train, held = held_out(20, 0.25, 1)

    def observe(state):
        if state.k:
            seen.append((0.5 * state.gradient, state.z - x))

    run(y, physics, stepsize=0.5, observe=observe)
    gram, right = (
        [sum((d[part] * e[part]).sum().item() for d, e in pairs) for part in (train, held)]
        for pairs in ([(d, d) for d, _ in seen], seen)
    )
    tried = [right[0] / ((1 + level) * gram[0]) for level in levels]
    wanted = min(tried, key=lambda p: gram[1] * p**2 - 2 * right[1] * p)
    assert wanted == tried[levels.index(best)]
    options = {"regularization": levels, "validation": 0.25, "seed": 1, "sweeps": 1}
    P = ScalarSteps(1).double()
    fit_steps(P, run, physics, x, stepsize=0.5, **options)
    assert P.steps.item() == pytest.approx(wanted, rel=1e-9)


# --- one set for all iterations -------------------------------------------------------------------


def test_one_scalar_is_pooled_over_the_iterations():
    """Sweep 1 by hand: sums over the states of the run with P = I."""
    physics, x, alpha = blur(noise=0.02).double(), smooth_images(5, dtype=torch.float64), 0.5
    run, y, sums = bare(3), None, [0.0, 0.0]
    y = measure(physics, x)

    def observe(state):
        if state.k:
            d = alpha * state.gradient
            sums[0] += d.square().sum().item()
            sums[1] += (d * (state.z - x)).sum().item()

    run(y, physics, stepsize=alpha, observe=observe)
    P = ScalarSteps(1).double()
    fit = fit_steps(P, run, physics, x, stepsize=alpha, regularization=0.01, sweeps=1)
    assert P.steps.item() == pytest.approx(sums[1] / (1.01 * sums[0]), rel=1e-9)
    assert [record["step"] for record in fit.history] == [0, 1]


def test_sweeps_add_up_their_states():
    """So they settle, where each alone would go back and forth."""
    physics, x = blur(noise=0.02), smooth_images(6)
    history = fit_steps(
        FourierSteps(1, SHAPE), bare(4, momentum="nesterov"), physics, x, sweeps=6
    ).history
    losses = [record["loss"] for record in history]
    assert losses[1] > losses[0], "the states of the run without P mislead"
    assert losses[2:] == sorted(losses[2:], reverse=True) and losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", MAKERS)
def test_the_best_sweep_is_kept_the_given_one_among_them(name):
    physics, x = blur(noise=0.02), smooth_images(6)
    run, y = bare(4), measure(physics, x)
    P = MAKERS[name](1)
    fit = fit_steps(P, run, physics, x, sweeps=4)
    losses = [record["loss"] for record in fit.history]
    ended = (run(y, physics, preconditioner=P).x - x).square().mean().item()
    assert ended == pytest.approx(min(losses), rel=1e-4) and losses[0] > min(losses)
    again = fit_steps(MAKERS[name](1), run, physics, x, regularization=1e9)
    assert torch.equal(again.preconditioner.steps, MAKERS[name](1).steps), "0 is worse than 1"


# --- the rest -------------------------------------------------------------------------------------


def test_iterations_that_the_solver_does_not_run_are_its_last():
    P = ScalarSteps(5)
    fit_steps(P, bare(3), blur(), smooth_images(3))
    assert torch.equal(P.steps[2:], P.steps[2].expand(3)) and P.steps[0] != P.steps[1]
    fewer = ScalarSteps(2)
    history = fit_steps(fewer, bare(3), blur(), smooth_images(3)).history
    assert torch.equal(fewer.steps, P.steps[:2]) and len(history) == 2


def test_a_gradient_of_zero_leaves_nothing_to_fit():
    """Black images: nothing is divided by nothing."""
    for make in MAKERS.values():
        P = fit_steps(make(2), bare(2), blur(), torch.zeros(2, *SHAPE)).preconditioner
        assert torch.isfinite(P.steps).all()


def test_it_can_be_trained_on_and_saved(tmp_path):
    physics, x = blur(noise=0.02), smooth_images(6)
    fit = fit_steps(FourierSteps(2, SHAPE), solver(2), physics, x, seed=3)
    assert fit.preconditioner.steps.requires_grad and fit.record["seed"] == 3
    again, record = dipa.load(dipa.save(fit, tmp_path / "P.safetensors"))
    assert torch.equal(again.steps, fit.preconditioner.steps) and record == fit.record
    budget = dipa.Budget(steps=2, batch_size=2)
    refined = dipa.distill(
        solver(2),
        fit.preconditioner,
        physics,
        None,
        x,
        losses=dipa.LossWeights(supervised=1.0),
        budget=budget,
        stepsize="1/L",
        validation=0,
        progress=False,
    )
    assert not torch.equal(refined.preconditioner.steps, again.steps)


def test_doors():
    physics, x = blur(), smooth_images(3)
    refuses(lambda: fit_steps(low_rank(), bare(2), physics, x), "LinearPreconditioner")
    large = ConvolutionalSteps(1, 33)
    refuses(lambda: fit_steps(large, bare(2), blur(32, 32), images(3, 1, 32, 32)), "size", "33")
    for bad in ((), (1e-3, -1.0), (1e-3, "a")):
        options = {"regularization": bad}
        refuses(lambda o=options: fit_steps(ScalarSteps(2), bare(2), physics, x, **o), "regulariz")
    options = {"regularization": (1e-3, 1.0), "validation": 0.0}
    refuses(lambda: fit_steps(ScalarSteps(2), bare(2), physics, x, **options), "validation", "0")
    options = {"regularization": (1e-3, 1.0)}
    refuses(
        lambda: fit_steps(ScalarSteps(2), bare(2), [physics, blur(scale=2)], x, **options),
        "regularization",
    )
    refuses(lambda: fit_steps(ScalarSteps(2), bare(2), physics, x[:1], **options), "images", "1")
    refuses(lambda: fit_steps(dipa.Identity(), bare(2), physics, x), "preconditioner", "Identity")
    refuses(
        lambda: fit_steps(FourierSteps(2, (1, 6, 6)), bare(2), physics, x), "own size", "(6, 6)"
    )
    refuses(
        lambda: fit_steps(ScalarSteps(2), bare(2), physics, x, stepsize=dipa.solvers.Armijo()),
        "stepsize",
    )
    refuses(lambda: fit_steps(ScalarSteps(2), bare(2), physics, x, sweeps=0), "sweeps", "0")
    refuses(lambda: fit_steps(ScalarSteps(2), bare(2), physics, x, batch_size=0), "batch_size")
    refuses(
        lambda: fit_steps(ScalarSteps(2), bare(2), physics, x, regularization=-1), "regularization"
    )
    refuses(
        lambda: fit_steps(ScalarSteps(1), bare(60), physics, x, stepsize=60.0), "diverged", "60"
    )


def test_operators_that_are_no_filters_are_fitted_too():
    """The single-pixel camera, and a matrix: scalars and filters lower the error they are fitted
    for.
    """
    x = smooth_images(6)
    for physics in (single_pixel(SHAPE, ratio=0.5), matrix_physics(torch.eye(64)[::2], SHAPE)):
        plain = bare(3)(physics.A(x), physics).x
        for make in MAKERS.values():
            P = fit_steps(make(3), bare(3), physics, x).preconditioner
            made = bare(3)(physics.A(x), physics, preconditioner=P).x
            assert (made - x).norm() <= (plain - x).norm() * (1 + 1e-5)
    assert linalg.dense(physics.A, SHAPE).shape == (32, 64)


# --- several operators ----------------------------------------------------------------------------


def masks(count: int, noise: float = 0.0) -> list[deepinv.physics.LinearPhysics]:
    """Inpainting with other pixels each, and one that measures another number."""
    made = [
        deepinv.physics.Inpainting(
            SHAPE, mask=(torch.rand(1, 8, 8, generator=rng(s)) < 0.5).float()
        )
        for s in range(count - 1)
    ]
    made.append(matrix_physics(torch.randn(30, 64, generator=rng(9)) / 8, SHAPE))
    for physics in made:
        physics.set_noise_model(deepinv.physics.GaussianNoise(noise))
    return made


@pytest.mark.parametrize("name", ["scalar", "radial", "combined"])
def test_a_family_of_one_is_the_operator(name):
    makers = MAKERS | {"combined": lambda K: CombinedSteps(K, degree=2, widths=(1.0,))}
    x = images(4, *SHAPE)
    for physics in (masks(2)[0], masks(2)[1]):
        runs = [
            fit_steps(makers[name](3), solver(3), given, x).preconditioner.steps
            for given in (physics, [physics])
        ]
        assert relative(*runs) < 1e-3


def test_the_sum_goes_over_the_operators_in_units_of_their_norms():
    """One number for one step from zero: sum of <x, d> over sum of <d, d>, d = H^T H x / L."""
    physics, x = masks(3), images(5, *SHAPE)
    fit = fit_steps(ScalarSteps(2), bare(1, start="zero"), physics, x, regularization=0.0)
    top = bottom = 0.0
    for one in physics:
        d = one.A_adjoint_A(x) / dipa.physics.lipschitz(one, SHAPE, x)
        top, bottom = top + (x * d).sum(), bottom + d.square().sum()
    assert fit.preconditioner.steps[0].item() == pytest.approx((top / bottom).item(), rel=1e-4)
    assert fit.record["operators"] == 3


def test_a_family_may_measure_complex_numbers_of_several_sizes():
    size = (2, 8, 8)
    lines = [(torch.rand(1, 1, 1, 8, generator=rng(s)) < 0.6).float() for s in range(2)]
    physics = [deepinv.physics.MRI(mask=line.expand(1, 2, 8, 8)) for line in lines]
    maps = torch.ones(1, 3, 8, 8, dtype=torch.complex64) / 3**0.5
    physics.append(
        deepinv.physics.MultiCoilMRI(
            mask=lines[0].expand(1, 2, 8, 8), coil_maps=maps, img_size=(8, 8)
        )
    )
    matrix = torch.randn(20, 128, dtype=torch.complex64, generator=rng(4)) / 16
    physics.append(
        deepinv.physics.LinearPhysics(
            A=lambda x, **_: x.flatten(1).to(torch.complex64) @ matrix.T,
            A_adjoint=lambda y, **_: (y @ matrix.conj()).real.reshape(-1, *size),
        )
    )
    x = images(3, *size)
    family = Family(physics, x)
    y = family.A(x.repeat(4, 1, 1, 1))
    back = family.A_adjoint(y)
    for number, one in enumerate(physics):
        wanted = one.A_adjoint_A(x) / dipa.physics.lipschitz(one, size, x)
        assert relative(back[3 * number : 3 * number + 3], wanted) < 1e-5
    fit = fit_steps(CombinedSteps(2), bare(2, start="zero"), physics, x)
    assert torch.isfinite(fit.preconditioner.steps).all()


def test_what_a_family_taught_serves_another_of_its_kind():
    physics, x = masks(5, noise=0.01), smooth_images(12)
    run = solver(6, identity_denoiser, start="zero")
    fit = fit_steps(CombinedSteps(6), run, physics[:3], x[:8])
    other, test = physics[3], x[8:]
    y = measure(other, test, seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with_P = run(y, other, preconditioner=fit).x
    assert fit.preconditioner.setting["operator is"] == "a family of operators"
    gained = metrics.psnr(with_P, test).mean() - metrics.psnr(run(y, other).x, test).mean()
    assert gained > 3


@pytest.mark.parametrize("name", ["scalar", "combined"])
def test_a_mask_for_every_image_is_fitted_whatever_the_batch(name):
    makers = MAKERS | {"combined": lambda K: CombinedSteps(K, degree=2, widths=(1.0,))}
    x = images(7, *SHAPE)
    mask = (torch.rand(7, *SHAPE, generator=rng(4)) < 0.6).float()
    physics = deepinv.physics.Inpainting(SHAPE, mask=mask)
    runs = [
        fit_steps(makers[name](3), bare(3), physics, x, batch_size=batch).preconditioner.steps
        for batch in (3, 64)
    ]
    assert relative(*runs) < 1e-4


def test_a_family_that_is_none_is_refused():
    x, run = images(4, *SHAPE), bare(1)
    refuses(lambda: fit_steps(ScalarSteps(1), run, [], x), "physics", "no operators")
    refuses(lambda: fit_steps(ScalarSteps(1), run, masks(2), x, stepsize=0.4), "stepsize", "1/L")
    wrong = deepinv.physics.LinearPhysics(A=lambda x, **_: x, A_adjoint=lambda y, **_: y.flip(3))
    refuses(lambda: fit_steps(ScalarSteps(1), run, [*masks(1), wrong], x), "physics[1]", "adjoint")
    refuses(lambda: fit_steps(ScalarSteps(1), run, [*masks(1), 3], x), "physics[1]")
    stack = deepinv.physics.stack(*masks(2))
    refuses(lambda: fit_steps(ScalarSteps(1), run, [stack], x), "physics[0]", "one tensor")


def test_each_operator_of_a_family_has_noise_of_its_own():
    physics = [deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.1)) for _ in range(2)]
    x = images(30, *SHAPE)
    noise = Family(physics, x).measured(x, 3) - x.repeat(2, 1, 1, 1).flatten(1)
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert not torch.equal(noise[:30], noise[30:])
