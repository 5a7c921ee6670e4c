"""Our solver as a deepinv model, against our own loop and against deepinv's own FISTA."""

import deepinv
import pytest
import torch
from batteries import (
    Bare,
    images,
    refuses,
    relative,
    rng,
    size_of,
    smooth_images,
    solver,
    tiny_denoiser,
)
from members import OPERATORS, PRIORS, neural

import dipa
from dipa.interop import to_deepinv
from dipa.operators import mri, single_pixel
from dipa.solvers import MOMENTA, STARTS


def camera():
    return single_pixel((1, 16, 16), ratio=0.3)


def stepping(gradient, iterate, k):
    """A preconditioner that shows at once when k, the point or the gradient is another one."""
    return gradient * (1 + 1 / k) + 0.02 * k * iterate


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("momentum", MOMENTA)
def test_it_reproduces_our_solver(momentum, start, prior):
    physics = camera()
    y = physics.A(images(3, 1, 16, 16))
    ours = dipa.FISTA(prior(tiny_denoiser()), iterations=9, momentum=momentum, start=start)
    expected = ours(y, physics, preconditioner=stepping, stepsize=0.5)
    assert expected.status == "completed"
    assert relative(to_deepinv(ours, stepping, physics, 0.5)(y, physics), expected.x) < 1e-5


def test_its_prior_decays_as_ours_does():
    physics = camera()
    y = physics.A(images(3, 1, 16, 16))
    ours = solver(iterations=9, prior_decay=1.0)
    expected = ours(y, physics, preconditioner=stepping, stepsize=0.5).x
    assert relative(to_deepinv(ours, stepping, physics, 0.5)(y, physics), expected) < 1e-5
    assert relative(solver(iterations=9)(y, physics, stepsize=0.5).x, expected) > 1e-3


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
def test_it_runs_on_every_operator(make):
    physics = make()
    size = size_of(physics)
    y = physics.A(images(2, *size))
    ours = solver(iterations=4, start="adjoint")
    found = to_deepinv(ours, stepping, physics, 0.3)(y, physics)
    assert found.shape == (2, *size)
    assert relative(found, ours(y, physics, preconditioner=stepping, stepsize=0.3).x) < 1e-5


@pytest.mark.parametrize("img_size", [(2, 16, 12), (1, 16, 12)])
def test_mri(img_size):
    physics = mri(img_size, acceleration=4)
    y = physics.A(images(2, *img_size))
    P = dipa.LinearPreconditioner.identity(physics)
    ours = solver(iterations=6)
    expected = ours(y, physics, preconditioner=P, stepsize=0.7).x
    assert relative(to_deepinv(ours, P, physics, 0.7)(y, physics), expected) < 1e-5


@pytest.mark.parametrize("stepsize", [0.4, 0.9])
def test_deepinv_momentum_is_deepinvs_own_fista(stepsize):
    physics = camera()
    y, denoiser = physics.A(images(3, 1, 16, 16)), tiny_denoiser()
    terms = {
        "data_fidelity": deepinv.optim.data_fidelity.L2(),
        "prior": deepinv.optim.PnP(denoiser),
    }
    theirs = deepinv.optim.FISTA(**terms, stepsize=stepsize, max_iter=12, g_param=2 / 255)(
        y, physics
    )
    ours = solver(iterations=12, denoiser=denoiser, momentum="deepinv", start="adjoint")
    assert relative(to_deepinv(ours, None, physics, stepsize)(y, physics), theirs) < 1e-6
    assert relative(to_deepinv(ours, stepping, physics, stepsize)(y, physics), theirs) > 1e-2


def test_no_stopping_rule_cuts_the_iterations():
    """A run that stands still from its start (identity denoiser, noiseless, adjoint start) goes
    through all of them.
    """
    physics, seen = camera(), []

    def counting(gradient, iterate, k):
        seen.append(k)
        return gradient

    ours = dipa.FISTA(Bare(), iterations=30)
    to_deepinv(ours, counting, physics, 1.0)(physics.A(images(1, 1, 16, 16)), physics)
    assert seen == list(range(1, 31))


def test_it_starts_afresh_at_every_call():
    physics = camera()
    model = to_deepinv(solver(iterations=5), stepping, physics, 0.5)
    first, second = (physics.A(images(2, 1, 16, 16, seed=seed)) for seed in (0, 1))
    once = model(first, physics)
    model(second, physics)
    assert torch.equal(model(first, physics), once)


def test_one_over_the_norm_and_a_start_of_the_users():
    physics = camera()
    y, begin = physics.A(images(2, 1, 16, 16)), images(2, 1, 16, 16, seed=5)
    ours = solver(iterations=4)
    model = to_deepinv(ours, None, physics)
    assert relative(model(y, physics), ours(y, physics).x) < 1e-5
    assert relative(model(y, physics, init=physics.A_adjoint(y)), ours(y, physics).x) < 1e-5
    assert relative(model(y, physics, init=begin), ours(y, physics).x) > 1e-3


def test_a_divergence_ends_as_ours_does():
    physics = camera()
    y = physics.A(images(2, 1, 16, 16))
    ours = dipa.FISTA(Bare(), iterations=300, start="zero")
    expected = ours(y, physics, stepsize=5.0)
    assert expected.status == "diverged"
    calls = []
    found = to_deepinv(ours, lambda g, z, k: calls.append(k) or g, physics, 5.0)(y, physics)
    assert torch.isfinite(found).all() and relative(found, expected.x) < 1e-4
    assert calls == list(range(1, expected.iterations + 2))


