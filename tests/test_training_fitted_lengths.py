"""Step lengths in closed form: what solves a problem at once, the equations by hand, and the solver
that takes them.
"""

import deepinv
import pytest
import torch
from batteries import images, inpainting, matrix_physics, refuses, rng

import dipa
from dipa.operators import in_wavelets
from dipa.solvers import SGP
from dipa.training import FittedLengths, fit_lengths

SIZE, COUNT = (1, 8, 8), 6
L1 = dipa.Prox(deepinv.optim.prior.L1Prior(), 0.02)
NOTHING = dipa.Prox(deepinv.optim.prior.L1Prior(), 0.0)


def problem():
    """Inpainting with a mask for every image, in wavelet coefficients."""
    x = images(COUNT, *SIZE)
    masks = (torch.rand(x.shape, generator=rng(1)) < 0.6).float()
    physics = in_wavelets(deepinv.physics.Inpainting(SIZE, mask=masks), "haar", 2)
    return physics, physics[1].A(x)


def test_on_a_diagonal_operator_the_length_of_an_entry_is_one_over_its_square():
    """Without a prior one step is enough then, from anywhere."""
    scales = torch.tensor([0.5, 1.0, 2.0, 3.0])
    physics = matrix_physics(torch.diag(scales), (1, 2, 2))
    y = physics.A(images(COUNT, 1, 2, 2))
    solver = SGP(NOTHING, 1)
    fit = fit_lengths(solver, physics, y, lengths="entry", regularization=0.0)
    assert torch.allclose(fit.trained.lengths.flatten(), scales**-2, rtol=1e-3)
    assert fit.record["nmse"][1] < -60 < fit.record["nmse"][0]


def test_of_a_multiple_of_the_identity_one_length_is_enough():
    physics = matrix_physics(3 * torch.eye(4), (1, 2, 2))
    y = physics.A(images(COUNT, 1, 2, 2))
    fit = fit_lengths(SGP(NOTHING, 2), physics, y, target_iterations=50)
    assert fit.trained.lengths[0].item() == pytest.approx(1 / 9, rel=1e-5)


@pytest.mark.parametrize("lengths", ["image", "entry"])
def test_the_equations_by_hand(lengths):
    physics, y = problem()
    target = dipa.FISTA(L1, 300, start="zero")(y, physics, stepsize="1/L").x
    fit = fit_lengths(SGP(L1, 3), physics, y, lengths=lengths, target_iterations=300)
    x = torch.zeros_like(target)
    for k in range(3):
        g = physics.A_adjoint(physics.A(x) - y)
        top, bottom = (g * (x - target)).sum(0), (g * g).sum(0)
        s = (top.sum() / bottom.sum()).clamp_min(0)
        if lengths == "entry":
            m = 0.01 * bottom.mean()
            s = ((top + m * s) / (bottom + m)).clamp_min(0)
        assert torch.allclose(fit.trained.lengths[k], s, atol=1e-5)
        v = x - s * g
        v = v.sign() * (v.abs() - 0.02 * s).clamp_min(0)
        g = physics.A_adjoint(physics.A(v) - y)
        v = v - g
        x = v.sign() * (v.abs() - 0.02).clamp_min(0)
    error = (x - target).flatten(1).square().sum(1) / target.flatten(1).square().sum(1)
    assert fit.record["nmse"][3] == pytest.approx(10 * error.mean().log10().item(), abs=1e-3)
    assert [record["iteration"] for record in fit.history] == [1, 2, 3]


@pytest.mark.parametrize("lengths", ["image", "entry"])
def test_the_solver_takes_them_and_ends_where_fista_does(lengths):
    physics, y = problem()
    fit = fit_lengths(SGP(L1, 4), physics, y, lengths=lengths, target_iterations=300)
    solver = SGP(L1, 400)
    found = solver(y, physics, steps=fit, history=True)
    limit = dipa.FISTA(L1, 1200, start="zero")(y, physics, stepsize="1/L").x
    lowest = (physics.A(limit) - y).square().sum() / 2 + 0.02 * limit.abs().sum()
    assert found.history[-1]["objective"] == pytest.approx(lowest.item() / COUNT, rel=1e-5)
    plain = solver(y, physics, history=True)
    objective = [[record["objective"] for record in run.history] for run in (found, plain)]
    assert objective[0][2] < objective[1][2], "sooner than with steps of 1/L"
    assert all(b <= a + 1e-5 for a, b in zip(objective[0], objective[0][1:], strict=False))


def test_later_iterations_take_the_last_length():
    x = torch.zeros(3, 1, 2, 2)
    one = FittedLengths(torch.tensor([1.0, 2.0]))
    assert one(x, x, 1).tolist() == [1.0] * 3 and one(x, x, 9).tolist() == [2.0] * 3
    many = FittedLengths(torch.arange(8.0).reshape(2, 1, 2, 2))
    assert torch.equal(many(x, x, 2)[1, 0], torch.tensor([[4.0, 5.0], [6.0, 7.0]]))
    refuses(lambda: many(torch.zeros(3, 1, 3, 3), x, 1), "x", "3, 3")
    refuses(lambda: FittedLengths(torch.zeros(2, 2)), "lengths.shape", "(2, 2)", "(K,)")


def test_where_no_gradient_says_anything_the_step_is_one_over_the_norm():
    physics = inpainting()
    y = torch.zeros_like(physics.A(images(COUNT, *physics.mask.shape[1:])))
    fit = fit_lengths(SGP(L1, 2), physics, y, target_iterations=2)
    assert fit.trained.lengths.tolist() == [1.0, 1.0]


def test_what_was_converged_is_kept(tmp_path, monkeypatch):
    physics, y = problem()
    options = {"target_iterations": 30, "cache": tmp_path}
    first = fit_lengths(SGP(L1, 2), physics, y, **options)
    monkeypatch.setattr("dipa.training.step_lengths.FISTA.__call__", None)
    again = fit_lengths(SGP(L1, 2), physics, y, **options)
    assert torch.equal(first.trained.lengths, again.trained.lengths)


def test_refuses():
    physics, y = problem()
    solver = SGP(L1, 2)
    for change, words in (
        ({"lengths": "pixel"}, ("lengths", "'pixel'", "image", "entry")),
        ({"regularization": -1}, ("regularization", "-1")),
        ({"iterations": 0}, ("iterations", "0")),
        ({"target_iterations": 0}, ("target_iterations", "0")),
        ({"solver": dipa.FISTA(L1)}, ("solver", "FISTA", "SGP")),
    ):
        arguments = {"solver": solver, "physics": physics, "y": y} | change
        refuses(lambda arguments=arguments: fit_lengths(**arguments), *words)
