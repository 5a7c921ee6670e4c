import deepinv
import numpy as np
import pytest
import torch
from batteries import (
    check_preconditioner,
    downsampling,
    finite_difference,
    identity_denoiser,
    images,
    matrix_physics,
    refuses,
    relative,
    rng,
    size_of,
    smooth_images,
    solver,
    tiny_denoiser,
)
from members import (
    COMPLEMENT,
    FITTED_STEPS,
    FIXED,
    FOREIGN,
    LEARNED,
    LINEAR,
    MEMBERS,
    ONE_FILTER,
    OPERATORS,
    PER_ITERATION,
    PLANES,
    SHAPE,
    complex_mri,
    general,
    perturbed,
    shaken,
    student,
    with_complement,
)
from scipy.optimize import linprog

import dipa
from dipa import LinearPreconditioner, linalg
from dipa.operators import MatrixBasis, PixelBasis, mri, mri_pair, single_pixel, super_resolution
from dipa.preconditioners import (
    ConvolutionalSteps,
    FourierSteps,
    Hessian,
    LinearSteps,
    PointwiseSteps,
    Polynomial,
    ScalarSteps,
)
from dipa.preconditioners.linear import FORMS
from dipa.solvers import data_gradient


@pytest.mark.parametrize("name", MEMBERS)
def test_contract(name):
    check_preconditioner(MEMBERS[name](), SHAPE)


@pytest.mark.parametrize("name", PLANES)
def test_contract_on_complex_images(name):
    check_preconditioner(PLANES[name](), (2, 12, 10))


@pytest.mark.parametrize("name", PLANES)
def test_one_channel_serves_each_channel_alone(name):
    P, gradient = PLANES[name](), torch.randn(3, 2, 12, 10, generator=rng(2))
    alone = torch.cat([P(gradient[:, c : c + 1], gradient, 2) for c in range(2)], dim=1)
    assert relative(P(gradient, gradient, 2), alone) < 1e-6
    turned = torch.stack([-gradient[:, 1], gradient[:, 0]], dim=1)
    direction = P(gradient, gradient, 2)
    assert (
        relative(P(turned, turned, 2), torch.stack([-direction[:, 1], direction[:, 0]], dim=1))
        < 1e-5
    ), "complex linear"


@pytest.mark.parametrize("name", [*PER_ITERATION])
def test_declared_dependence_on_the_iteration_is_true(name):
    P, gradient = PER_ITERATION[name](), images(2, *SHAPE)
    assert P.traits.iteration_dependent
    assert relative(P(gradient, gradient, 1), P(gradient, gradient, 2)) > 0.05


# --- size and action ------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_parameter_counts(channels):
    physics = single_pixel((channels, 8, 8), ratio=0.3)
    n, m = 64 * channels, 19 * channels
    assert LinearPreconditioner.identity(physics).parameter_count == n * m
    assert LinearPreconditioner.identity(physics, form="dense").parameter_count == n * n
    assert LinearPreconditioner.identity(physics, planes=True).parameter_count == 64 * 19
    assert (
        LinearPreconditioner.identity(physics, form="dense", planes=True).parameter_count == 64 * 64
    )
    assert dipa.Identity().parameter_count == 0


@pytest.mark.parametrize(
    ("side", "pointwise", "full"),
    [(32, 20_480, 20_971_520), (50, 50_000, 125_000_000), (110, 242_000, 2_928_200_000)],
)
def test_parameter_counts_of_the_papers(side, pointwise, full):
    """D2GP Table I: 20, 500, 20k / 50k / 242k and 21M / 125M / 2 928M at K = 20; meta tensors
    have no memory.
    """
    size = (1, side, side)
    dense = LinearPreconditioner(torch.empty(side**2, side**2, device="meta"), PixelBasis(size))
    steps = (
        ScalarSteps(20),
        ConvolutionalSteps(20),
        PointwiseSteps(20, size),
        LinearSteps(20, dense),
    )
    assert [P.parameter_count for P in steps] == [20, 500, pointwise, full]
    assert dense.parameter_count == full // 20


def test_fixed_preconditioners_train_nothing():
    for make in FIXED.values():
        assert make().parameter_count == 0
    assert (
        Polynomial.l2(student()).coefficient_count
        == Polynomial.chebyshev(student()).coefficient_count
        == 5
    )


@pytest.mark.parametrize("name", LINEAR)
def test_dense_is_the_matrix_of_the_action_on_the_subspace(name):
    P = MEMBERS[name]()
    matrix = P.dense()
    assert matrix.shape == (64, 64)
    gradient = images(3, *SHAPE)
    expected = (gradient.flatten(1) @ matrix.T).reshape(gradient.shape)
    assert relative(P(gradient, gradient, 1), expected) < 1e-5
    outside = gradient - P.basis.project(gradient)
    assert P(outside, outside, 1).norm() < 1e-4


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OPERATORS)
def test_identity_start_is_the_identity_on_data_gradients(name, form, planes):
    physics = OPERATORS[name]()
    P = LinearPreconditioner.identity(physics, size_of(physics), form=form, planes=planes)
    x = images(2, *size_of(physics))
    gradient = data_gradient(physics, physics.A(images(2, *size_of(physics), seed=1)), x)
    assert relative(P(gradient, x, 1), gradient) < 1e-4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("start", ["zero", "adjoint"])
