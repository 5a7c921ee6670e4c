import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import deepinv
import pytest
import scipy.optimize
import torch
from batteries import (
    Bare,
    Counting,
    downsampling,
    identity_denoiser,
    images,
    inpainting,
    matrix_physics,
    refuses,
    relative,
    rng,
    size_of,
    solver,
    tiny_denoiser,
)
from members import OPERATORS, SINGLE_PIXEL

import dipa
from dipa import metrics
from dipa.operators import single_pixel
from dipa.solvers import (
    MOMENTA,
    STARTS,
    Armijo,
    Learned,
    State,
    Stop,
    data_gradient,
    lipschitz,
    loop,
)
from dipa.solvers.proximal import chambolle_dossal
from dipa.solvers.proximal import deepinv as deepinv_momentum

SHAPE = (1, 8, 8)


def student(channels: int = 1):
    return single_pixel((channels, 8, 8), ratio=0.3)


def betas(name: str, count: int) -> list[float]:
    return list(itertools.islice(MOMENTA[name](), count))


def well_conditioned(dtype=torch.float64):
    """A 6 x 4 matrix with singular values 1, 2, 3, 4 as an operator on 2 x 2 images."""
    u, v = (
        torch.linalg.qr(torch.randn(n, 4, generator=rng(n), dtype=torch.float64))[0] for n in (6, 4)
    )
    return (u * torch.arange(1.0, 5.0) @ v.T).to(dtype)


# --- momentum -------------------------------------------------------------------------------------


def test_momentum_none():
    assert betas("none", 5) == [0.0] * 5


def test_momentum_nesterov():
    """(t_{k-1} - 1) / t_k with t = 1, 1.618034, 2.193527, 2.749791: the positive roots of t^2 -
    t = t_previous^2.
    """
    assert betas("nesterov", 3) == pytest.approx(
        [0, 0.618034 / 2.193527, 1.193527 / 2.749791], abs=1e-6
    )
    t = 1.0
    for beta in betas("nesterov", 50):
        t_next = (t - 1) / beta if beta else (1 + math.sqrt(5)) / 2
        assert t_next**2 - t_next == pytest.approx(t**2)
        t = t_next
    assert betas("nesterov", 1000)[-1] == pytest.approx(1 - 3 / 1000, abs=1e-4)


def test_momentum_chambolle_dossal():
    assert betas("chambolle_dossal", 4) == pytest.approx([0, 1 / 5, 2 / 6, 3 / 7])
    assert list(itertools.islice(chambolle_dossal(a=2.5), 3)) == pytest.approx(
        [0, 1 / 4.5, 2 / 5.5]
    )


def test_momentum_deepinv():
    assert betas("deepinv", 4) == pytest.approx([2 / 3, 3 / 4, 4 / 5, 5 / 6])
    assert list(itertools.islice(deepinv_momentum(a=4), 2)) == pytest.approx([3 / 4, 4 / 5])


@pytest.mark.parametrize("name", MOMENTA)
def test_momentum_stays_in_zero_one(name):
    assert all(0 <= beta < 1 for beta in betas(name, 300))


# --- the iteration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [*SINGLE_PIXEL.values(), downsampling], ids=[*SINGLE_PIXEL, "downsampling"]
)
def test_equals_deepinv_fista_iterate_by_iterate(make):
    physics, denoiser, sigma = make(), tiny_denoiser(), 2 / 255
    y = physics.A(images(2, *size_of(physics)))
    y = y + 0.05 * torch.randn(y.shape, generator=rng(1)) * getattr(physics, "mask", 1.0)
    ours = dipa.FISTA(
        prior=dipa.PnP(denoiser, sigma), iterations=6, momentum="deepinv", start="adjoint"
    )
    prior = deepinv.optim.PnP(
        denoiser=lambda x, sigma: denoiser(x.reshape(-1, 1, *x.shape[-2:]), sigma).reshape(x.shape)
    )
    iterates = ours(y, physics, stepsize=0.4, iterates=True).iterates
    for k in range(1, 7):
        theirs = deepinv.optim.FISTA(
            data_fidelity=deepinv.optim.L2(),
            prior=prior,
            stepsize=0.4,
            sigma_denoiser=sigma,
            max_iter=k,
            early_stop=False,
        )
        assert relative(iterates[k], theirs(y, physics)) < 1e-5, k
    assert relative(iterates[6], iterates[0]) > 1e-3, "the iteration moves"


@pytest.mark.parametrize("momentum", MOMENTA)
def test_the_printed_algorithm(momentum):
    """x^k = D(z^k - a P(H^T(H z^k - y))), z^{k+1} = x^k + beta_k (x^k - x^{k-1}), written out
    with matrices.
    """
    matrix, denoiser = well_conditioned(), tiny_denoiser().double()
    physics, x_true = matrix_physics(matrix, (1, 2, 2)), images(2, 1, 2, 2, dtype=torch.float64)
    P = 0.1 * torch.randn(4, 4, generator=rng(3), dtype=torch.float64) + torch.eye(
        4, dtype=torch.float64
    )
    y, sequence = physics.A(x_true), betas(momentum, 5)
    x = z = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    expected = [x]
    for beta in sequence:
        gradient = (matrix.T @ (matrix @ z.reshape(2, 4, 1) - y.reshape(2, 6, 1))).reshape(2, 4)
        previous, x = x, denoiser(z - 0.03 * (gradient @ P.T).reshape(z.shape))
        z = x + beta * (x - previous)
        expected.append(x)
    result = solver(5, denoiser, momentum=momentum, start="zero")(
        y,
        physics,
        preconditioner=lambda g, _z, _k: (g.flatten(1) @ P.T).reshape(g.shape),
        stepsize=0.03,
        iterates=True,
    )
    assert relative(result.iterates, torch.stack(expected)) < 1e-12


