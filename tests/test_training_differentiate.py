"""Ways to differentiate a solve, against plain automatic differentiation, written-out sums and
deepinv's JFB.
"""

import math

import deepinv
import pytest
import torch
from batteries import (
    Bare,
    identity_denoiser,
    images,
    refuses,
    relative,
    rng,
    smooth_images,
    solver,
    tiny_denoiser,
)
from members import PRIORS

import dipa
from dipa import LinearPreconditioner, NeuralPreconditioner, ScalarSteps
from dipa.choices import WAYS
from dipa.operators import mri, single_pixel
from dipa.solvers import MOMENTA, data_gradient
from dipa.training import Differentiation
from dipa.training.differentiate import (
    _SignedDnCNN,
    called,
    check,
    differentiated,
    low_memory,
    pack,
    straight_through,
    unpack,
)

EXACT = ("unrolled", "checkpointed")


def dncnn(
    seed: int = 0, depth: int = 4, bias: bool = True, nf: int = 16, channels: int = 1
) -> deepinv.models.DnCNN:
    net = deepinv.models.DnCNN(channels, channels, depth=depth, nf=nf, bias=bias, pretrained=None)
    for parameter in net.parameters():
        parameter.data = (
            0.3 * torch.randn(parameter.shape, generator=rng(seed)) / parameter[0].numel() ** 0.5
        )
    return net.eval().requires_grad_(False)