def test_identity_start_is_plain_fista(form, start):
    physics = student()
    y = physics.A(images(2, *SHAPE))
    solve = solver(6, start=start)
    plain = solve(y, physics, stepsize=0.4, iterates=True).iterates
    for P in (LinearPreconditioner.identity(physics, form=form), dipa.Identity()):
        assert (
            relative(
                solve(y, physics, preconditioner=P, stepsize=0.4, iterates=True).iterates, plain
            )
            < 1e-5
        )


SUBSPACES = {
    "single pixel": (student, False),
    "MRI": (complex_mri, False),
    "MRI, planes": (complex_mri, True),
    "MRI, real": (lambda: mri((1, 12, 10), acceleration=2), False),
    "super-resolution, colour planes": (lambda: super_resolution((3, 9, 12), factor=3), True),
    "inpainting": (FOREIGN["inpainting"], False),
    "deepinv's MRI, planes": (FOREIGN["deepinv's MRI"], True),
}


@pytest.mark.parametrize("name", SUBSPACES)
def test_low_rank_is_dense_iterate_by_iterate(name):
    make, planes = SUBSPACES[name]
    physics = make()
    y = physics.A(images(3, *size_of(physics)))
    low, dense = (perturbed(physics, form, planes=planes) for form in FORMS)
    runs = [
        solver(8)(y, physics, preconditioner=P, stepsize=0.4, iterates=True).iterates
        for P in (low, dense)
    ]
    plain = solver(8)(y, physics, stepsize=0.4, iterates=True).iterates
    assert low.parameter_count < dense.parameter_count
    for fast, full in zip(*runs, strict=True):
        assert relative(fast, full) < 1e-5
    assert relative(runs[0], plain) > 1e-2, "the perturbation shows"


def supervised(P, physics, x):
    run = {"preconditioner": P, "stepsize": 0.4, "backward": None}
    return ((solver(3)(physics.A(x), physics, **run).x - x) ** 2).sum()


def test_low_rank_gradient_is_the_dense_one_seen_through_v():
    physics, x = student(), smooth_images(4)
    low, dense = (perturbed(physics, form) for form in FORMS)
    for P in (low, dense):
        supervised(P, physics, x).backward()
    rows = low.basis.image(torch.eye(low.basis.dim)).flatten(1)
    assert relative(low.matrix.grad, dense.matrix.grad @ rows.T) < 1e-4


def test_low_rank_training_by_gradient_descent_is_dense_training():
    physics, x = student(), smooth_images(4)
    low, dense = (LinearPreconditioner.identity(physics, form=form) for form in FORMS)
    started = supervised(low, physics, x).item()
    for _ in range(5):
        for P in (low, dense):
            P.zero_grad()
            supervised(P, physics, x).backward()
            P.matrix.data -= 0.01 * P.matrix.grad
    a, b = (
        solver(5)(physics.A(x), physics, preconditioner=P, stepsize=0.4).x for P in (low, dense)
    )
    assert relative(a, b) < 1e-5
    assert supervised(low, physics, x).item() < 0.95 * started, "the five steps did something"


@pytest.mark.parametrize(
    "name", ["linear, low rank", "linear, complement", *PER_ITERATION, *ONE_FILTER]
)
def test_gradients_with_respect_to_the_parameters_by_finite_differences(name):
    physics, P = student().double(), LEARNED[name]().double()
    x = smooth_images(2, dtype=torch.float64)
    solve = solver(4, tiny_denoiser().double())
    (parameter,) = P.parameters()

    def loss(numbers):
        parameter.data = numbers
        run = {"preconditioner": P, "stepsize": 0.4, "backward": None}
        return ((solve(physics.A(x), physics, **run).x - x) ** 2).sum()

    start = parameter.data.clone()
    loss(start).backward()
    for seed in range(2):
        along = torch.randn(start.shape, generator=rng(seed), dtype=torch.float64)
        numeric = finite_difference(lambda numbers: loss(numbers).item(), start, along)
        assert torch.sum(parameter.grad * along).item() == pytest.approx(numeric, rel=1e-6)


# --- what lies outside the subspace ---------------------------------------------------------------


@pytest.mark.parametrize("name", COMPLEMENT | {"linear steps, complement": None})
def test_complement_is_a_multiple_of_the_identity_outside_the_subspace(name):
    P = LEARNED[name]()
    gradient = images(2, *SHAPE)
    outside = gradient - P.basis.project(gradient)
    assert relative(P(outside, outside, 2), 0.7 * outside) < 1e-5
    matrix = P.dense() if name in COMPLEMENT else P.dense(2)
    assert (
        relative(P(gradient, gradient, 2), (gradient.flatten(1) @ matrix.T).reshape(gradient.shape))
        < 1e-5
    )


def test_complement_of_the_pixel_basis_is_nothing():
    P, gradient = perturbed(student(), "dense"), images(2, *SHAPE)
    assert torch.equal(with_complement(P)(gradient, gradient, 1), P(gradient, gradient, 1))


@pytest.mark.parametrize("task", ["single pixel", "MRI"])
def test_complement_meets_another_operator_as_dense_training_from_the_identity_does(task):
    """Trained on the student, run on the teacher: with complement 1 the low-rank P is the dense
    one, without it is not.
    """
    if task == "MRI":
        trained, other = mri_pair((2, 8, 8), acceleration=4, teacher_acceleration=2)
        x, planes = torch.cat([smooth_images(4), smooth_images(4, seed=1)], dim=1), True
    else:
        trained, other, x, planes = (
            student(),
            single_pixel(SHAPE, ratio=0.7),
            smooth_images(4),
            False,
        )
    options = ({"form": "dense"}, {"complement": 1.0}, {})
    dense, low, without = (
        LinearPreconditioner.identity(trained, planes=planes, **option) for option in options
    )
    for _ in range(5):
        for P in (dense, low, without):
            P.zero_grad()
            supervised(P, trained, x).backward()
            P.matrix.data -= 0.01 * P.matrix.grad
    y = other.A(x)
    runs = [
        solver(5)(y, other, preconditioner=P, stepsize=0.4, iterates=True).iterates
        for P in (dense, low, without)
    ]
    assert relative(runs[1], runs[0]) < 1e-5
    assert relative(runs[2], runs[0]) > 1e-3
    assert relative(low.dense(), dense.dense()) < 1e-5