def test_without_momentum_it_is_ista():
    physics, denoiser = student(), tiny_denoiser()
    y = physics.A(images(2, *SHAPE))
    x = physics.A_adjoint(y)
    for _ in range(5):
        x = denoiser(x - 0.7 * physics.A_adjoint(physics.A(x) - y))
    assert relative(solver(5, denoiser, momentum="none")(y, physics, stepsize=0.7).x, x) < 1e-5


@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("decay", [0.5, 1, 2.0])
def test_the_prior_acts_less_in_every_iteration(momentum, decay):
    """x^k = v + k^-p (D(v) - v), written out; RED's with its weight over k^p."""
    physics, denoiser = student(), tiny_denoiser()
    y = physics.A(images(2, *SHAPE))
    for weight in (None, 0.7):
        x = z = torch.zeros(2, *SHAPE)
        for k, beta in enumerate(betas(momentum, 5), start=1):
            gradient, share = physics.A_adjoint(physics.A(z) - y), k**-decay
            v = z - 0.7 * gradient
            denoised = (
                v + share * (denoiser(v) - v)
                if weight is None
                else v - 0.7 * weight * share * (z - denoiser(z))
            )
            previous, x = x, denoised
            z = x + beta * (x - previous)
        prior = dipa.PnP(denoiser) if weight is None else dipa.RED(denoiser, weight=weight)
        made = dipa.FISTA(prior, 5, momentum=momentum, start="zero", prior_decay=decay)
        assert relative(made(y, physics, stepsize=0.7).x, x) < 1e-5


def test_with_a_share_that_decays_as_one_over_k_a_prior_chooses_among_what_the_data_allow():
    """Of the images that explain the data the prior ||x||^2 / 2 chooses the smallest one, H^+ y. At
    full strength it gives up the data for it; with a share that sums up to less (p = 2) it comes to
    a halt on the way.
    """
    matrix = torch.linalg.qr(well_conditioned()[:3].T)[0].T  # three orthonormal rows
    physics = matrix_physics(matrix, (1, 2, 2))
    y = physics.A(images(2, 1, 2, 2, dtype=torch.float64))
    wanted = (torch.linalg.pinv(matrix) @ y.reshape(2, -1, 1)).reshape(2, 1, 2, 2)
    far = wanted + 1
    prior = dipa.Prox(deepinv.optim.prior.Tikhonov(), weight=10.0)

    def error(decay: float, iterations: int) -> float:
        start = lambda y, physics: far  # noqa: E731
        made = dipa.FISTA(prior, iterations, momentum="none", start=start, prior_decay=decay)
        return relative(made(y, physics, stepsize=0.5).x, wanted)

    assert error(1.0, 4000) < 0.001 < 0.02 < error(1.0, 40)
    assert error(0.0, 4000) > 0.9 and error(2.0, 4000) > 0.1


def test_an_armijo_search_sees_the_iterate_that_is_taken():
    """The model lies above g at the iterate itself, of which the prior has its share."""
    physics, prior = student(), dipa.PnP(lambda x, sigma: 0.3 * x)
    y = physics.A(images(2, *SHAPE))
    seen = []
    made = dipa.FISTA(prior, 4, momentum="none", start="adjoint", prior_decay=1.0)
    made(y, physics, stepsize=Armijo(first=50.0), observe=seen.append)
    for state in seen[1:]:
        v = state.z - state.stepsize * state.direction
        taken = v + (0.3 * v - v) / state.k
        assert relative(state.x, taken) < 1e-6
        moved = state.x - state.z
        curved = physics.A(moved).flatten(1).square().sum(1)
        assert (state.stepsize.flatten() * curved <= 1.001 * moved.flatten(1).square().sum(1)).all()


@pytest.mark.parametrize("momentum", MOMENTA)
def test_the_preconditioner_gets_gradient_iterate_and_k(momentum):
    physics = student()
    y = physics.A(images(2, *SHAPE))
    seen = []

    def spy(gradient, iterate, k):
        seen.append((gradient, iterate, k))
        return gradient

    iterates = solver(5, momentum=momentum)(
        y, physics, preconditioner=spy, stepsize=0.4, iterates=True
    ).iterates
    assert [k for _, _, k in seen] == [1, 2, 3, 4, 5]
    z = iterates[0]
    for (gradient, iterate, k), beta in zip(seen, betas(momentum, 5), strict=True):
        assert relative(iterate, z) < 1e-6
        assert relative(gradient, data_gradient(physics, y, z)) < 1e-4 or gradient.norm() < 1e-4
        z = iterates[k] + beta * (iterates[k] - iterates[k - 1])