# --- the frozen denoiser that keeps signs ---------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [(1, 8, 1, 1), (2, 16, 5, 3), (3, 64, 8, 8)])
def test_packed_signs_are_the_signs(size, dtype):
    maps = torch.randn(size, generator=rng(0)).relu().to(dtype)
    bits = pack(maps)
    assert bits.shape == (size[0], *size[2:], size[1] // 8) and bits.dtype == torch.uint8
    assert torch.equal(unpack(bits, dtype) > 0, maps > 0)


def vjp(
    denoiser, x: torch.Tensor, weights: torch.Tensor, precision: str
) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_(True)
    out = dipa.PnP(denoiser, precision=precision).denoise(x)
    return out.detach(), torch.autograd.grad((out * weights).sum(), x)[0]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize(
    "make", [dncnn, lambda: dncnn(bias=False), lambda: dncnn(depth=2), dipa.denoisers.load]
)
@pytest.mark.parametrize("size", [(2, 1, 8, 8), (3, 2, 7, 5)])
def test_signs_are_enough_for_the_bits_of_the_gradient(make, size, precision):
    net, x = make(), images(*size)
    weights = torch.randn(size, generator=rng(1))
    plain, kept = vjp(net, x, weights, precision), vjp(low_memory(net), x, weights, precision)
    assert isinstance(low_memory(net), _SignedDnCNN)
    assert torch.equal(plain[0], kept[0]) and torch.equal(plain[1], kept[1])


def test_changed_weights_are_seen():
    net, x = dncnn(), images(2, 1, 8, 8)
    kept = low_memory(net)
    kept(x, None)
    net.in_conv.weight.mul_(2)
    net.out_conv.weight = torch.nn.Parameter(3 * net.out_conv.weight, requires_grad=False)
    assert torch.equal(kept(x, None), net(x, None))


def test_signs_give_the_derivative_in_float64():
    net, x = dncnn().double(), images(1, 1, 6, 6, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: low_memory(net)(x, None), x)


def test_a_colour_denoiser_keeps_signs_too():
    net, x = dncnn(channels=3), images(2, 3, 8, 8).requires_grad_(True)
    found, plain = (
        torch.autograd.grad(f(x, None).square().sum(), x)[0] for f in (low_memory(net), net)
    )
    assert relative(found, plain) < 1e-6, "some processors sum three channels in another order"


def trainable():
    return dncnn().requires_grad_(True)


def smooth_activation():
    net = dncnn()
    net.nl_list[1] = torch.nn.SiLU()
    return net


class Child(deepinv.models.DnCNN):
    def forward(self, x, sigma=None):
        return 0.5 * super().forward(x, sigma)


@pytest.mark.parametrize(
    "make",
    [trainable, smooth_activation, lambda: dncnn(nf=12), lambda: Child(1, 1, 3, pretrained=None)],
)
def test_what_is_not_a_frozen_dncnn_is_computed_again(make):
    net, x = make(), images(2, 1, 8, 8)
    weights = torch.randn(x.shape, generator=rng(1))
    plain, kept = vjp(net, x, weights, "float32"), vjp(low_memory(net), x, weights, "float32")
    assert not isinstance(low_memory(net), _SignedDnCNN)
    assert torch.equal(plain[0], kept[0]) and torch.equal(plain[1], kept[1])


def test_one_bit_a_feature_is_kept():
    """19 layers of 64 features: 152 bytes a pixel beside the image, where automatic
    differentiation keeps 4,864.
    """
    net = dipa.denoisers.load()
    prior = dipa.PnP(low_memory(net))
    x = images(1, 1, 16, 16).requires_grad_(True)
    out = prior.denoise(x)
    node = out.grad_fn
    while not hasattr(node, "signs"):
        node = node.next_functions[0][0]
    kept = sum(bits.numel() * bits.element_size() for bits in node.signs)
    assert kept == 16 * 16 * 19 * 64 // 8


# --- ways to differentiate ------------------------------------------------------------------------


def gradient(
    way,
    P,
    *,
    K=6,
    physics=None,
    x=None,
    prior=dipa.PnP,
    denoiser=None,
    momentum="nesterov",
    **options,
):
    """The supervised loss and its gradient on P's parameters, computed as ``way`` says."""
    physics = physics or single_pixel((1, 8, 8), ratio=0.3)
    x = smooth_images(4) if x is None else x
    plan = Differentiation(way, **options)
    solve = differentiated(
        plan, dipa.FISTA(prior(denoiser or tiny_denoiser()), iterations=K, momentum=momentum)
    )
    y = physics.A(x)
    result = solve(y, physics, preconditioner=called(plan, P), stepsize=0.4, backward=plan.backward)
    loss = (result.x - x).square().sum()
    parameters = [p for p in P.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return loss.item(), torch.cat(
        [
            torch.zeros(p.numel()) if g is None else g.flatten()
            for p, g in zip(parameters, found, strict=True)
        ]
    )


def linear(physics=None):
    P = LinearPreconditioner.identity(physics or single_pixel((1, 8, 8), ratio=0.3))
    P.matrix.data += 0.1 * torch.randn(P.matrix.shape, generator=rng(3))
    return P


def neural(size=(1, 8, 8)):
    return NeuralPreconditioner(
        "convnext", img_size=size, features=4, blocks=2, code_dim=4, start="random"
    )


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
@pytest.mark.parametrize(
    "make", [linear, neural, lambda: ScalarSteps(6)], ids=["linear", "neural", "per iteration"]
)
def test_checkpointed_is_unrolled_to_the_bit(make, prior):
    P = make()
    (loss, exact), (again, found) = (gradient(way, P, prior=prior) for way in EXACT)
    assert loss == again and torch.equal(exact, found) and float(exact.norm()) > 0


def test_checkpointed_is_unrolled_on_two_channels():
    physics, x = mri((2, 8, 8), acceleration=2), images(3, 2, 8, 8)
    P = neural((2, 8, 8))
    (loss, exact), (again, found) = (gradient(way, P, physics=physics, x=x) for way in EXACT)
    assert loss == again and torch.equal(exact, found)


@pytest.mark.parametrize("tail", [6, 7])
def test_a_tail_of_all_iterations_is_exact(tail):
    P = linear()
    assert torch.equal(gradient("truncated", P, tail=tail)[1], gradient("unrolled", P)[1])


@pytest.mark.parametrize("tail", [1, 2, 5])
def test_truncated_is_the_sum_of_the_last_terms(tail):
    """P written as one copy per iteration: the gradients of the last copies alone are added up."""
    P, K = linear(), 6
    copies = [LinearPreconditioner.rebuild(P.header(), P.state_dict()) for _ in range(K)]
    physics, x = single_pixel((1, 8, 8), ratio=0.3), smooth_images(4)
    result = solver(K)(
        physics.A(x),
        physics,
        preconditioner=lambda g, z, k: copies[k - 1](g, z, k),
        stepsize=0.4,
        backward=None,
    )
    terms = torch.autograd.grad((result.x - x).square().sum(), [copy.matrix for copy in copies])
    loss, found = gradient("truncated", P, K=K, tail=tail)
    assert relative(found, sum(terms[-tail:]).flatten()) < 1e-5
    assert loss == pytest.approx(gradient("unrolled", P, K=K)[0])


def test_jacobian_free_is_the_last_term():
    P = linear()
    assert torch.equal(gradient("jacobian_free", P, tail=5)[1], gradient("truncated", P, tail=1)[1])


def test_jacobian_free_is_deepinvs():
    """deepinv's PGD at equilibrium with jacobian_free=True: the same gradient on a
    stepsize-like parameter.
    """
    physics, x, K = single_pixel((1, 8, 8), ratio=0.3), smooth_images(3), 12
    P, denoiser, y = (
        linear(),
        tiny_denoiser(),
        single_pixel((1, 8, 8), ratio=0.3).A(smooth_images(3)),
    )

    class Preconditioned(deepinv.optim.L2):
        def __init__(self):
            super().__init__()
            self.P = P

        def grad(self, x, y, physics, *args, **kwargs):
            return self.P(physics.A_adjoint(physics.A(x) - y), x, 1)

    model = deepinv.optim.PGD(
        Preconditioned(),
        deepinv.optim.PnP(denoiser),
        stepsize=0.4,
        max_iter=K,
        unfold=True,
        trainable_params=[],
        DEQ=deepinv.optim.DEQConfig(jacobian_free=True),
    )
    theirs = torch.autograd.grad((model(y, physics) - x).square().sum(), P.matrix)[0]
    # deepinv runs K iterations without gradient, then one more with it
    found = gradient(
        "jacobian_free", P, K=K + 1, physics=physics, x=x, denoiser=denoiser, momentum="none"
    )[1]
    assert relative(found, theirs.flatten()) < 1e-4


def test_jacobian_free_points_down_where_the_iteration_contracts():
    """Contractive steps: the one-term gradient is within 90 degrees of the exact one, a longer
    tail is closer.
    """
    P = linear()
    exact = gradient("unrolled", P, K=30, momentum="none")[1]
    cosines = [
        torch.cosine_similarity(
            gradient("truncated", P, K=30, momentum="none", tail=t)[1], exact, dim=0
        )
        for t in (1, 3, 10)
    ]
    assert 0 < cosines[0] < cosines[1] < cosines[2] <= 1 + 1e-6


def test_restart_is_the_t_step_operator_applied_again():
    """Two solves of three iterations each, the second from where the first ended, the gradient
    through the second.
    """
    P, physics, x = linear(), single_pixel((1, 8, 8), ratio=0.3), smooth_images(4)
    y, prior = physics.A(x), dipa.PnP(tiny_denoiser())

    def operator(x0):
        x, z, momentum = x0, x0, MOMENTA["nesterov"]()
        for k in range(1, 4):
            x_next = prior.step(z, P(data_gradient(physics, y, z), z, k), 0.4)
            x, z = x_next, x_next + next(momentum) * (x_next - x)
        return x

    with torch.no_grad():
        first = operator(physics.A_adjoint(y))
    loss = (operator(first) - x).square().sum()
    found = gradient("restart", P, tail=3)
    assert found[0] == pytest.approx(loss.item(), rel=1e-6)
    assert relative(found[1], torch.autograd.grad(loss, P.matrix)[0].flatten()) < 1e-5


@pytest.mark.parametrize("prior", PRIORS.values(), ids=PRIORS)
def test_straight_through_is_exact_for_a_denoiser_whose_jacobian_is_the_identity(prior):
    """Written out: the same gradient as for x + c, with the values of the denoiser itself."""
    P, net = linear(), tiny_denoiser()

    def shifted(x, sigma):
        return x + (net(x, None) - x).detach()

    expected = gradient("unrolled", P, prior=prior, denoiser=shifted)
    found = gradient("straight_through", P, prior=prior, denoiser=net)
    assert (
        found[0] == pytest.approx(expected[0], rel=1e-6) and relative(found[1], expected[1]) < 1e-6
    )
    assert relative(found[1], gradient("unrolled", P, prior=prior, denoiser=net)[1]) > 1e-3


def test_straight_through_has_the_values_of_the_denoiser_and_needs_one():
    net, x = tiny_denoiser(), images(2, 1, 8, 8).requires_grad_(True)
    assert torch.equal(straight_through(net)(x, None), net(x, None))
    refuses(
        lambda: differentiated(Differentiation("straight_through"), dipa.FISTA(Bare())),
        "differentiation.way",
        "Bare",
    )


def test_the_iterations_before_the_tail_keep_nothing():
    kept = {}
    for K in (6, 12):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            gradient("truncated", linear(), K=K, tail=2)
        kept[K] = sum(sizes)
    assert kept[6] == kept[12] > 0


def test_per_iteration_parameters_need_the_whole_run():
    for way in ("truncated", "jacobian_free", "restart"):
        refuses(
            lambda way=way: check(Differentiation(way), ScalarSteps(4), 4),
            "differentiation.way",
            way,
            "ScalarSteps",
        )
    for way in WAYS:
        check(Differentiation(way), linear(), 5)
        check(Differentiation(way), neural(), 5)
    refuses(lambda: distil("truncated", ScalarSteps(3)), "differentiation.way")


@pytest.mark.parametrize(("tail", "iterations"), [(5, 12), (2, 3), (5, 6)])
def test_a_restart_that_would_fall_inside_the_tail_is_refused(tail, iterations):
    """``tail`` iterations are one operator of x alone only where the last restart lies right
    before them.
    """
    allowed = f"a divisor of the solver's {iterations} iterations"
    refuses(
        lambda: check(Differentiation("restart", tail), linear(), iterations),
        "differentiation.tail",
        f"got {tail}",
        allowed,
    )
    check(Differentiation("truncated", tail), linear(), iterations)
    for fits in (1, iterations, iterations + 1):
        check(Differentiation("restart", fits), linear(), iterations)


def test_training_refuses_a_restart_that_does_not_fit():
    refuses(lambda: distil("restart", tail=3), "differentiation.tail", "4 iterations")


# --- in training ----------------------------------------------------------------------------------


def distil(way, P=None, **options):
    student, teacher = (single_pixel((1, 8, 8), ratio=ratio) for ratio in (0.3, 0.7))
    budget = dipa.Budget(steps=25, batch_size=10, learning_rate=3e-3, schedule="constant")
    arguments = {"losses": dipa.LossWeights(supervised=1.0), "budget": budget, "progress": False}
    plan = Differentiation(way, **options)
    P = P or LinearPreconditioner.identity(student)
    return dipa.distill(
        solver(4),
        P,
        student,
        teacher,
        smooth_images(10),
        differentiation=plan,
        **arguments,
        validation=0,
    )


@pytest.mark.parametrize("way", WAYS)
def test_every_way_trains(way):
    fit = distil(way, tail=2)
    losses = [record["loss"] for record in fit.history]
    assert losses[-1] < 0.97 * losses[0] and math.isfinite(losses[-1])
    assert fit.record["differentiation"] == {"way": way, "tail": 2}


def test_exact_ways_share_their_checkpoints_and_others_do_not(tmp_path):
    """They compute the same bits, so a run may go on with more memory, or less; another
    gradient is another run.
    """
    student, teacher = (single_pixel((1, 8, 8), ratio=ratio) for ratio in (0.3, 0.7))

    def run(way, tail=2):
        arguments = {
            "losses": dipa.LossWeights(supervised=1.0),
            "budget": dipa.Budget(steps=2),
            "progress": False,
        }
        P = LinearPreconditioner.identity(student)
        plan = Differentiation(way, tail)
        return dipa.distill(
            solver(3),
            P,
            student,
            teacher,
            smooth_images(4),
            differentiation=plan,
            checkpoint=path,
            **arguments,
            validation=0,
        )

    path = tmp_path / "run.checkpoint"
    first = run("unrolled")
    assert run("checkpointed").history == first.history
    refuses(lambda: run("truncated"), "run.checkpoint", "a run with other")
    path.unlink()
    run("truncated")
    refuses(lambda: run("truncated", tail=1), "run.checkpoint")


def test_a_prior_without_a_denoiser_is_computed_again():
    class Step:
        def step(self, z, direction, stepsize):
            return (z - stepsize * direction).tanh()

    physics, x, P = single_pixel((1, 8, 8), ratio=0.3), smooth_images(2), linear()
    found = []
    for way in EXACT:
        plan = Differentiation(way)
        result = differentiated(plan, dipa.FISTA(Step(), iterations=3))(
            physics.A(x), physics, preconditioner=P, stepsize=0.4, backward=None
        )
        found.append(torch.autograd.grad(result.x.square().sum(), P.matrix)[0])
    assert torch.equal(*found)


def test_backward_is_checked_and_zero_means_none():
    physics, x, P = single_pixel((1, 8, 8), ratio=0.3), smooth_images(2), linear()
    assert not solver(3)(
        physics.A(x), physics, preconditioner=P, stepsize=0.4, backward=0
    ).x.requires_grad
    refuses(lambda: solver(3)(physics.A(x), physics, stepsize=0.4, backward=-1), "backward", "-1")


def test_momentum_restarts():
    from dipa.solvers.proximal import nesterov, weights

    plain = [b for b, _ in zip(nesterov(), range(3), strict=False)]
    assert weights("nesterov", 7, restart=3) == [*plain[:2], 0.0, *plain[:2], 0.0, plain[0]]
    assert weights("nesterov", 3) == plain
    refuses(lambda: dipa.FISTA(dipa.PnP(identity_denoiser), restart=-1), "restart", "-1")
    assert "restart" not in solver(3).describe() and solver(3, restart=2).describe()["restart"] == 2