# --- ridge ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("stepsize", "weight"), [(0.4, 1e-3), (1.0, 0.1)])
def test_ridge_solves_the_normal_equations(form, stepsize, weight):
    """Against numpy's least squares on the stacked system [C; sqrt(weight N) I] W^T = [X; 0], W
    = stepsize B.
    """
    physics, x = student(), smooth_images(90)
    P = LinearPreconditioner.ridge(physics, x, stepsize=stepsize, regularization=weight, form=form)
    seen = P.basis.coordinates(physics.A_adjoint(physics.A(x))).double().numpy()
    stacked = np.concatenate([seen, np.sqrt(weight * len(x)) * np.eye(seen.shape[1])])
    targets = np.concatenate([x.flatten(1).double().numpy(), np.zeros((seen.shape[1], 64))])
    predictor = np.linalg.lstsq(stacked, targets, rcond=None)[0].T
    assert relative(stepsize * P.matrix.detach().double(), torch.from_numpy(predictor)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_one_ridge_step_from_zero_is_the_linear_prediction(form):
    """And no other linear map of the measurements predicts the images it was fitted on better,
    for a vanishing weight.
    """
    physics, x = student(), smooth_images(200)
    P = LinearPreconditioner.ridge(physics, x, stepsize=0.4, regularization=1e-9, form=form)
    one = solver(1, identity_denoiser, start="zero", momentum="none")
    predicted = one(physics.A(x), physics, preconditioner=P, stepsize=0.4).x
    assert (
        relative(
            predicted,
            (physics.A_adjoint(physics.A(x)).flatten(1) @ (0.4 * P.dense().T)).reshape(x.shape),
        )
        < 1e-4
    )
    seen = physics.A_adjoint(physics.A(x)).flatten(1).double().numpy()
    best = seen @ np.linalg.lstsq(seen, x.flatten(1).double().numpy(), rcond=1e-6)[0]
    errors = [
        ((x.flatten(1).double().numpy() - fit) ** 2).sum()
        for fit in (predicted.detach().flatten(1).double().numpy(), best)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-2)
    adjoint_error = ((x - physics.A_adjoint(physics.A(x))) ** 2).sum().item()
    assert errors[0] < 0.5 * adjoint_error, "and it beats the adjoint"


def test_ridge_shrinks_to_zero_as_its_weight_grows():
    norms = [
        LinearPreconditioner.ridge(
            student(), smooth_images(30), stepsize=0.4, regularization=weight
        )
        .matrix.norm()
        .item()
        for weight in (1e-3, 1.0, 1e6)
    ]
    assert norms[0] > norms[1] > norms[2] and norms[2] < 1e-4


def test_ridge_uses_every_batch():
    """More images than one internal batch of 4,096: all of them count."""
    physics, x = single_pixel((1, 2, 2), ratio=0.5), images(5000, 1, 2, 2)
    P = LinearPreconditioner.ridge(physics, x, stepsize=1.0, regularization=1e-6)
    seen, pixels = P.basis.coordinates(physics.A_adjoint_A(x)).double(), x.flatten(1).double()
    predictor = torch.linalg.solve(
        seen.T @ seen + 5e-3 * torch.eye(2, dtype=torch.float64), seen.T @ pixels
    ).T
    assert relative(P.matrix.detach().double(), predictor) < 1e-5


PLANE_TASKS = {
    "MRI": complex_mri,
    "real MRI": lambda: mri((1, 12, 10), acceleration=2),
    "super-resolution": lambda: super_resolution((3, 12, 10), factor=3),
    "single pixel": lambda: single_pixel((2, 8, 16), ratio=0.3, ordering="zig_zag"),
    "deepinv's MRI": FOREIGN["deepinv's MRI"],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PLANE_TASKS)
def test_ridge_on_planes_is_least_squares_over_channels(name, form):
    """Every channel a sample: target the channel, seen the same channel of H^T H x."""
    physics = PLANE_TASKS[name]()
    size = size_of(physics)
    x = images(90, *size)
    P = LinearPreconditioner.ridge(
        physics, x, stepsize=0.4, regularization=1e-2, form=form, planes=True
    )
    n, samples = size[1] * size[2], len(x) * size[0]
    assert P.basis.img_size == (1, *size[1:]) and P.matrix.shape[0] == n
    seen = physics.A_adjoint_A(x).reshape(samples, n).double().numpy()
    stacked = np.concatenate([seen, np.sqrt(1e-2 * samples) * np.eye(n)])
    targets = np.concatenate([x.reshape(samples, n).double().numpy(), np.zeros((n, n))])
    predictor = torch.from_numpy(np.linalg.lstsq(stacked, targets, rcond=None)[0].T)
    assert relative(0.4 * P.dense().double(), predictor) < 1e-4


def test_ridge_at_the_size_of_the_super_resolution_task():
    """110 x 110: the normal equations hold, and on images it was fitted on one step beats the
    adjoint.
    """
    physics, x = super_resolution((1, 110, 110), factor=4), smooth_images(12, size=110)
    P = LinearPreconditioner.ridge(physics, x, stepsize=2.0, regularization=1e-3, planes=True)
    assert tuple(P.matrix.shape) == (12_100, 784)
    seen, B = P.basis.coordinates(physics.A_adjoint_A(x)).double(), 2 * P.matrix.detach().double()
    left, right = (B @ seen.T) @ seen + 1e-3 * len(x) * B, x.flatten(1).double().T @ seen
    assert relative(left, right) < 1e-5
    predicted = 2.0 * P(physics.A_adjoint_A(x), x, 1)
    assert ((predicted - x) ** 2).sum() < 0.1 * ((physics.A_adjoint_A(x) - x) ** 2).sum()


def test_ridge_with_a_complement_differs_only_outside():
    plain, other = (
        LinearPreconditioner.ridge(student(), smooth_images(20), stepsize=0.4, complement=c)
        for c in (0.0, 1.0)
    )
    assert torch.equal(plain.matrix, other.matrix)
    dense = LinearPreconditioner.ridge(
        student(), smooth_images(20), stepsize=0.4, complement=1.0, form="dense"
    )
    assert (
        relative(dense.dense(), other.dense()) < 1e-6
        and relative(plain.dense(), other.dense()) > 0.1
    )


# --- operators alone: the Hessian -----------------------------------------------------------------


@pytest.mark.parametrize("weight", [1.0, 1e-2])
@pytest.mark.parametrize("name", OPERATORS)
def test_hessian_is_the_dense_solve(name, weight):
    physics = OPERATORS[name]()
    size = size_of(physics)
    gram = linalg.dense(physics.A_adjoint_A, size).double()
    gradient = physics.A_adjoint(physics.A(images(3, *size)))
    system = gram + weight * torch.eye(len(gram), dtype=torch.float64)
    expected = torch.linalg.solve(system, gradient.double().flatten(1).T).T.reshape(gradient.shape)
    assert (
        relative(Hessian(physics, regularization=weight)(gradient, gradient, 1).double(), expected)
        < 1e-4
    )
    scalar = gradient / (1 + weight)
    if name in ("complete", "MRI", "inpainting", "cake_cutting"):
        assert relative(expected, scalar.double()) < 1e-5, "on a projector it is a stepsize"


@pytest.mark.parametrize("weight", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_hessian_by_conjugate_gradients_at_any_scale(weight, scale):
    """Also for gradients so small that deepinv's guard against division by zero would stop the
    iteration.
    """
    physics = general()
    gram = linalg.dense(physics.A_adjoint_A, SHAPE).double()
    gradient = scale * physics.A_adjoint(physics.A(images(3, *SHAPE)))
    gradient[1] *= 1e-3
    system = gram + weight * torch.eye(64, dtype=torch.float64)
    expected = torch.linalg.solve(system, gradient.double().flatten(1).T).T.reshape(gradient.shape)
    direction = Hessian(physics, SHAPE, regularization=weight)(gradient, gradient, 1).double()
    for got, want in zip(direction, expected, strict=True):
        assert relative(got, want) < 1e-3 * max(1, 1e-3 / weight)
    nothing = torch.zeros(1, *SHAPE)
    assert torch.equal(Hessian(physics, SHAPE, regularization=weight)(nothing, nothing, 1), nothing)


def test_hessian_at_the_size_of_the_super_resolution_task():
    physics = super_resolution((1, 110, 110), factor=4)
    gradient = physics.A_adjoint(physics.A(images(2, 1, 110, 110)))
    direction = Hessian(physics, regularization=1e-2)(gradient, gradient, 1)
    assert relative(physics.A_adjoint_A(direction) + 1e-2 * direction, gradient) < 1e-5


def test_hessian_solves_a_quadratic_in_one_step():
    matrix = torch.randn(6, 4, generator=rng(0), dtype=torch.float64)
    physics, x = matrix_physics(matrix, (1, 2, 2)), images(3, 1, 2, 2, dtype=torch.float64)
    P = Hessian(physics, (1, 2, 2), regularization=1e-8)
    result = solver(1, identity_denoiser, start="zero")(
        physics.A(x), physics, preconditioner=P, stepsize=1.0
    )
    assert relative(result.x, x) < 1e-5


# --- operators alone: polynomials -----------------------------------------------------------------


def residual(P: Polynomial, s):
    """1 - s p(s)."""
    return 1 - s * np.polynomial.polynomial.polyval(s, np.array(P.coefficients))


def power_sum(gram: torch.Tensor, coefficients) -> torch.Tensor:
    """c_0 I + c_1 G + c_2 G^2 + ..., a matrix."""
    return sum(c * torch.linalg.matrix_power(gram, j) for j, c in enumerate(coefficients))


@pytest.mark.parametrize("name", OPERATORS)
def test_polynomial_is_the_dense_polynomial(name):
    physics = OPERATORS[name]()
    size = size_of(physics)
    gram = linalg.dense(physics.A_adjoint_A, size).double()
    gradient = images(3, *size)
    for P in (
        Polynomial(physics, (0.5, -1.0, 2.0, 0.25)),
        Polynomial(physics, [3]),
        Polynomial.l2(physics, 3),
    ):
        expected = (gradient.double().flatten(1) @ power_sum(gram, P.coefficients)).reshape(
            gradient.shape
        )
        assert relative(P(gradient, gradient, 1).double(), expected) < 1e-4


@pytest.mark.parametrize("name", ["cake_cutting", "MRI", "inpainting"])
def test_on_a_projector_a_polynomial_is_a_stepsize(name):
    physics = OPERATORS[name]()
    gradient = physics.A_adjoint(physics.A(images(2, *size_of(physics))))
    for P in (Polynomial.chebyshev(physics), Polynomial.l2(physics)):
        assert relative(P(gradient, gradient, 1), sum(P.coefficients) * gradient) < 1e-4


@pytest.mark.parametrize("interval", [(1 / 30, 1.0), (0.1, 0.9), (0.01, 40.0)])
@pytest.mark.parametrize("degree", [0, 1, 2, 4, 6])
def test_chebyshev_is_optimal_in_the_sup_norm(degree, interval):
    """No polynomial found by a linear program on a grid of the interval has a smaller largest
    residual.
    """
    P = Polynomial.chebyshev(student(), degree, interval)
    low, high = interval
    s = (low + high - (high - low) * np.cos(np.linspace(0, np.pi, 40 * (degree + 1) + 1))) / 2
    own = np.abs(residual(P, s)).max()
    powers = (
        np.polynomial.chebyshev.chebvander((2 * s - low - high) / (high - low), degree) * s[:, None]
    )
    sides = np.concatenate([powers, -powers]), np.concatenate([np.ones(len(s)), -np.ones(len(s))])
    best = linprog(
        [*np.zeros(degree + 1), 1],
        np.c_[sides[0], -np.ones(2 * len(s))],
        sides[1],
        bounds=(None, None),
    )
    assert best.status == 0 and own == pytest.approx(best.fun, rel=1e-6, abs=1e-7)
    assert own == pytest.approx(
        1 / np.cosh((degree + 1) * np.arccosh((high + low) / (high - low))), rel=1e-6
    )


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.2, 0.3), (0.0, 0.149)])
@pytest.mark.parametrize("degree", [0, 1, 2, 4])
def test_l2_solves_the_least_squares_problem(degree, interval):
    """The normal equations of the integral, in closed form; and no small change of a
    coefficient lowers the integral.
    """
    low, high = interval
    P = Polynomial.l2(student(), degree, interval)
    power = np.arange(degree + 1)
    total = power[:, None] + power + 3
    gram = (high**total - low**total) / total
    right = (high ** (power + 2) - low ** (power + 2)) / (power + 2)
    assert np.allclose(gram @ np.array(P.coefficients), right, rtol=1e-9, atol=0)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    s = (low + high + (high - low) * nodes) / 2
    integral = weights @ residual(P, s) ** 2
    for j in range(degree + 1):
        for factor in (0.99, 1.01):
            changed = [c * (factor if i == j else 1) for i, c in enumerate(P.coefficients)]
            assert weights @ residual(Polynomial(student(), changed), s) ** 2 > integral