def test_data_gradient_is_that_of_half_the_squared_residual():
    matrix = well_conditioned()
    physics = matrix_physics(matrix, (1, 2, 2))
    y = torch.randn(1, 6, generator=rng(0), dtype=torch.float64)
    z = torch.randn(1, 1, 2, 2, generator=rng(1), dtype=torch.float64, requires_grad=True)
    (0.5 * (z.flatten(1) @ matrix.T - y).square().sum()).backward()
    assert relative(data_gradient(physics, y, z.detach()), z.grad) < 1e-12


# --- convergence on a quadratic -------------------------------------------------------------------


@pytest.mark.parametrize("start", ["zero", "adjoint"])
@pytest.mark.parametrize("momentum", MOMENTA)
def test_converges_to_the_least_squares_solution(momentum, start):
    matrix = well_conditioned()
    physics = matrix_physics(matrix, (1, 2, 2))
    y = torch.randn(3, 6, generator=rng(0), dtype=torch.float64)
    best = torch.linalg.lstsq(matrix, y.T).solution.T
    iterates = solver(3000, identity_denoiser, momentum=momentum, start=start)(
        y, physics, stepsize=1 / 16, iterates=True
    ).iterates
    assert relative(iterates[-1].flatten(1), best) < (1e-8 if momentum == "none" else 1e-3)
    cost = ((iterates.flatten(2) @ matrix.T - y) ** 2).sum((1, 2))
    if momentum == "none":
        assert (cost.diff() <= 1e-12 * cost[0]).all(), "the objective never rises at stepsize 1/L"
    else:
        floor = ((best @ matrix.T - y) ** 2).sum()
        assert cost[20] - floor < 0.1 * (cost[0] - floor)


def test_nesterov_keeps_its_bound():
    """Beck and Teboulle, Theorem 4.4: F(x^k) - F* <= 2 L |x^0 - x*|^2 / (k + 1)^2, here on an
    ill-conditioned quadratic.
    """
    matrix = torch.diag(torch.logspace(-3, 0, 16, dtype=torch.float64))
    physics, y = matrix_physics(matrix, (1, 4, 4)), torch.ones(1, 16, dtype=torch.float64)
    iterates = solver(200, identity_denoiser, momentum="nesterov", start="zero")(
        y, physics, stepsize=1.0, iterates=True
    ).iterates
    cost = 0.5 * ((iterates.flatten(2) @ matrix.T - y) ** 2).sum((1, 2))
    distance = (1 / torch.diagonal(matrix)).square().sum()
    k = torch.arange(1, 201, dtype=torch.float64)
    assert (cost[1:] <= 2 * distance / (k + 1) ** 2).all()


def test_stepsize_rule_one_over_l():
    matrix = well_conditioned(torch.float32)
    physics = matrix_physics(matrix, (1, 2, 2))
    assert lipschitz(physics, (1, 2, 2)) == pytest.approx(16, rel=1e-4)
    assert solver().stepsize("1/L", physics, (1, 2, 2)) == pytest.approx(1 / 16, rel=1e-4)
    assert solver().stepsize("1/L", student(), SHAPE) == 1.0
    assert solver().stepsize(0.4, student(), SHAPE) == 0.4
    y = physics.A(images(2, 1, 2, 2))
    assert relative(solver(3)(y, physics).x, solver(3)(y, physics, stepsize=1 / 16).x) < 1e-4


# --- starts ---------------------------------------------------------------------------------------


def started(start: str, y, physics) -> torch.Tensor:
    return solver(1, start=start)(y, physics, stepsize=0.4, iterates=True).iterates[0]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("name", OPERATORS)
def test_starts_have_the_image_shape(name, start):
    physics = OPERATORS[name]()
    x = images(2, *size_of(physics))
    y = physics.A(x)
    x0 = started(start, y, physics)
    assert x0.shape == x.shape
    if start == "zero":
        assert x0.abs().max() == 0
    if start == "adjoint":
        assert torch.equal(x0, physics.A_adjoint(y))
    if start == "pseudo_inverse":
        assert relative(physics.A(x0), y) < 1e-2, "it explains the measurements"


def test_pseudo_inverse_start_is_the_minimum_norm_solution():
    physics = inpainting()
    y = physics.A(images(2, *SHAPE))
    assert torch.equal(started("pseudo_inverse", y, physics), y)
    camera = student()
    y = camera.A(images(2, *SHAPE))
    assert relative(started("pseudo_inverse", y, camera), camera.A_adjoint(y)) < 1e-6


@pytest.mark.parametrize("make", [downsampling, student, inpainting])
def test_interpolated_start_keeps_constants_where_the_operator_sees_them(make):
    physics = make()
    constant = torch.full((2, *size_of(physics)), 0.7)
    x0 = started("interpolated", physics.A(constant), physics)
    seen = physics.A_adjoint(physics.A(constant)) > 1e-3
    assert seen.any() and torch.allclose(x0[seen], constant[seen], atol=1e-4)
    if make is downsampling:
        assert seen.all()


def test_interpolated_start_by_hand():
    """Pixels measured with gains 2, 1, 0.1 and 0.05 weigh 4, 1, 0.01 and 0.0025; below 0.004
    it is the adjoint over 4.
    """
    physics = matrix_physics(torch.diag(torch.tensor([2.0, 1.0, 0.1, 0.05])), (1, 2, 2))
    y = physics.A(torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 2, 2))
    assert started("interpolated", y, physics).flatten().tolist() == pytest.approx(
        [1, 2, 3, 4 * 0.0025 / 4]
    )