def test_deepinvs_metrics_work():
    physics, x = camera(), images(2, 1, 16, 16)
    found, metrics = to_deepinv(solver(iterations=5), None, physics, 0.5)(
        physics.A(x), physics, x_gt=x, compute_metrics=True
    )
    assert [len(metrics["psnr"][i]) for i in range(2)] == [6, 6]
    assert metrics["psnr"][0][-1] == pytest.approx(dipa.metrics.psnr(found, x)[0].item(), abs=1e-4)


def test_the_model_holds_the_trained_tensors():
    physics, denoiser = camera(), tiny_denoiser()
    P = dipa.LinearPreconditioner.identity(physics)
    y = physics.A(images(2, 1, 16, 16))
    model = to_deepinv(solver(iterations=4, denoiser=denoiser), P, physics, 0.5)
    names = list(model.state_dict())
    assert any(name.endswith("preconditioner.matrix") for name in names)
    assert any(name.endswith("denoiser.in_conv.weight") for name in names)
    assert not model.training and not model(y, physics).requires_grad
    model.double()
    assert model(y.double(), physics.double()).dtype == torch.float64


def test_unfolded_gradients_reach_the_preconditioner():
    physics, ours = camera(), solver(iterations=4)
    y = physics.A(images(2, 1, 16, 16))
    gradients = []
    for run in (
        lambda P: to_deepinv(ours, P, physics, 0.5, unfold=True)(y, physics),
        lambda P: ours(y, physics, preconditioner=P, stepsize=0.5, backward=None).x,
    ):
        P = dipa.LinearPreconditioner.identity(physics)
        P.matrix.data += 0.01 * torch.randn(P.matrix.shape, generator=rng(3))
        run(P).square().sum().backward()
        gradients.append(P.matrix.grad)
    assert gradients[1].norm() > 0 and relative(*gradients) < 1e-5


def test_unfolding_adds_no_parameters_of_deepinv():
    P = dipa.LinearPreconditioner.identity(camera())
    model = to_deepinv(solver(iterations=2), P, camera(), 0.5, unfold=True)
    assert [parameter.shape for parameter in model.parameters() if parameter.requires_grad] == [
        P.matrix.shape
    ]


def test_refuses():
    refuses(
        lambda: to_deepinv(lambda y, physics: y, None, camera(), 0.5), "solver", "function", "FISTA"
    )
    refuses(lambda: to_deepinv(solver(), None, camera(), "auto"), "stepsize", "'auto'", "1/L")
    refuses(lambda: to_deepinv(solver(), None, camera(), 0.0), "stepsize", "0.0")


class Own:
    """A prior of one's own: no module, but it holds one."""

    def __init__(self):
        self.net = tiny_denoiser()

    def step(self, z, direction, stepsize):
        return self.net(z - stepsize * direction, 0.0)


def test_what_a_prior_of_one_s_own_holds_follows_the_model():
    physics = single_pixel((1, 8, 8), ratio=0.4)
    model = dipa.to_deepinv(dipa.FISTA(Own(), iterations=2), None, physics)
    held = Own().net.state_dict()
    assert len(model.state_dict()) == len(held)
    model, physics = model.double(), physics.double()
    assert model(physics.A(torch.rand(1, 1, 8, 8).double()), physics).dtype == torch.float64


# --- compiled: one graph, without a break ---------------------------------------------------------


def one_graph(model):
    torch.compiler.reset()
    return torch.compile(model, fullgraph=True, backend="eager")


def learned_from(x: torch.Tensor, physics):
    """A preconditioner that knows the images it is made of."""
    P = dipa.LinearPreconditioner.ridge(physics, x)
    assert "trust" in P.setting
    return P


@pytest.mark.parametrize("tolerance", [0.0, 0.05])
@pytest.mark.parametrize("momentum", ["nesterov", "none"])
def test_it_compiles_to_one_graph_with_the_same_images(momentum, tolerance):
    physics, kind = camera(), smooth_images(160, 16)
    P = learned_from(kind, physics)
    x = torch.cat([kind[:2], images(2, 1, 16, 16)])
    ours = dipa.FISTA(dipa.PnP(tiny_denoiser()), 6, momentum=momentum, tolerance=tolerance)
    y = physics.A(x)
    result = ours(y, physics, preconditioner=P)
    assert result.untrusted == 2  # some are left out, some are not
    if tolerance:
        assert result.status == "converged"
    model = to_deepinv(ours, P, physics)
    assert relative(one_graph(model)(y, physics), result.x) < 1e-5


def test_it_compiles_with_what_acts_with_its_operator():
    physics, x = camera(), images(2, 1, 16, 16)
    P = dipa.CombinedSteps(3, degree=2, widths=(1.0,))
    ours = solver(iterations=3)
    wanted = ours(physics.A(x), physics, preconditioner=P).x
    assert relative(one_graph(to_deepinv(ours, P, physics))(physics.A(x), physics), wanted) < 1e-5


def test_it_compiles_with_a_network():
    physics, x = camera(), images(2, 1, 16, 16)
    P = neural("unet", (1, 16, 16))
    ours = solver(iterations=3)
    wanted = ours(physics.A(x), physics, preconditioner=P).x
    assert relative(one_graph(to_deepinv(ours, P, physics))(physics.A(x), physics), wanted) < 1e-5


def test_a_compiled_divergence_ends_as_ours_does():
    physics = camera()
    y, ours = physics.A(images(2, 1, 16, 16)), dipa.FISTA(Bare(), iterations=20, start="zero")
    result = ours(y, physics, stepsize=5.0)
    assert result.status == "diverged" and result.iterations < 18
    compiled = one_graph(to_deepinv(ours, None, physics, 5.0))
    assert relative(compiled(y, physics), result.x) < 1e-5