def test_degree_zero_is_the_known_stepsize():
    """2 / (l + L) in the sup norm, 3 / (2 L) in l2 from zero."""
    assert Polynomial.chebyshev(student(), 0, (0.1, 0.7)).coefficients == pytest.approx((2 / 0.8,))
    assert Polynomial.l2(student(), 0, (0.0, 0.7)).coefficients == pytest.approx((3 / 1.4,))


@pytest.mark.parametrize("name", ["cake_cutting", "real MRI", "super-resolution", "downsampling"])
def test_default_intervals_end_at_the_squared_norm(name):
    """And contain what makes a step of size 1 stable: |1 - s p(s)| <= 1 on the whole spectrum,
    the null space included.
    """
    physics = OPERATORS[name]()
    top = (
        torch.linalg.eigvalsh(linalg.dense(physics.A_adjoint_A, size_of(physics)).double())
        .max()
        .item()
    )
    defaults = (Polynomial.chebyshev(physics), (top / 30, top)), (Polynomial.l2(physics), (0, top))
    for (P, interval), maker in zip(defaults, (Polynomial.chebyshev, Polynomial.l2), strict=True):
        assert P.coefficients == pytest.approx(maker(physics, 4, interval).coefficients, rel=1e-3)
        assert np.abs(residual(P, np.linspace(0, top, 500))).max() <= 1 + 1e-9