def test_a_start_of_one_s_own_that_fails_is_named():
    physics = downsampling()
    y = physics.A(images(1, 1, 16, 16))

    def too_small(y, physics):
        return torch.zeros(1, 1, 3, 3)

    for start in (too_small, lambda y, physics: y.nothing):
        run = replace(solver(), start=start)
        text = refuses(lambda: run(y, physics), "start: got ")  # noqa: B023
        assert "y: got" not in text


def test_a_prior_of_deepinv_is_told_its_place():
    refuses(lambda: dipa.FISTA(deepinv.optim.L1Prior()), "prior", "dipa.Prox")


@pytest.mark.parametrize("start", ["scaled_adjoint", "pseudo_inverse", "interpolated"])
@pytest.mark.parametrize("units", [1e3, 1e-3, 1e6])
def test_starts_do_not_depend_on_the_units_of_the_operator(start, units):
    matrix = torch.randn(12, 16, generator=rng(4))
    x = images(2, 1, 4, 4)
    one, other = (
        started(start, physics.A(x), physics)
        for physics in (matrix_physics(scale * matrix, (1, 4, 4)) for scale in (1.0, units))
    )
    assert one.isfinite().all() and relative(other, one) < 1e-3


def test_the_pseudo_inverse_is_the_one_of_linear_algebra():
    matrix = torch.randn(12, 16, generator=rng(4))
    physics = matrix_physics(1e4 * matrix, (1, 4, 4))
    y = physics.A(images(2, 1, 4, 4))
    wanted = (torch.linalg.pinv(1e4 * matrix.double()) @ y.double().T).T.reshape(2, 1, 4, 4)
    assert relative(started("pseudo_inverse", y, physics), wanted.float()) < 1e-3


def test_interpolated_start_beats_the_adjoint_for_super_resolution():
    physics = downsampling()
    ramp = torch.linspace(0.2, 0.8, 16).expand(1, 1, 16, 16)
    values = [
        metrics.psnr(started(start, physics.A(ramp), physics), ramp).item()
        for start in ("adjoint", "interpolated")
    ]
    assert values[1] > values[0] + 5


# --- divergence -----------------------------------------------------------------------------------


def test_divergence_is_a_status_with_the_last_bounded_iterate():
    """From zero with D = I, x^1 = a H^T y; at a = 20 the next iterate is past a hundred times an
    image in [0, 1].
    """
    physics, x_true = student(), images(2, *SHAPE)
    y = physics.A(x_true)
    solve = solver(9, identity_denoiser, start="zero", momentum="none")
    result = solve(y, physics, stepsize=20.0, history=True, iterates=True, x_true=x_true)
    assert result.status == "diverged" and result.iterations == 1
    assert "iteration 2" in result.message and "smaller stepsize" in result.message
    assert "exceeds 100" in result.message
    assert relative(result.x, 20.0 * physics.A_adjoint(y)) < 1e-6
    assert [record["k"] for record in result.history] == [0, 1] and len(result.iterates) == 2
    assert solve(y, physics, stepsize=0.5).status == "completed"


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf"), 2e6])
@pytest.mark.parametrize("call", [1, 3])
def test_divergence_of_one_pixel(poison, call):
    calls = []

    def denoiser(x, sigma):
        calls.append(1)
        x = x.clone()
        if len(calls) == call:
            x[1, 0, 2, 3] = poison
        return x

    physics = student()
    y = physics.A(images(2, *SHAPE))
    result = solver(5, denoiser)(y, physics, stepsize=0.4, iterates=True)
    assert (result.status, result.iterations, len(calls)) == ("diverged", call - 1, call)
    assert (
        torch.isfinite(result.x).all()
        and torch.equal(result.x, result.iterates[-1])
        and len(result.iterates) == call
    )


def test_completed_says_so():
    physics = student()
    result = solver(3)(physics.A(images(2, *SHAPE)), physics, stepsize=0.4)
    assert (result.status, result.iterations, result.history, result.iterates) == (
        "completed",
        3,
        [],
        None,
    )
    assert "3 iterations" in result.message


@dataclass(frozen=True)
class FixedPoint:
    """The iteration x^k = T(x^{k-1})."""

    operator: Callable[[torch.Tensor], torch.Tensor]
    start: torch.Tensor

    def init(self):
        return State(0, self.start, self.start)

    def step(self, state):
        return State(state.k + 1, self.operator(state.x), state.x)


def test_the_loop_stands_alone():
    """x^k = x^{k-1} / 2 + 1 converges to 2; the loop knows nothing of imaging."""
    halve = FixedPoint(lambda x: x / 2 + 1, torch.zeros(1, 1))
    result = loop.run(halve, Stop(30), observe=[lambda state: {"k": state.k, "x": state.x.item()}])
    assert result.x.item() == pytest.approx(2) and len(result.history) == 31
    assert result.history[3] == {"k": 3, "x": 1.75} and (result.status, result.iterations) == (
        "completed",
        30,
    )
    stopped = loop.run(FixedPoint(lambda x: x - 3, torch.zeros(1, 1)), Stop(30, bound=10))
    assert (stopped.status, stopped.iterations, stopped.x.item()) == ("diverged", 3, -9)
    assert loop.run(halve, Stop(0)).x.item() == 0


