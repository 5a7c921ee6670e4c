"""Scaled gradient projection: the algorithms by hand, and what no learned step can take away."""

import deepinv
import numpy as np
import pytest
import torch
from batteries import matrix_physics, refuses, relative, rng
from hypothesis import given, settings
from hypothesis import strategies as st

import dipa
from dipa.solvers import SGP

SHAPE, WEIGHT = (1, 4, 4), 0.05
L1 = dipa.Prox(deepinv.optim.prior.L1Prior(), weight=WEIGHT)


def problem(seed: int = 0, rows: int = 10, images: int = 3):
    """A random operator, its matrix, and measurements of sparse images."""
    matrix = torch.randn(rows, 16, generator=rng(seed), dtype=torch.float64) / 4
    x = torch.randn((images, *SHAPE), generator=rng(seed + 1), dtype=torch.float64)
    x = x * (torch.rand(x.shape, generator=rng(seed + 2)) < 0.3)
    physics = matrix_physics(matrix, SHAPE)
    return physics, matrix, physics.A(x)


def objective(matrix: torch.Tensor, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """F, image by image, by the matrix."""
    fidelity = (x.flatten(1) @ matrix.T - y.flatten(1)).square().sum(dim=1) / 2
    return fidelity + WEIGHT * x.flatten(1).abs().sum(dim=1)


def wild(seed: int, scale: float, kind: str):
    """Steps without sense."""

    def steps(x, gradient, k):
        shape = (len(x), 1, 1, 1) if kind == "step" else tuple(x.shape)
        drawn = torch.randn(shape, generator=rng(1000 * seed + k), dtype=x.dtype) * scale
        return drawn.exp() if kind == "exponential" else drawn

    return steps


def soft(v: np.ndarray, level) -> np.ndarray:
    return np.sign(v) * np.maximum(np.abs(v) - level, 0)


# --- the algorithms -------------------------------------------------------------------------------


def by_hand(matrix, y, steps, iterations, solver, L):  # noqa: N803
    """Algorithms 3 and 4 for one image, with plain numpy."""
    A, y = matrix.numpy(), y.numpy().ravel()
    f = lambda x: 0.5 * np.sum((A @ x - y) ** 2)  # noqa: E731
    F = lambda x: f(x) + WEIGHT * np.abs(x).sum()  # noqa: E731
    grad = lambda x: A.T @ (A @ x - y)  # noqa: E731
    T = lambda v: soft(v - grad(v) / L, WEIGHT / L)  # noqa: E731
    x, gamma_1, use, found = np.zeros(16), 1.0, True, []
    for k in range(1, iterations + 1):
        z = z_2 = T(x) - x
        if use:
            d = steps(torch.from_numpy(x).reshape(1, *SHAPE), None, k).numpy().ravel()
            z_1 = T(soft(x - d * grad(x), WEIGHT * d)) - x
            ratio = solver.alpha * (1 - gamma_1) * np.linalg.norm(z_2)
            if gamma_1 * np.linalg.norm(z_1) > ratio:
                z = gamma_1 * z_1 + (1 - gamma_1) * z_2
            else:
                use = False
        delta = grad(x) @ z + WEIGHT * (np.abs(x + z).sum() - np.abs(x).sum())
        if use and delta > 0:
            z, use = z_2, False
            delta = grad(x) @ z + WEIGHT * (np.abs(x + z).sum() - np.abs(x).sum())
        gamma_2 = 1.0
        while F(x + gamma_2 * z) > F(x) + solver.beta * gamma_2 * delta + 1e-14:
            gamma_1, gamma_2 = solver.eta_1 * gamma_1, solver.eta_2 * gamma_2
        x = x + gamma_2 * z
        found.append((x, gamma_1, gamma_2, use))
    return found


@pytest.mark.parametrize("kind", ["step", "exponential"])
@pytest.mark.parametrize(
    "options", [{}, {"alpha": 1.0, "beta": 0.6, "eta_1": 0.3}, {"beta": 0.9, "eta_2": 0.8}]
)
def test_the_relaxed_scheme_is_the_one_by_hand(kind, options):
    physics, matrix, y = problem(images=1)
    solver, norm = SGP(L1, iterations=12, **options), dipa.physics.lipschitz(physics, SHAPE, y)
    for seed in range(6):
        positive = wild(seed, 1.5, kind)
        steps = lambda x, g, k, rule=positive: rule(x, g, k).abs() + 0.5  # noqa: E731
        states = []
        solver(y, physics, steps=steps, observe=states.append)
        wanted = by_hand(matrix, y, steps, 12, solver, norm)
        for state, (x, gamma_1, gamma_2, used) in zip(states[1:], wanted, strict=True):
            assert np.allclose(state.x.numpy().ravel(), x, atol=1e-9)
            assert state.weight.item() == pytest.approx(gamma_1)
            assert state.stepsize.item() == pytest.approx(gamma_2)
            assert bool(state.proposed) == used


def test_without_anything_learned_it_is_ista():
    physics, _, y = problem()
    wanted = dipa.FISTA(L1, 15, momentum="none", start="zero")(y, physics, iterates=True)
    found = SGP(L1, iterations=15)(y, physics, iterates=True)
    assert relative(found.iterates, wanted.iterates) < 1e-12
    constant = SGP(L1, iterations=15)(y, physics, steps=lambda x, g, k: 0.0, iterates=True)
    assert relative(constant.iterates, wanted.iterates) < 1e-12  # x~ = x, so that z_1 is z_2


@pytest.mark.parametrize("scheme", ["relaxed", "scaled"])
def test_the_exact_diagonal_ends_in_one_iteration(scheme):
    """Of a diagonal operator: D = 1 / a^2 is Newton's step, prior included."""
    a = torch.linspace(0.5, 1.0, 16, dtype=torch.float64)
    physics = matrix_physics(torch.diag(a), SHAPE)
    y = physics.A(torch.randn((2, *SHAPE), generator=rng(3), dtype=torch.float64))
    exact = torch.from_numpy(soft((y.flatten(1) / a).numpy(), (WEIGHT / a**2).numpy()))
    steps = lambda x, g, k: (1 / a**2).reshape(1, *SHAPE).expand_as(x)  # noqa: E731
    x = SGP(L1, iterations=1, scheme=scheme)(y, physics, steps=steps).x
    if scheme == "relaxed":  # a step of 1/L from the minimiser leaves it where it is
        assert relative(x.flatten(1), exact) < 1e-6
    assert relative(x.flatten(1), exact) < 1e-6


def test_a_preconditioner_proposes_its_direction():
    """Its proposal is the step of 1/L along P's direction; what follows is that of the steps."""
    physics, matrix, y = problem(rows=16)
    norm = dipa.physics.lipschitz(physics, SHAPE, y)
    a = torch.rand(SHAPE, generator=rng(5), dtype=torch.float64) + 0.2
    P = lambda gradient, x, k: a * gradient  # noqa: E731
    states = []
    SGP(L1, iterations=1)(y, physics, preconditioner=P, observe=states.append)
    T = lambda v, d: soft((v - d / norm).numpy(), WEIGHT / norm)  # noqa: E731
    start = torch.zeros(3, 16, dtype=torch.float64)
    gradient = -(y.flatten(1) @ matrix)
    proposal = torch.from_numpy(T(start, a.flatten() * gradient))
    wanted = T(proposal, (proposal @ matrix.T - y.flatten(1)) @ matrix)
    assert bool(states[1].proposed.all()) and states[1].stepsize.unique().tolist() == [1.0]
    assert relative(states[1].x.flatten(1), torch.from_numpy(wanted)) < 1e-6


def test_the_scaling_stays_within_its_bounds_and_they_close():
    physics, matrix, y = problem()
    norm = dipa.physics.lipschitz(physics, SHAPE, y)
    for scale, sign in ((1e6, 1), (1e-6, -1)):
        x, seen = torch.zeros(3, *SHAPE, dtype=torch.float64), []
        solver = SGP(L1, iterations=4, scheme="scaled", delta=8.0)
        solver(y, physics, steps=lambda x, g, k, s=scale: s, observe=seen.append)
        for k in range(1, 5):
            length = (1 + 8 / k**2) ** (sign / 2) / norm
            gradient = (x.flatten(1) @ matrix.T - y.flatten(1)) @ matrix
            full = soft((x.flatten(1) - length * gradient).numpy(), WEIGHT * length)
            moved = torch.from_numpy(full).reshape_as(x) - x
            wanted = x + seen[k].stepsize * moved
            assert relative(seen[k].x, wanted) < 1e-6
            x = seen[k].x


# --- what cannot be taken away --------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.1, 3.0, 1e3, 1e9, 1e200]),
    kind=st.sampled_from(["step", "diagonal", "exponential"]),
    scheme=st.sampled_from(["relaxed", "scaled"]),
    beta=st.sampled_from([0.1, 0.99]),
)
def test_the_objective_never_grows(seed, scale, kind, scheme, beta):
    physics, matrix, y = problem(seed)
    steps = wild(seed, scale, kind)
    solver = SGP(L1, iterations=15, scheme=scheme, beta=beta)
    found = solver(y, physics, steps=steps, iterates=True)
    values = torch.stack([objective(matrix, y, x) for x in found.iterates])
    assert bool((values[1:] <= values[:-1] * (1 + 1e-12)).all()) and found.status == "completed"


