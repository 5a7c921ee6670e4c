"""Equilibria and the gradients there: closed forms, dense linear algebra, finite differences, and
deepinv's own deep equilibrium models.
"""

import deepinv
import pytest
import torch
from batteries import images, matrix_physics, refuses, relative, rng
from torch import nn

from dipa.solvers import at_equilibrium, equilibrium


def affine(q: float, seed: int = 0):
    """T(x) = M x + b with a symmetric M of norm q on 2 x 3 images, in float64; and its
    equilibrium."""
    u = torch.linalg.qr(torch.randn(6, 6, generator=rng(seed), dtype=torch.float64))[0]
    matrix = u @ torch.diag(q * torch.linspace(1, 0.1, 6, dtype=torch.float64)) @ u.T
    offset = torch.randn(1, 6, generator=rng(seed + 1), dtype=torch.float64)
    fixed = torch.linalg.solve(torch.eye(6, dtype=torch.float64) - matrix, offset[0])
    operator = lambda x: (x.flatten(1) @ matrix.T + offset).reshape(x.shape)  # noqa: E731
    return operator, fixed.reshape(1, 1, 2, 3), matrix


def zeros(count: int = 1) -> torch.Tensor:
    return torch.zeros(count, 1, 2, 3, dtype=torch.float64)


# --- the equilibrium ------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.3, 0.9])
def test_it_is_found_with_the_contraction_of_the_operator(q):
    operator, fixed, _ = affine(q)
    found = equilibrium(operator, zeros(), tolerance=1e-10)
    assert found.status == "converged" and relative(found.x, fixed) < 1e-8
    assert found.contraction.item() == pytest.approx(q, rel=1e-2)
    missing = (found.x - fixed).norm().item()
    assert missing <= found.distance.item() * 1.01 and found.distance.item() < 3 * missing + 1e-12


def test_images_are_judged_one_by_one():
    """One starts at its equilibrium: rounding alone moves it, and nothing is known of its
    contraction.
    """
    operator, fixed, _ = affine(0.5)
    found = equilibrium(operator, torch.cat([zeros(), fixed + 0]), tolerance=1e-9)
    assert found.contraction[0] == pytest.approx(0.5, rel=1e-2)
    assert found.contraction[1].isnan() and found.distance[1].isinf()
    assert relative(found.x[1:], fixed) < 1e-8
    near = equilibrium(operator, torch.cat([zeros(), fixed + 1e-9]), tolerance=1e-15)
    assert near.contraction.amax() < 0.51, "of each its own last changes"


def test_rounding_is_no_expansion():
    """To the last bit, where one change is as large as the one before."""
    operator, fixed, _ = affine(0.8)
    found = equilibrium(operator, zeros(), tolerance=1e-16, iterations=400)
    assert found.contraction.item() == pytest.approx(0.8, rel=0.05)
    assert relative(found.x, fixed) < 1e-12


def test_what_does_not_contract_says_so():
    slow = equilibrium(affine(0.99)[0], zeros(), tolerance=1e-12, iterations=20)
    assert slow.status == "completed" and slow.iterations == 20
    away = equilibrium(lambda x: 2 * x + 1, zeros(), iterations=50)
    assert away.status == "diverged" and away.distance.isinf().all()
    assert (away.contraction > 1).all()


def test_a_restart_takes_fewer_iterations():
    operator, fixed, _ = affine(0.9)
    cold = equilibrium(operator, zeros(), tolerance=1e-8)
    warm = equilibrium(operator, fixed + 1e-4, tolerance=1e-8)
    assert warm.iterations < cold.iterations / 1.5 and relative(warm.x, fixed) < 1e-6


def test_a_solver_of_deepinv_s_and_ours_end_in_the_same_place():
    """T of proximal gradient on the lasso."""
    physics = matrix_physics(torch.eye(6)[:4], (1, 2, 3))
    y = physics.A(images(2, 1, 2, 3))
    prior = deepinv.optim.prior.Tikhonov()
    step = lambda x: prior.prox(x - 0.5 * physics.A_adjoint(physics.A(x) - y), gamma=0.1)  # noqa: E731
    theirs = deepinv.optim.PGD(
        data_fidelity=deepinv.optim.L2(),
        prior=prior,
        stepsize=0.5,
        lambda_reg=0.2,
        max_iter=500,
        early_stop=False,
    )
    assert relative(equilibrium(step, torch.zeros(2, 1, 2, 3)).x, theirs(y, physics)) < 1e-4


# --- the gradient ---------------------------------------------------------------------------------


class Shrinking(nn.Module):
    """x -> tanh(q x * weight + y): a nonlinear T whose weights are learned."""

    def __init__(self, q: float):
        super().__init__()
        self.q = q
        start = 0.5 + torch.rand(1, 1, 2, 3, generator=rng(4), dtype=torch.float64) / 2
        self.weight = nn.Parameter(start)
        self.mix = nn.Parameter(torch.randn(6, 6, generator=rng(5), dtype=torch.float64) / 12)
        self.y = torch.randn(2, 1, 2, 3, generator=rng(6), dtype=torch.float64)

    def forward(self, x):
        mixed = (x.flatten(1) @ self.mix).reshape(x.shape)
        return torch.tanh(self.q * (self.weight * x + mixed) + self.y)

    def loss(self) -> torch.Tensor:
        x = equilibrium(self, torch.zeros_like(self.y), tolerance=1e-14, iterations=5000).x
        return (x**3).sum()

    def gradients(self, tail):
        x = equilibrium(self, torch.zeros_like(self.y), tolerance=1e-14, iterations=5000).x
        found = at_equilibrium(self, x, tail=tail, tolerance=1e-13)
        return torch.autograd.grad((found**3).sum(), list(self.parameters()))