def test_a_tolerance_ends_a_run_when_every_image_has_settled():
    """Of x -> x / 2 + 1 and x -> x / 10 + 9 (limits 2 and 10) the slower decides: it moves by
    2^{1-k} to 2 - 2^{1-k}.
    """
    rates, shifts = torch.tensor([[0.5], [0.1]]), torch.tensor([[1.0], [9.0]])
    both = FixedPoint(lambda x: rates * x + shifts, torch.zeros(2, 1))
    result = loop.run(both, Stop(30, tolerance=1e-3))
    first = next(k for k in range(1, 31) if 2.0 ** (1 - k) <= 1e-3 * (2 - 2.0 ** (1 - k)))
    assert (result.status, result.iterations) == ("converged", first) and "0.001" in result.message
    assert loop.run(both, Stop(first - 1, tolerance=1e-3)).status == "completed"
    stop, start = Stop(5, tolerance=1.0), both.init()
    assert stop(start, stop.limits(start.x)) is None, "a start has not changed yet"


def test_a_solver_with_a_tolerance():
    physics = student()
    y = physics.A(images(2, *SHAPE))
    whole = solver(200, identity_denoiser, momentum="none")(y, physics, stepsize=0.4)
    short = dipa.FISTA(
        dipa.PnP(identity_denoiser), 200, momentum="none", start="zero", tolerance=1e-3
    )
    result = short(y, physics, stepsize=0.4, iterates=True)
    assert result.status == "converged" and 1 < result.iterations < 200
    at = result.iterations
    changes = [
        (result.iterates[k] - result.iterates[k - 1]).flatten(1).norm(dim=1)
        / result.iterates[k].flatten(1).norm(dim=1)
        for k in (at - 1, at)
    ]
    assert changes[1].max() <= 1e-3 < changes[0].max()
    assert (
        whole.status == "completed"
        and short.describe()["tolerance"] == 1e-3
        and "tolerance" not in solver().describe()
    )
    refuses(lambda: short(y, physics, stepsize=0.4, backward=2), "tolerance", "0.001", "backward")


@dataclass(frozen=True)
class ScaledGradientProjection:
    """min |Ax - b|^2 / 2 over x >= 0: a step along the scaled, projected gradient, shortened by
    Armijo's rule.
    """

    matrix: torch.Tensor
    data: torch.Tensor
    scaling: torch.Tensor

    def init(self):
        start = torch.ones(1, self.matrix.shape[1], dtype=self.matrix.dtype)
        return State(0, start, start)

    def value(self, x):
        return 0.5 * (x @ self.matrix.T - self.data).square().sum()

    def step(self, state):
        x = state.x
        gradient = (x @ self.matrix.T - self.data) @ self.matrix
        direction, step = (x - self.scaling * gradient).clamp_min(0) - x, 1.0
        while (
            self.value(x + step * direction)
            > self.value(x) + 1e-4 * step * (gradient * direction).sum()
        ):
            step /= 2
        return State(state.k + 1, x + step * direction, x, x, gradient, -direction, step)


def test_scaled_gradient_projection_fits_the_loop():
    """Non-negative least squares against scipy's active-set method."""
    matrix = torch.randn(12, 6, generator=rng(1), dtype=torch.float64)
    data = torch.randn(1, 12, generator=rng(2), dtype=torch.float64)
    scheme = ScaledGradientProjection(matrix, data, 1 / matrix.square().sum(dim=0))
    steps = []
    result = loop.run(
        scheme, Stop(5000, tolerance=1e-12), observe=[lambda state: steps.append(state.stepsize)]
    )
    expected = torch.from_numpy(scipy.optimize.nnls(matrix.numpy(), data[0].numpy())[0])
    assert (
        result.status == "converged"
        and relative(result.x[0], expected) < 1e-8
        and (expected == 0).any()
    )
    assert steps[0] is None and min(steps[1:]) < 1 and result.history == []


@pytest.mark.parametrize("late", [2, 3])
def test_what_does_not_fit_is_refused_in_every_iteration(late):
    """One image in the place of two would broadcast."""
    physics = student()
    y = physics.A(images(2, *SHAPE))
    refuses(
        lambda: solver(3)(y, physics, preconditioner=lambda g, z, k: g[: 1 + (k != late)]),
        "preconditioner",
        "(1, 1, 8, 8)",
        "(2, 1, 8, 8)",
    )
    calls = []

    class Shrinking(Bare):
        def step(self, z, direction, stepsize):
            calls.append(1)
            return super().step(z, direction, stepsize)[: 1 + (len(calls) != late)]

    refuses(lambda: dipa.FISTA(Shrinking(), 3)(y, physics), "prior", "(1, 1, 8, 8)")


# --- observers ------------------------------------------------------------------------------------