def test_a_direction_that_ascends_is_not_taken_however_lenient_the_condition():
    """Across the kink of the prior, so that the bound grows faster than F does at first."""
    physics = matrix_physics(torch.diag(torch.tensor([1.0, 0.01], dtype=torch.float64)), (1, 1, 2))
    y = torch.tensor([[0.0, -1.05 * WEIGHT / 0.01]], dtype=torch.float64)
    start = torch.tensor([0.0, -0.1], dtype=torch.float64).reshape(1, 1, 1, 2)
    across = torch.tensor([0.0, -10.0 - WEIGHT], dtype=torch.float64).reshape(1, 1, 1, 2)
    solver = SGP(L1, iterations=1, beta=0.99, start=lambda y, physics: start)
    found = solver(y, physics, preconditioner=lambda g, x, k: across, history=True)
    plain = solver(y, physics, history=True)
    before, after = (record["objective"] for record in found.history)
    assert after < before and found.history[1]["proposed"] == 0
    assert relative(found.x, plain.x) < 1e-9


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["step", "diagonal", "exponential"]))
def test_nonsense_is_soon_asked_no_more_and_the_limit_is_that_of_fista(seed, kind):
    physics, matrix, y = problem(seed, rows=20)
    states = []
    steps = wild(seed, 50.0, kind)
    found = SGP(L1, iterations=400)(y, physics, steps=steps, observe=states.append)
    limit = dipa.FISTA(L1, 2000, start="zero", restart=50)(y, physics).x
    assert relative(found.x, limit) < 1e-4
    still = [bool(state.proposed.any()) for state in states]
    assert not still[-1] and still == sorted(still, reverse=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e300])