def test_the_exact_gradient_is_that_of_finite_differences():
    model = Shrinking(0.7)
    found = model.gradients(None)
    for parameter, gradient in zip(model.parameters(), found, strict=True):
        flat, wanted = parameter.data.view(-1), []
        for j in range(len(flat)):
            kept, ends = flat[j].item(), []
            for step in (1e-5, -1e-5):
                flat[j] = kept + step
                ends.append(model.loss().item())
            flat[j] = kept
            wanted.append((ends[0] - ends[1]) / 2e-5)
        assert relative(gradient.flatten(), torch.tensor(wanted).to(gradient)) < 1e-6


def test_of_an_affine_operator_it_is_linear_algebra():
    operator, fixed, matrix = affine(0.8)
    b = torch.zeros(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    wanted = torch.linalg.solve(torch.eye(6, dtype=torch.float64) - matrix.T, fixed.flatten())
    x = at_equilibrium(lambda x: operator(x) + b, fixed, tolerance=1e-12)
    (found,) = torch.autograd.grad((x * fixed).sum(), b)
    assert relative(found.flatten(), wanted) < 1e-9
    for tail in (1, 3):
        x = at_equilibrium(lambda x: operator(x) + b, fixed, tail=tail)
        (found,) = torch.autograd.grad((x * fixed).sum(), b)
        terms = sum(torch.linalg.matrix_power(matrix.T, j) for j in range(tail))
        assert relative(found.flatten(), terms @ fixed.flatten()) < 1e-9


@pytest.mark.parametrize("q", [0.3, 0.6, 0.9])
def test_what_a_tail_leaves_out_falls_like_the_contraction_to_its_length(q):
    """The abstract's claim: arbitrarily good, at the bound's rate."""
    operator, fixed, _ = affine(q)
    b = torch.zeros(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)

    def gradient(tail):
        x = at_equilibrium(lambda x: operator(x) + b, fixed, tail=tail, tolerance=1e-13)
        return torch.autograd.grad((x * fixed).sum(), b)[0]

    exact, size = gradient(None), fixed.norm().item()
    for tail in (1, 2, 4, 8, 16, 32):
        missing = (gradient(tail) - exact).norm().item()
        assert missing <= q**tail / (1 - q) * size + 1e-12
        assert missing >= 0.01 * q**tail / (1 - q) * size or missing < 1e-9


def test_it_is_the_gradient_of_deepinv_s_equilibrium_model():
    """One learned stepsize and regularisation of PGD, exact and Jacobian-free."""
    physics = matrix_physics(torch.diag(torch.tensor([1.0, 0.8, 0.6, 0.5])), (1, 2, 2))
    x_true = images(2, 1, 2, 2)
    y = physics.A(x_true)
    for free in (False, True):
        model = deepinv.optim.PGD(
            data_fidelity=deepinv.optim.L2(),
            prior=deepinv.optim.prior.Tikhonov(),
            stepsize=0.7,
            lambda_reg=0.3,
            max_iter=400,
            early_stop=False,
            trainable_params=["lambda"],
            DEQ=deepinv.optim.DEQConfig(jacobian_free=free, max_iter_backward=400),
        )
        (theirs,) = torch.autograd.grad((model(y, physics) - x_true).square().sum(), _one(model))
        weight = torch.tensor(0.3, requires_grad=True)

        def step(x, weight=weight):
            return (x - 0.7 * physics.A_adjoint(physics.A(x) - y)) / (1 + 0.7 * weight)

        x = equilibrium(step, torch.zeros_like(x_true), tolerance=1e-7, iterations=2000).x
        x = at_equilibrium(step, x, tail=1 if free else None, tolerance=1e-7)
        (ours,) = torch.autograd.grad((x - x_true).square().sum(), weight)
        assert ours.item() == pytest.approx(theirs.sum().item(), rel=1e-3)


def _one(model) -> list[torch.Tensor]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def test_refuses():
    operator, fixed, _ = affine(0.5)
    refuses(lambda: equilibrium(3, fixed), "operator", "3")
    refuses(lambda: equilibrium(lambda x: x[:, :, :1], fixed), "operator")
    refuses(lambda: equilibrium(operator, fixed, tolerance=0), "tolerance", "0")
    refuses(lambda: equilibrium(operator, fixed, iterations=0), "iterations", "0")
    refuses(lambda: at_equilibrium(operator, fixed, tail=0), "tail", "0")
    refuses(lambda: at_equilibrium(3, fixed), "operator", "3")
    refuses(lambda: at_equilibrium(operator, [1.0]), "x_star", "tensor")
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    x = at_equilibrium(lambda x: weight * x, fixed, iterations=30)
    refuses(lambda: x.sum().backward(), "operator", "contracts")
    assert not at_equilibrium(operator, fixed).requires_grad, "without parameters"