def test_an_observer_sees_every_state():
    physics, P = student(), 0.1 * torch.ones(1, *SHAPE) + 1
    y, states = physics.A(images(2, *SHAPE)), []

    def observe(state):
        states.append(state)
        return {"mean": state.x.mean().item()}

    result = solver(4, momentum="chambolle_dossal")(
        y,
        physics,
        preconditioner=lambda g, _z, _k: P * g,
        stepsize=0.4,
        observe=observe,
        history=True,
        iterates=True,
    )
    assert [state.k for state in states] == [0, 1, 2, 3, 4] and states[0].z is states[
        0
    ].direction is None
    betas_before = [0.0, *betas("chambolle_dossal", 3)]
    for before, state, beta in zip(states, states[1:], betas_before, strict=False):
        assert torch.equal(state.previous, before.x) and state.stepsize == 0.4
        assert relative(state.z, before.x + beta * (before.x - before.previous)) < 1e-6
        assert relative(state.gradient, data_gradient(physics, y, state.z)) < 1e-6
        assert torch.equal(state.direction, P * state.gradient)
    assert torch.equal(torch.stack([state.x for state in states]), result.iterates)
    assert [record["mean"] for record in result.history] == [
        x.mean().item() for x in result.iterates
    ]
    assert all({"k", "residual"} <= record.keys() for record in result.history)
    refuses(lambda: solver()(y, physics, observe=3), "observe", "3", "callable")


# --- searches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [100.0, 1.0])
def test_armijo_finds_a_stepsize_at_which_the_data_fidelity_never_grows(first):
    """Singular values 1 to 4: L = 16. Without prior the condition is a |H g|^2 <= |g|^2, which
    every a <= 1/16 meets.
    """
    physics = matrix_physics(well_conditioned(), (1, 2, 2))
    x_true = images(3, 1, 2, 2, dtype=torch.float64)
    y = physics.A(x_true)
    states, plain = [], dipa.FISTA(Bare(), 300, momentum="none", start="zero")
    result = plain(y, physics, stepsize=Armijo(first), observe=states.append)
    values = torch.stack(
        [0.5 * (physics.A(state.x) - y).flatten(1).square().sum(dim=1) for state in states]
    )
    assert (values[1:] <= values[:-1] * (1 + 1e-9) + 1e-25).all() and relative(
        result.x, x_true
    ) < 1e-6
    steps = torch.stack([state.stepsize.flatten() for state in states[1:]])
    assert (steps[1:] <= steps[:-1]).all() and (steps >= 1 / 32).all() and (steps[-1] <= 1).all()
    for state, stepsize in zip(states[1:], steps, strict=True):
        bent = physics.A(state.gradient).flatten(1).square().sum(dim=1) * stepsize
        assert (bent <= state.gradient.flatten(1).square().sum(dim=1) * (1 + 1e-4)).all()


def test_armijo_chooses_for_every_image_alone():
    physics = matrix_physics(torch.diag(torch.tensor([4.0, 1.0, 1.0, 1.0])), (1, 2, 2))
    x_true = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 1.0, 0]]).reshape(2, 1, 2, 2)
    states = []
    dipa.FISTA(Bare(), 1, momentum="none", start="zero")(
        physics.A(x_true), physics, stepsize=Armijo(1.0), observe=states.append
    )
    assert states[1].stepsize.flatten().tolist() == [1 / 16, 1.0]


def test_armijo_gives_up_after_its_trials_and_refuses_nonsense():
    physics = matrix_physics(well_conditioned(), (1, 2, 2))
    y, states = physics.A(images(1, 1, 2, 2, dtype=torch.float64)), []
    dipa.FISTA(Bare(), 1, start="zero")(
        y, physics, stepsize=Armijo(4.0, trials=2), observe=states.append
    )
    assert states[1].stepsize.item() == 2.0
    assert relative(states[1].x, states[1].z - 2.0 * states[1].gradient) < 1e-12
    for wrong in ({"first": 0.0}, {"shrink": 1.0}, {"shrink": 0.0}, {"trials": 0}):
        refuses(
            lambda wrong=wrong: Armijo(**wrong), next(iter(wrong)), str(next(iter(wrong.values())))
        )


def test_a_learned_stepsize():
    """One over k, as a number, as a number an image, and as a parameter that a gradient reaches."""
    physics = student()
    y = physics.A(images(2, *SHAPE))
    slope = torch.nn.Parameter(torch.ones(()))
    scaled = solver(4, momentum="none")(
        y, physics, preconditioner=lambda g, _z, k: g / k, stepsize=1.0
    ).x
    for rule in (
        lambda g, z, k: 1 / k,
        lambda g, z, k: torch.full((2,), 1 / k),
        lambda g, z, k: slope / k,
    ):
        found = solver(4, momentum="none")(y, physics, stepsize=Learned(rule), backward=None).x
        assert relative(found, scaled) < 1e-6
    found.square().sum().backward()
    assert slope.grad is not None and slope.grad.abs() > 0
    refuses(
        lambda: solver()(y, physics, stepsize=Learned(lambda g, z, k: torch.ones(3))),
        "rule",
        "(3,)",
        "(2,)",
    )
    refuses(lambda: solver()(y, physics, stepsize=Learned(lambda g, z, k: "far")), "rule", "far")
    refuses(lambda: Learned(0.4), "rule", "0.4", "callable")
    refuses(
        lambda: dipa.to_deepinv(solver(), None, physics, Armijo()), "stepsize", "Armijo", "deepinv"
    )