def test_no_number_does_not_get_in(value):
    physics, _, y = problem()
    plain = SGP(L1, iterations=8)(y, physics).x
    found = SGP(L1, iterations=8)(y, physics, steps=lambda x, g, k: value)
    assert bool(found.x.isfinite().all())
    assert relative(found.x, plain) < 1e-9
    broken = lambda gradient, x, k: gradient * value  # noqa: E731
    assert bool(SGP(L1, iterations=8)(y, physics, preconditioner=broken).x.isfinite().all())


def test_images_do_not_see_one_another():
    """One image gets nonsense, the others good steps: all as if alone."""
    physics, _, y = problem(rows=16)
    scales = torch.tensor([1.0, 1e6, 1.5], dtype=torch.float64)
    solver = SGP(L1, iterations=10)
    together = solver(y, physics, steps=lambda x, g, k: scales).x
    for n, scale in enumerate(scales):
        alone = solver(y[n : n + 1], physics, steps=lambda x, g, k, s=scale: s[None]).x
        assert relative(together[n : n + 1], alone) < 1e-9


def test_the_history_says_what_happened():
    physics, matrix, y = problem()
    found = SGP(L1, iterations=5)(y, physics, steps=lambda x, g, k: 1e9, history=True)
    values = objective(matrix, y, found.x)
    assert found.history[-1]["objective"] == pytest.approx(values.mean().item(), rel=1e-6)
    assert [record["k"] for record in found.history] == [*range(6)]
    calls, apply = [], physics.A
    physics.A = lambda x, **more: (calls.append(1), apply(x, **more))[1]
    back = physics.A_adjoint
    physics.A_adjoint = lambda v, **more: (calls.append(1), back(v, **more))[1]
    dipa.physics.lipschitz(physics, SHAPE, y)
    calls.clear()
    again = SGP(L1, iterations=5, start=lambda y, p: torch.zeros(3, *SHAPE).double())
    again = again(y, physics, steps=lambda x, g, k: 1e9, history=True)
    assert again.history[-1]["calls"] == len(calls) - 1  # one tells the shape of y


def test_doors():
    physics, _, y = problem()
    for options in ({"alpha": 0}, {"beta": 1.0}, {"eta_1": 0}, {"eta_2": 1}, {"delta": -1}):
        refuses(lambda o=options: SGP(L1, **o), *options)
    refuses(lambda: SGP(dipa.PnP(lambda x, sigma: x)), "prior", "PnP")
    refuses(lambda: SGP(L1, scheme="free"), "scheme", "free")
    for bad in (torch.ones(2), torch.ones(3, 4, 4)):
        refuses(lambda b=bad: SGP(L1)(y, physics, steps=lambda x, g, k: b), "steps", "(3,)")
    P = lambda gradient, x, k: gradient  # noqa: E731
    refuses(lambda: SGP(L1, scheme="scaled")(y, physics, preconditioner=P), "preconditioner")
    refuses(lambda: SGP(L1)(y, physics, steps=3.0), "steps", "3.0")
    refuses(lambda: SGP(L1)(y[:, :4], physics), "y", "(3, 4)")