def test_a_polynomial_step_beats_as_many_plain_steps():
    """Five applications of the Gram: the worst error left of one Chebyshev step against five
    steps of 1 / L.
    """
    physics = general(torch.linspace(0.2, 1.0, 64))
    x = images(3, *SHAPE)
    y = physics.A(x)
    once = solver(1, identity_denoiser, start="zero", momentum="none")
    P = Polynomial.chebyshev(physics, interval=(0.04, 1.0))
    step = once(y, physics, preconditioner=P, stepsize=1.0).x
    plain = solver(5, identity_denoiser, start="zero", momentum="none")(y, physics, stepsize=1.0).x
    bound = abs(residual(P, 0.04))
    assert relative(step, x) < 1.01 * bound and relative(step, x) < 0.7 * relative(plain, x)


# --- one set of parameters an iteration -----------------------------------------------------------

BEGINNINGS = FITTED_STEPS | {
    "convolutional, 1 x 1": lambda *_: ConvolutionalSteps(3, size=1),
    "fourier, of other images": lambda *_: FourierSteps(3, (1, 5, 6)),
    "fourier, one radial": lambda *_: FourierSteps(1, radial=True),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_steps_start_as_plain_fista(name):
    physics = student()
    y = physics.A(images(2, *SHAPE))
    plain = solver(5)(y, physics, stepsize=0.4, iterates=True).iterates
    P = BEGINNINGS[name](physics, SHAPE, 3)
    found = solver(5)(y, physics, preconditioner=P, stepsize=0.4, iterates=True).iterates
    assert relative(found, plain) < 1e-5


@pytest.mark.parametrize("name", PER_ITERATION)
def test_iterations_beyond_k_use_the_last_parameters(name):
    P, gradient = PER_ITERATION[name](), images(2, *SHAPE)
    last = P(gradient, gradient, 3)
    assert all(torch.equal(P(gradient, gradient, k), last) for k in (4, 5, 1000))
    P(gradient, gradient, 1000).sum().backward()
    assert P.steps.grad[2].norm() > 0 and P.steps.grad[:2].norm() == 0
    refuses(lambda: P(gradient, gradient, 0), "k", "0", "[1,")


def test_scalar_steps_are_stepsizes():
    physics, P = student(), ScalarSteps(4)
    y = physics.A(images(2, *SHAPE))
    P.steps.data = torch.tensor([1.5, 0.5, 2.0, 0.1])
    x = solver(4, start="zero", momentum="none")(y, physics, preconditioner=P, stepsize=0.4).x
    one, expected = solver(1), torch.zeros(2, *SHAPE)
    for p in (1.5, 0.5, 2.0, 0.1):
        expected = one.prior.step(expected, data_gradient(physics, y, expected), 0.4 * p)
    assert relative(x, expected) < 1e-6


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_convolutional_steps_are_periodic_correlations(size):
    """Against the Fourier transform: kernel k, centred at pixel (0, 0), times the spectrum,
    conjugated.
    """
    P, gradient = (
        shaken(ConvolutionalSteps(2, size=size)),
        torch.randn(2, 3, 9, 12, generator=rng(3)),
    )
    embedded = torch.zeros(9, 12)
    embedded[:size, :size] = P.steps[1].detach()
    embedded = embedded.roll((-(size // 2), -(size // 2)), (0, 1))
    expected = torch.fft.ifft2(torch.fft.fft2(gradient) * torch.fft.fft2(embedded).conj()).real
    assert relative(P(gradient, gradient, 2), expected) < 1e-5


def test_pointwise_steps_are_diagonal_matrices():
    P, gradient = shaken(PointwiseSteps(2, (2, 4, 4))), images(3, 2, 4, 4)
    expected = gradient.flatten(1) @ torch.diag(P.steps[1].flatten())
    assert relative(P(gradient, gradient, 2), expected.reshape(gradient.shape)) < 1e-6


def test_linear_steps_hold_all_the_others():
    """Matrices of the scalar, convolutional and pointwise steps make the same directions."""
    others = (
        shaken(ScalarSteps(2)),
        shaken(ConvolutionalSteps(2)),
        shaken(PointwiseSteps(2, SHAPE)),
    )
    gradient = images(2, *SHAPE)
    for other in others:
        full = LinearSteps.identity(student(), 2, form="dense")
        for k in (1, 2):
            full.steps.data[k - 1] = linalg.dense(
                lambda x, k=k, other=other: other(x, x, k), SHAPE
            ).detach()
            assert relative(full(gradient, gradient, k), other(gradient, gradient, k)) < 1e-5


@pytest.mark.parametrize("name", LINEAR | COMPLEMENT)
def test_linear_steps_start_from_a_linear_preconditioner(name):
    start = LEARNED[name]()
    P, gradient = LinearSteps(4, start), images(2, *SHAPE)
    for k in (1, 4, 9):
        assert relative(P(gradient, gradient, k), start(gradient, gradient, k)) < 1e-6
        assert relative(P.dense(k), start.dense()) < 1e-6
    P.double(), P.steps.data.zero_()
    assert (
        start(gradient, gradient, 1).norm() > 0
        and start(gradient, gradient, 1).dtype == torch.float32
    ), "its own copy"


# --- reductions -----------------------------------------------------------------------------------


def test_exact_inverse_solves_an_invertible_system_in_one_step():
    matrix = torch.randn(6, 4, generator=rng(0), dtype=torch.float64)
    physics, x = matrix_physics(matrix, (1, 2, 2)), images(3, 1, 2, 2, dtype=torch.float64)
    P = LinearPreconditioner(torch.linalg.inv(matrix.T @ matrix), PixelBasis((1, 2, 2)))
    result = solver(1, identity_denoiser, start="zero")(
        physics.A(x), physics, preconditioner=P, stepsize=1.0
    )
    assert relative(result.x, x) < 1e-12


# --- doors ----------------------------------------------------------------------------------------


def test_refuses():
    physics, x = student(), images(3, *SHAPE)
    refuses(
        lambda: LinearPreconditioner.identity(physics, form="lowrank"),
        "form",
        "'lowrank'",
        "did you mean low_rank",
    )
    refuses(
        lambda: LinearPreconditioner(torch.eye(3), PixelBasis(SHAPE)),
        "matrix.shape",
        "(3, 3)",
        "(64, 64)",
    )
    refuses(
        lambda: LinearPreconditioner(torch.eye(64), MatrixBasis(SHAPE, torch.eye(64)[:5])),
        "(64, 64)",
        "(64, 5)",
    )
    refuses(lambda: LinearPreconditioner.ridge(physics, x, stepsize=0), "stepsize", "0")
    refuses(
        lambda: LinearPreconditioner.ridge(physics, x, stepsize=0.4, regularization=0),
        "regularization",
        "0",
    )
    refuses(
        lambda: LinearPreconditioner.ridge(physics, x, stepsize=0.4, regularization=float("nan")),
        "regularization",
        "nan",
    )
    refuses(
        lambda: LinearPreconditioner.ridge(physics, x * float("nan"), stepsize=0.4),
        "images",
        "finite",
    )
    refuses(lambda: LinearPreconditioner.ridge(physics, [1], stepsize=0.4), "images", "list")
    refuses(
        lambda: LinearPreconditioner(torch.eye(64), PixelBasis(SHAPE), -1.0), "complement", "-1.0"
    )
    refuses(
        lambda: LinearPreconditioner.ridge(physics, x, stepsize=0.4, form="full"),
        "form",
        "'full'",
        "dense",
    )
    nameless = deepinv.physics.LinearPhysics(A=lambda x, **_: x, A_adjoint=lambda y, **_: y)
    for form in FORMS:
        refuses(
            lambda form=form: LinearPreconditioner.identity(nameless, form=form),
            "img_size",
            "(C, H, W)",
        )
        assert LinearPreconditioner.identity(downsampling(8), form=form).basis.img_size == SHAPE


def test_fixed_and_per_iteration_refuse():
    physics = student()
    nameless = deepinv.physics.LinearPhysics(A=lambda x, **_: x, A_adjoint=lambda y, **_: y)
    refuses(lambda: Hessian(physics, regularization=0), "regularization", "0")
    refuses(lambda: Hessian(physics, regularization=1.0, tol=0), "tol", "0")
    refuses(lambda: Hessian(physics, regularization=1.0, max_iter=0), "max_iter", "0")
    for make in (lambda: Hessian(nameless, regularization=1.0), lambda: Polynomial.l2(nameless)):
        refuses(make, "img_size", "(C, H, W)")
    assert Polynomial.l2(nameless, img_size=SHAPE).coefficients == pytest.approx(
        Polynomial.l2(physics).coefficients, rel=1e-5
    )
    refuses(lambda: Polynomial(physics, ()), "coefficients")
    refuses(lambda: Polynomial(physics, (1.0, float("nan"))), "coefficients", "nan")
    for maker in (Polynomial.chebyshev, Polynomial.l2):
        refuses(lambda maker=maker: maker(physics, 9), "degree", "9", "[0, 8]")
        refuses(lambda maker=maker: maker(physics, 4, (0.5, 0.5)), "interval L", "0.5")
        refuses(lambda maker=maker: maker(physics, 4, (-0.5, 0.5)), "interval l", "-0.5")
        refuses(lambda maker=maker: maker(physics, 4, (1.0,)), "interval", "(l, L)")
    refuses(lambda: Polynomial.chebyshev(physics, 4, (0.0, 0.5)), "interval", "0 < l < L")
    for make in (
        ScalarSteps,
        ConvolutionalSteps,
        lambda k: PointwiseSteps(k, SHAPE),
        lambda k: FourierSteps(k, SHAPE),
        lambda k: LinearSteps.identity(physics, k),
    ):
        refuses(lambda make=make: make(0), "iterations", "0")
    refuses(lambda: ConvolutionalSteps(2, size=4), "size", "4", "odd")
    refuses(lambda: PointwiseSteps(2, (8, 8)), "img_size", "(8, 8)")
    refuses(lambda: LinearSteps(2, dipa.Identity()), "start", "Identity", "LinearPreconditioner")


@pytest.mark.parametrize(
    "make", [lambda: perturbed(student(), "dense"), lambda: PointwiseSteps(2, SHAPE)]
)
def test_images_of_another_size_are_refused(make):
    """Also of the same number of pixels: planes must not be mixed."""
    P = make()
    for shape in ((2, 1, 4, 16), (4, 1, 4, 4), (2, 8, 8)):
        refuses(
            lambda shape=shape: P(images(*shape), images(*shape), 1),
            "gradient.shape",
            str(shape),
            "(B, C, 8, 8)",
        )
    colour = PointwiseSteps(2, (3, 8, 8))
    refuses(
        lambda: colour(images(3, 2, 8, 8), images(3, 2, 8, 8), 1), "gradient.shape", "(B, 3, 8, 8)"
    )
    H = Hessian(student(), regularization=1.0)
    refuses(lambda: H(images(2, 1, 4, 4), images(2, 1, 4, 4), 1), "gradient.shape", "(1, 8, 8)")


def test_fixed_preconditioners_copy_their_operator():
    physics, x = student(), images(2, *SHAPE)
    y = physics.A(x)
    for P in (Hessian(physics, regularization=0.1), Polynomial.l2(physics)):
        before = P(x, x, 1)
        P.double()
        assert torch.equal(physics.A(x), y)
        assert relative(P(x.double(), x, 1), before.double()) < 1e-5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OPERATORS)
def test_identity_of_a_float64_operator_is_float64(name, form):
    physics = OPERATORS[name]().double()
    P = LinearPreconditioner.identity(physics, form=form)
    x = images(2, *size_of(physics), dtype=torch.float64)
    gradient = physics.A_adjoint(physics.A(x))
    assert P.matrix.dtype == P.dense().dtype == torch.float64
    assert relative(P(gradient, x, 1), gradient) < 1e-5


@pytest.mark.parametrize("name", LINEAR | COMPLEMENT)
def test_converting_to_float64_converts_all_of_it(name, tmp_path):
    P = MEMBERS[name]()
    gradient, before = images(2, *SHAPE), P.dense()
    single = P(gradient, gradient, 1)
    P.double()
    assert relative(P.dense(), before.double()) < 1e-6
    for double in (P, dipa.load(dipa.save(P, tmp_path / "p.safetensors"))[0]):
        assert relative(double(gradient.double(), gradient, 1), single.double()) < 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_ridge_in_float64(form):
    P = LinearPreconditioner.ridge(
        student().double(), smooth_images(20).double(), stepsize=0.4, form=form
    )
    single = LinearPreconditioner.ridge(student(), smooth_images(20), stepsize=0.4, form=form)
    assert P.matrix.dtype == torch.float64 and relative(P.dense(), single.dense().double()) < 1e-3


def test_a_preconditioner_leaves_its_operator_alone():
    physics, x = student(), images(2, *SHAPE)
    y = physics.A(x)
    LinearPreconditioner.identity(physics).double()
    assert torch.equal(physics.A(x), y)


def test_the_matrix_given_is_copied():
    matrix = torch.eye(64)
    P = LinearPreconditioner(matrix, PixelBasis(SHAPE))
    P.matrix.data.zero_()
    assert torch.equal(matrix, torch.eye(64))


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LEARNED)
def test_save_and_load_round_trip(name, dtype, tmp_path):
    P = LEARNED[name]().to(dtype)
    path = dipa.save(P, tmp_path / "p.safetensors")
    again, record = dipa.load(path)
    assert (
        record == {}
        and type(again) is type(P)
        and again.traits == P.traits
        and again.header() == P.header()
    )
    assert {p.dtype for p in again.parameters()} == {dtype}
    assert again.parameter_count == P.parameter_count
    assert again.state_dict().keys() == P.state_dict().keys()
    assert all(torch.equal(again.state_dict()[key], value) for key, value in P.state_dict().items())
    gradient = images(2, *SHAPE, dtype=dtype)
    for k in (1, 2, 7):
        assert relative(again(gradient, gradient, k), P(gradient, gradient, k)) < 1e-6
    dipa.save(again, tmp_path / "q.safetensors")
    assert (tmp_path / "q.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", PLANES)
def test_planes_survive_a_file(name, tmp_path):
    P, gradient = PLANES[name](), images(2, 2, 12, 10)
    again = dipa.load(dipa.save(P, tmp_path / "p.safetensors"))[0]
    assert relative(again(gradient, gradient, 2), P(gradient, gradient, 2)) < 1e-6


def test_the_format_of_linear_files_stays(tmp_path):
    """What earlier versions wrote loads, and at the defaults the same bytes are written today."""
    P = perturbed(student(), "low_rank")
    header = {"kind": "linear", "basis": "hadamard", "img_size": [1, 8, 8], "made_by": {"seed": 1}}
    old = dipa.storage.write_tensors(
        tmp_path / "old.safetensors", {"matrix": P.matrix, "basis.index": P.basis.index}, header
    )
    again, record = dipa.load(old)
    assert record == {"seed": 1} and torch.equal(again.matrix, P.matrix) and again.complement == 0
    assert dipa.save(P, tmp_path / "new.safetensors", {"seed": 1}) and again.matrix.requires_grad
    assert (tmp_path / "new.safetensors").read_bytes() == old.read_bytes()


@pytest.mark.parametrize("name", FIXED)
def test_fixed_preconditioners_are_not_saved(name, tmp_path):
    P = FIXED[name]()
    refuses(
        lambda: dipa.save(P, tmp_path / "p.safetensors"),
        "trained",
        type(P).__name__,
        "linear",
        "again from its operator",
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", LEARNED)
def test_damaged_files_are_refused_by_name(name, tmp_path):
    """Tensors that are missing, too many or of another shape, and headers that lack or garble
    what the kind needs.
    """
    P, path = LEARNED[name](), tmp_path / "damaged.safetensors"
    tensors, header = P.state_dict(), {"kind": P.kind, **P.header(), "made_by": {}}
    *_, weights = (key for key, _ in P.named_parameters())
    damaged = [
        ({}, header),
        (tensors | {weights: tensors[weights][..., :2]}, header),
        (tensors | {weights: torch.rand(())}, header),
    ]
    damaged += [
        (tensors, {k: v for k, v in header.items() if k != key})
        for key in P.header()
        if key not in ("complement", "size")
    ]
    damaged += [(tensors, header | {key: "nonsense"}) for key in P.header()]
    for wrong_tensors, wrong_header in damaged:
        dipa.storage.write_tensors(path, wrong_tensors, wrong_header)
        refuses(lambda: dipa.load(path), "damaged.safetensors", P.kind)


def test_null_weight_scales_only_what_leaves_the_range():
    physics, x = (
        single_pixel((1, 8, 8), ratio=0.3),
        torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(3)),
    )
    whole, half, none = (
        LinearPreconditioner.ridge(physics, x, stepsize=0.4, null_weight=w).dense()
        for w in (1.0, 0.5, 0.0)
    )
    projector = physics.A_adjoint_A(torch.eye(64).reshape(64, 1, 8, 8)).reshape(64, 64)
    assert torch.allclose(projector @ half, projector @ whole, atol=1e-5)
    assert torch.allclose(half - projector @ half, 0.5 * (whole - projector @ whole), atol=1e-5)
    assert torch.allclose(none, projector @ none, atol=1e-5)
    refuses(
        lambda: LinearPreconditioner.ridge(physics, x, stepsize=0.4, null_weight=1.5),
        "null_weight",
        "1.5",
    )