# --- history --------------------------------------------------------------------------------------


def test_history_is_true():
    physics, x_true = downsampling(), images(3, 1, 16, 16)
    y = physics.A(x_true)
    result = solver(4)(y, physics, stepsize=0.4, x_true=x_true, history=True, iterates=True)
    assert [record["k"] for record in result.history] == [0, 1, 2, 3, 4]
    assert result.iterates.shape == (5, 3, 1, 16, 16) and torch.equal(result.iterates[-1], result.x)
    for k, (record, x) in enumerate(zip(result.history, result.iterates, strict=True)):
        residuals = [(physics.A(x)[i] - y[i]).norm().item() / y[i].norm().item() for i in range(3)]
        gradients = [data_gradient(physics, y, x)[i].norm().item() for i in range(3)]
        assert record["residual"] == pytest.approx(sum(residuals) / 3, rel=1e-4)
        assert record["gradient_norm"] == pytest.approx(sum(gradients) / 3, rel=1e-4)
        assert record["psnr"] == pytest.approx(metrics.psnr(x, x_true).mean().item(), abs=1e-4)
        assert record["change"] == pytest.approx(
            relative(result.iterates[max(k - 1, 0)], x), rel=1e-4, abs=1e-9
        )
    seconds = [record["seconds"] for record in result.history]
    assert seconds == sorted(seconds) and seconds[0] >= 0


def test_looking_changes_nothing():
    physics, x_true = student(), images(2, *SHAPE)
    y = physics.A(x_true)
    plain = solver(4)(y, physics, stepsize=0.4)
    looked = solver(4)(y, physics, stepsize=0.4, x_true=x_true, history=True, iterates=True)
    assert torch.equal(plain.x, looked.x)
    assert "psnr" not in solver(4)(y, physics, stepsize=0.4, history=True).history[0]


def test_one_denoiser_call_per_iteration():
    denoiser, physics = Counting(identity_denoiser), student()
    solver(7, denoiser)(physics.A(images(2, *SHAPE)), physics, stepsize=0.4, history=True)
    assert denoiser.calls == 7


# --- batches, channels, precision -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["cake_cutting", "three channels", "downsampling", "inpainting"])
def test_a_batch_is_its_images_one_by_one(name):
    physics = OPERATORS[name]()
    y = physics.A(images(3, *size_of(physics)))
    together = solver(5)(y, physics, stepsize=0.4).x
    alone = torch.cat([solver(5)(y[i : i + 1], physics, stepsize=0.4).x for i in range(3)])
    assert relative(together, alone) < 1e-5


@pytest.mark.parametrize("channels", [2, 3])
def test_channels_are_solved_alone(channels):
    x = images(2, channels, 8, 8)
    many, one = student(channels), student()
    together = solver(5)(many.A(x), many, stepsize=0.4).x
    for c in range(channels):
        assert relative(together[:, [c]], solver(5)(one.A(x[:, [c]]), one, stepsize=0.4).x) < 1e-5


def test_bf16_is_close_to_float32_and_keeps_the_dtype():
    physics = student()
    y = physics.A(images(2, *SHAPE))
    full, half = (
        dipa.FISTA(prior=dipa.PnP(tiny_denoiser(), precision=precision), iterations=10)(
            y, physics, stepsize=0.4
        )
        for precision in ("float32", "bf16")
    )
    assert half.x.dtype == torch.float32 and half.status == "completed"
    assert 0 < relative(half.x, full.x) < 2e-2


def test_float64_throughout():
    physics = student().double()
    y = physics.A(images(2, *SHAPE, dtype=torch.float64))
    assert solver(3, tiny_denoiser().double())(y, physics, stepsize=0.4).x.dtype == torch.float64


def test_solving_is_repeatable_bitwise():
    physics = student()
    y = physics.A(images(2, *SHAPE))
    assert torch.equal(solver(5)(y, physics, stepsize=0.4).x, solver(5)(y, physics, stepsize=0.4).x)


# --- doors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"iterations": 0}, ("iterations", "0")),
        ({"iterations": 2.5}, ("iterations", "2.5")),
        ({"iterations": True}, ("iterations", "True")),
        ({"momentum": "nesterof"}, ("momentum", "did you mean nesterov", *MOMENTA)),
        ({"start": "adjont"}, ("start", "did you mean adjoint", *STARTS)),
        ({"prior_decay": -0.5}, ("prior_decay", "-0.5", "[0, inf]")),
        ({"prior": identity_denoiser}, ("prior", "function", "PnP")),
    ],
)
def test_construction_refuses(change, words):
    refuses(lambda: dipa.FISTA(**({"prior": dipa.PnP(identity_denoiser)} | change)), *words)


@pytest.mark.parametrize("bad", [0, -0.1, float("nan"), float("inf"), "1/l", True])
def test_stepsize_refuses(bad):
    physics = student()
    refuses(
        lambda: solver()(physics.A(images(1, *SHAPE)), physics, stepsize=bad), "stepsize", repr(bad)
    )


def test_measurements_refuse():
    physics, y = student(), student().A(images(2, *SHAPE))
    refuses(lambda: solver()([1.0], physics), "y", "list")
    refuses(lambda: solver()(y * float("nan"), physics), "y", "finite")
    refuses(lambda: solver()(images(2, 1, 16, 16), physics), "y", "(2, 1, 16, 16)", "SinglePixel")
    refuses(
        lambda: solver()(y, physics, x_true=images(2, 1, 16, 16)),
        "x_true.shape",
        "(2, 1, 16, 16)",
        "(B, 1, 8, 8)",
    )


def test_measurements_of_other_images_are_refused():
    physics, y = student(), student().A(images(2, *SHAPE))
    refuses(
        lambda: solver()(student(3).A(images(2, 3, 8, 8)), physics),
        "y.shape",
        "(2, 3, 8, 8)",
        "(1, 8, 8)",
    )
    for flat in (y[0, 0], y[0]):
        refuses(
            lambda flat=flat: solver()(flat, physics),
            "y.shape",
            str(tuple(flat.shape)),
            "(1, 1, 8, 8)",
            "SinglePixel",
        )
    blur = downsampling(16)
    refuses(lambda: solver()(images(2, 3, 8, 8), blur), "y", "(2, 3, 8, 8)", "Downsampling")
    refuses(lambda: solver()(images(2, 1, 8, 4), inpainting()), "y", "(2, 1, 8, 4)", "Inpainting")


@pytest.mark.parametrize("name", OPERATORS)
def test_float64_stepsize_rule(name):
    """1/L in the numbers of the measurements, whether the operator holds tensors or not."""
    physics = OPERATORS[name]().double()
    x = images(1, *size_of(physics), dtype=torch.float64)
    assert solver(2, identity_denoiser)(physics.A(x), physics).x.dtype == torch.float64
    matrix = matrix_physics(well_conditioned(), (1, 2, 2))
    y = matrix.A(images(1, 1, 2, 2, dtype=torch.float64))
    assert (
        relative(
            solver(2, identity_denoiser)(y, matrix).x,
            solver(2, identity_denoiser)(y, matrix, stepsize=1 / 16).x,
        )
        < 1e-4
    )


def test_a_prior_is_a_step():
    physics, prior = student(), Bare()
    y = physics.A(images(2, *SHAPE))
    assert torch.equal(
        dipa.FISTA(prior, 3)(y, physics).x, solver(3, identity_denoiser)(y, physics).x
    )
    assert dipa.FISTA(prior, 3).describe()["prior"] == {"kind": "Bare"}


def test_description_is_plain_and_tells_solvers_apart():
    base = solver(5)
    assert base.describe()["iterations"] == 5 and base.describe() == solver(5).describe()
    for other in (
        solver(6),
        solver(5, momentum="none"),
        solver(5, start="zero"),
        solver(5, prior_decay=1.0),
        dipa.FISTA(prior=dipa.PnP(tiny_denoiser(), sigma=0.1), iterations=5),
        dipa.FISTA(prior=dipa.PnP(tiny_denoiser(), precision="bf16"), iterations=5),
    ):
        assert other.describe() != base.describe()


def partial_fourier(size: int = 8):
    """y = the first rows of the unitary Fourier transform, complex; the adjoint gives the real
    part.
    """
    rows = size // 2

    def adjoint(y, **_):
        return torch.fft.ifft2(
            torch.nn.functional.pad(y, (0, 0, 0, size - rows)), norm="ortho"
        ).real

    return deepinv.physics.LinearPhysics(
        A=lambda x, **_: torch.fft.fft2(x, norm="ortho")[..., :rows, :], A_adjoint=adjoint
    )


def test_complex_measurements_of_real_images():
    """The gradient is that of half the squared modulus of the residual; the run and the loss
    are those of two real parts.
    """
    physics, x = partial_fourier(), images(2, *SHAPE)
    y = physics.A(x)
    assert y.is_complex() and linalg_dot(physics, x) < 1e-5
    two = deepinv.physics.LinearPhysics(
        A=lambda x, **_: torch.view_as_real(physics.A(x)),
        A_adjoint=lambda y, **_: physics.A_adjoint(torch.view_as_complex(y)),
    )
    found, expected = (solver(5)(p.A(x), p, stepsize=0.7) for p in (physics, two))
    assert found.status == "completed" and relative(found.x, expected.x) < 1e-6
    a, b = (dipa.losses.data_fidelity(p.A(found.x), p.A(x)) for p in (physics, two))
    assert a.dtype == torch.float32 and relative(a, b) < 1e-6
    P = dipa.LinearPreconditioner.identity(student())
    fit = dipa.distill(
        solver(2),
        P,
        physics,
        None,
        x,
        losses=dipa.LossWeights(data_fidelity=1.0),
        budget=dipa.Budget(steps=1),
        progress=False,
        validation=0,
    )
    assert fit.history[0]["data_fidelity"] > 0
    for real in (student(), inpainting()):
        refuses(
            lambda real=real: solver(2)(real.A(x).to(torch.complex64), real, stepsize=0.4),
            "y",
            "complex64",
        )


def linalg_dot(physics, x: torch.Tensor) -> float:
    """The dot test in the inner product of two real parts."""
    y = physics.A(torch.rand_like(x)) + 1j
    left, right = (physics.A(x) * y.conj()).real.sum(), (x * physics.A_adjoint(y)).sum()
    return ((left - right).abs() / left.abs()).item()
