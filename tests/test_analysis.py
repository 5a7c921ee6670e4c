"""Analysis against dense linear algebra, closed forms and PyTorch's reverse mode."""

import math

import deepinv
import pytest
import torch
from batteries import (
    Bare,
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

import dipa
from dipa import analysis, linalg, networks
from dipa.analysis import audit
from dipa.analysis.nullspace import RESIDUAL_LIMIT
from dipa.operators import MatrixBasis, mri, range_basis, single_pixel
from dipa.preconditioners import (
    ConvolutionalSteps,
    Hessian,
    NeuralPreconditioner,
    PointwiseSteps,
    Polynomial,
)
from dipa.priors import RED

BACKBONES = list(networks.BACKBONES)


def camera(size=8, ratio=0.3):
    return single_pixel((1, size, size), ratio=ratio)


def dense_operator(physics):
    return linalg.dense(physics.A, size_of(physics)).double()


def trained_like(physics, form="low_rank", scale=0.1):
    """A linear preconditioner away from the identity."""
    P = dipa.LinearPreconditioner.identity(physics, form=form)
    P.matrix.data += scale * torch.randn(P.matrix.shape, generator=rng(11))
    return P


def network(name="convnext", channels=1, size=8):
    options = {"img_size": (channels, size, size), "features": 8, "blocks": 1, "code_dim": 8}
    return NeuralPreconditioner(name, **options, start="random").double().requires_grad_(False)


def bent(gradient, iterate, k):
    """A nonlinear preconditioner that uses all its arguments."""
    return k * torch.sin(gradient) + gradient.roll(1, -1) * iterate


def pushing(direction, push):
    """P = I plus ``push`` times a fixed unit image, whatever the gradient."""
    direction = direction / direction.norm()
    return lambda gradient, iterate, k: gradient + push * direction


def unseen(physics):
    """An image that ``physics`` maps to zero."""
    noise = torch.randn((1, *size_of(physics)), generator=rng(4))
    return noise - range_basis(physics, size_of(physics)).project(noise)


def test_audit_against_dense_projectors():
    physics = camera()
    matrix = dense_operator(physics)
    x_true, x = torch.rand(4, 1, 8, 8, generator=rng(0)), torch.rand(4, 1, 8, 8, generator=rng(1))
    y = physics.A(x_true)
    found = audit(x, x_true, y, physics, physics.range_basis())

    projector = torch.linalg.pinv(matrix) @ matrix
    error = (x - x_true).flatten(1).double()
    inside = error @ projector.T
    scale = x_true.flatten(1).double().norm(dim=1)
    residual = (error @ matrix.T).norm(dim=1) / y.flatten(1).double().norm(dim=1)
    assert found["error_range"] == pytest.approx(
        (inside.norm(dim=1) / scale).mean().item(), rel=1e-5
    )
    assert found["error_null"] == pytest.approx(
        ((error - inside).norm(dim=1) / scale).mean().item(), rel=1e-5
    )
    assert found["residual"] == pytest.approx(residual.mean().item(), rel=1e-5)


def test_audit_of_the_truth_is_zero():
    physics = camera(ratio=0.5)
    x = images(2, 1, 8, 8, seed=1)
    assert all(
        value < 1e-6 for value in audit(x, x, physics.A(x), physics, physics.range_basis()).values()
    )


# Jacobian


@pytest.mark.parametrize("form", ["low_rank", "dense"])
@pytest.mark.parametrize("declared", [True, False], ids=["declared linear", "differentiated"])
def test_jacobian_of_a_matrix_is_the_matrix(form, declared):
    P = trained_like(camera(), form)
    asked = P if declared else lambda gradient, iterate, k: P(gradient, iterate, k)
    assert relative(analysis.jacobian(asked, images(1, 1, 8, 8), chunk=10), P.dense()) < 1e-6


LINEAR = {
    "Hessian": lambda: Hessian(downsampling(8), regularization=0.1),
    "polynomial": lambda: Polynomial.chebyshev(downsampling(8)),
    "kernels": lambda: ConvolutionalSteps(3, 5),
    "pixels": lambda: PointwiseSteps(3, (1, 8, 8)),
}


@pytest.mark.parametrize("make", LINEAR.values(), ids=LINEAR)
def test_jacobian_of_linear_preconditioners_at_an_iteration(make):
    P, zero = make(), torch.zeros(1, 1, 8, 8)
    for parameter in P.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=rng(6))
    expected = linalg.dense(lambda g: P(g, zero, 2).detach(), (1, 8, 8))
    assert relative(analysis.jacobian(P, images(1, 1, 8, 8), k=2, chunk=9), expected) < 1e-5
    assert (
        not P.traits.iteration_dependent
        or relative(analysis.jacobian(P, images(1, 1, 8, 8), k=1), expected) > 1e-3
    )


def test_attention_of_pytorch_is_differentiated():
    """Its fused kernels have no forward mode: without plain products this raises."""
    attention = (
        torch.nn.MultiheadAttention(4, 2, batch_first=True).double().eval().requires_grad_(False)
    )

    def P(gradient, iterate, k):
        tokens = gradient.reshape(len(gradient), -1, 4)
        return attention(tokens, tokens, tokens, need_weights=False)[0].reshape(gradient.shape)

    g = images(1, 1, 4, 4, dtype=torch.float64)
    rows = torch.autograd.functional.jacobian(lambda g: P(g, g, 1), g).reshape(16, 16)
    assert relative(analysis.jacobian(P, g), rows) < 1e-10


@pytest.mark.parametrize("name", BACKBONES)
def test_jacobian_of_networks_against_reverse_mode(name):
    P, g = network(name), images(1, 1, 8, 8, dtype=torch.float64)
    rows = torch.autograd.functional.jacobian(lambda g: P(g, torch.zeros_like(g), 2), g).reshape(
        64, 64
    )
    assert relative(analysis.jacobian(P, g, k=2), rows) < 1e-10
    assert relative(rows, torch.eye(64, dtype=torch.float64)) > 1e-3


def test_jacobian_of_two_channels_is_two_blocks():
    P, g = network(channels=2), images(1, 2, 8, 8, dtype=torch.float64)
    J = analysis.jacobian(P, g)
    assert J.shape == (128, 128) and J[:64, 64:].norm() == J[64:, :64].norm() == 0
    assert relative(J[:64, :64], J[64:, 64:]) > 1e-3


def test_jacobian_in_closed_form_uses_iterate_and_iteration():
    g, z = images(1, 1, 4, 4, dtype=torch.float64), images(1, 1, 4, 4, seed=1, dtype=torch.float64)
    shift = linalg.dense(lambda x: x.roll(1, -1), (1, 4, 4), dtype=torch.float64)
    expected = 3 * torch.diag(torch.cos(g.flatten())) + torch.diag(z.flatten()) @ shift
    assert relative(analysis.jacobian(bent, g, z, 3, chunk=5), expected) < 1e-14


def test_chosen_columns_and_chunks():
    P, g = network(), images(1, 1, 8, 8, dtype=torch.float64)
    whole = analysis.jacobian(P, g)
    some = analysis.jacobian(P, g, columns=[63, 0, 7], chunk=2)
    assert some.shape == (64, 3) and relative(some, whole[:, [63, 0, 7]]) < 1e-12


def test_finite_differences_agree_in_float64():
    P, g = network(), images(1, 1, 8, 8, dtype=torch.float64)
    exact = analysis.jacobian(P, g, k=4)
    assert relative(analysis.finite_differences(P, g, k=4, step=1e-6), exact) < 1e-6
    chosen = analysis.finite_differences(P, g, k=4, step=1e-6, columns=[5, 2], chunk=1)
    assert relative(chosen, exact[:, [5, 2]]) < 1e-6


def test_finite_differences_are_one_sided():
    """The error of one-sided differences halves with the step and is - step / 2 sin(g) for a
    sine.
    """
    g, ones = images(1, 1, 4, 4, dtype=torch.float64), torch.ones(1, 1, 4, 4, dtype=torch.float64)
    for step in (1e-3, 5e-4):
        found = analysis.finite_differences(
            lambda g, z, k: torch.sin(g), g, ones, step=step
        ).diagonal()
        error = found - torch.cos(g.flatten())
        assert relative(error, -step / 2 * torch.sin(g.flatten())) < 1e-2


def test_default_step_serves_float32():
    g = images(1, 1, 8, 8)
    assert relative(analysis.finite_differences(bent, g), analysis.jacobian(bent, g)) < 1e-3


def test_jacobian_leaves_no_trace():
    P, fast = network().requires_grad_(True), torch.backends.mha.get_fastpath_enabled()
    found = analysis.jacobian(P, images(1, 1, 8, 8, dtype=torch.float64), columns=[0])
    assert not found.requires_grad and all(parameter.grad is None for parameter in P.parameters())
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_directional_is_the_jacobian_on_directions():
    g, v = images(1, 1, 8, 8, dtype=torch.float64), images(5, 1, 8, 8, seed=2, dtype=torch.float64)
    found = analysis.directional(network(), g, v, chunk=2)
    assert relative(found.flatten(1), v.flatten(1) @ analysis.jacobian(network(), g).T) < 1e-12


def test_linearity_index_in_closed_form():
    a, b = images(3, 1, 4, 4), images(3, 1, 4, 4, seed=1)
    flat = [x.flatten(1) for x in (2 * a * b, a * a, b * b)]
    expected = flat[0].norm(dim=1) / (flat[1].norm(dim=1) + flat[2].norm(dim=1))
    assert relative(analysis.linearity_index(lambda g, z, k: g * g, a, b), expected) < 1e-5
    assert analysis.linearity_index(
        lambda g, z, k: torch.ones_like(g), a, b
    ).tolist() == pytest.approx([0.5] * 3)
    assert analysis.linearity_index(trained_like(camera(4, 0.5)), a, b).max() < 1e-5


def test_antisymmetric_share():
    matrix = torch.randn(6, 6, generator=rng(0))
    assert analysis.antisymmetric_share(matrix + matrix.T) == 0
    assert analysis.antisymmetric_share(matrix - matrix.T) == pytest.approx(1)


def test_errors_of_differences_in_closed_form():
    """For a sine J is diagonal: the error of a step s is that of (sin(g + s) - sin(g)) / s, and
    falls with s.
    """
    g = images(1, 1, 4, 4, dtype=torch.float64)
    exact, steps = torch.cos(g).flatten(), (1.0, 0.3, 1e-3)
    found = analysis.difference_errors(lambda g, z, k: torch.sin(g), g, steps, chunk=5)
    differences = [((torch.sin(g + step) - torch.sin(g)) / step).flatten() for step in steps]
    assert found == pytest.approx(
        [((d - exact).norm() / exact.norm()).item() for d in differences], rel=1e-10
    )
    some = analysis.difference_errors(lambda g, z, k: torch.sin(g), g, steps, columns=[3, 9])
    here = [((d - exact)[[3, 9]].norm() / exact[[3, 9]].norm()).item() for d in differences]
    assert some == pytest.approx(here, rel=1e-10) and found[0] > found[1] > found[2]


def test_errors_of_differences_grow_again_with_rounding():
    """A matrix has no curvature: what is left is rounding, which a smaller step enlarges."""
    P, g = trained_like(camera()), images(1, 1, 8, 8)
    coarse, fine = analysis.difference_errors(P, g, (1.0, 1e-6), columns=range(10))
    assert coarse < 1e-5 and fine > 1e-3


def test_jacobian_refuses():
    g = images(1, 1, 4, 4)
    refuses(
        lambda: analysis.jacobian(bent, images(2, 1, 4, 4)),
        "gradient.shape",
        "(2, 1, 4, 4)",
        "one image",
    )
    refuses(lambda: analysis.jacobian(bent, g, images(1, 1, 4, 5)), "iterate.shape", "(1, 1, 4, 5)")
    refuses(lambda: analysis.jacobian(bent, g, columns=[16]), "columns", "[16]", "[0, 15]")
    refuses(lambda: analysis.jacobian(bent, g, columns=[]), "columns", "at least one")
    refuses(lambda: analysis.jacobian(bent, g, chunk=0), "chunk", "0")
    refuses(lambda: analysis.finite_differences(bent, g, step=0.0), "step", "0.0")
    refuses(
        lambda: analysis.directional(bent, g, images(2, 1, 4, 5)),
        "directions.shape",
        "(2, 1, 4, 5)",
    )
    refuses(
        lambda: analysis.linearity_index(bent, g, images(2, 3, 4, 4)), "b.shape", "(2, 3, 4, 4)"
    )
    refuses(lambda: analysis.antisymmetric_share(torch.ones(2, 3)), "matrix.shape", "(2, 3)")
    refuses(lambda: analysis.difference_errors(bent, g, [1e-3, -1.0]), "steps", "-1.0")
    refuses(
        lambda: analysis.relative_distance(g, images(1, 1, 4, 5)),
        "matrix.shape",
        "(1, 1, 4, 4)",
        "(1, 1, 4, 5)",
    )


def test_relative_distance():
    reference = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert analysis.relative_distance(reference + torch.ones(2, 2), reference) == pytest.approx(
        2 / 5
    )


# Matrices


def test_a_multiple_of_the_identity_is_a_stepsize():
    factor, left = analysis.as_stepsize(
        lambda gradient, iterate, k: 0.3 * gradient, images(3, 2, 4, 4)
    )
    assert factor == pytest.approx(0.3) and left < 1e-7


def test_the_closest_stepsize_of_a_dense_matrix_is_that_of_least_squares():
    M, g = (
        torch.randn(16, 16, generator=rng(3), dtype=torch.float64),
        images(2, 1, 4, 4, dtype=torch.float64) - 0.5,
    )
    factor, left = analysis.as_stepsize(
        lambda gradient, iterate, k: (gradient.flatten(1) @ M.T).reshape(gradient.shape), g
    )
    answer = (g.flatten(1) @ M.T).reshape(-1, 1)
    solution = torch.linalg.lstsq(g.reshape(-1, 1), answer)
    assert factor == pytest.approx(solution.solution.item(), rel=1e-12)
    assert left == pytest.approx(
        (answer - solution.solution * g.reshape(-1, 1)).norm().item() / answer.norm().item(),
        rel=1e-12,
    )
    assert 0.1 < left < 1


def test_the_closest_stepsize_uses_iterate_and_iteration():
    g, z = images(2, 1, 4, 4), images(2, 1, 4, 4, seed=1)
    expected = 3 * torch.sin(g) + g.roll(1, -1) * z
    assert analysis.as_stepsize(bent, g, z, 3)[0] == pytest.approx(
        ((expected * g).sum() / g.square().sum()).item(), rel=1e-5
    )


def test_fixed_preconditioners_are_stepsizes_on_a_projector_only():
    for physics, projector in (
        (camera(), True),
        (mri((2, 8, 8), acceleration=2), True),
        (mri((1, 8, 8), acceleration=2), False),
    ):
        gradient = physics.A_adjoint_A(images(2, *size_of(physics)))
        hessian, left = analysis.as_stepsize(Hessian(physics, regularization=0.25), gradient)
        polynomial = Polynomial.l2(physics)
        at_one, remainder = analysis.as_stepsize(polynomial, gradient)
        assert (left < 1e-4) == (remainder < 1e-4) == projector
        if projector:
            assert hessian == pytest.approx(0.8, rel=1e-4) and at_one == pytest.approx(
                sum(polynomial.coefficients), rel=1e-3
            )


def test_a_perpendicular_direction_is_no_stepsize():
    g = torch.tensor([[[[1.0, 0.0]]]])
    assert analysis.as_stepsize(lambda gradient, iterate, k: gradient.roll(1, -1), g) == (0, 1)
    assert analysis.as_stepsize(lambda gradient, iterate, k: 0 * gradient, g) == (0, 0)


@pytest.mark.parametrize(
    "make", [camera, lambda: mri((2, 8, 6), acceleration=3)], ids=["camera", "MRI"]
)
@pytest.mark.parametrize("form", ["low_rank", "dense"])
def test_blocks_are_those_of_the_dense_matrix_between_all_functions(make, form):
    physics = make()
    P, basis, n = trained_like(physics, form), physics.range_basis(), math.prod(size_of(physics))
    W = linalg.dense(basis.transform, size_of(physics))
    whole = W @ P.dense().detach() @ W.T
    seen = basis.index.tolist()
    hidden = [row for row in range(n) if row not in seen]
    inside, outside = analysis.coordinate_blocks(P, basis)
    assert (
        relative(inside, whole[seen][:, seen]) < 1e-5
        and relative(outside, whole[hidden][:, seen]) < 1e-5
    )


def test_the_identity_has_an_identity_and_nothing():
    inside, outside = analysis.coordinate_blocks(dipa.Identity(), camera().range_basis())
    assert (
        (inside - torch.eye(19)).abs().max() < 1e-6
        and outside.shape == (45, 19)
        and outside.abs().max() < 1e-6
    )


def test_the_share_of_the_border_by_brute_force():
    size, width = (2, 5, 7), 2
    M = torch.randn(70, 70, generator=rng(2), dtype=torch.float64)
    border = [
        not (width <= h < 5 - width and width <= w < 7 - width)
        for _ in range(2)
        for h in range(5)
        for w in range(7)
    ]
    pairs = [
        (M[i, j].item() ** 2, border[j]) for i in range(70) if not border[i] for j in range(70)
    ]
    expected = sum(energy for energy, outer in pairs if outer) / sum(energy for energy, _ in pairs)
    assert analysis.border_share(M, size, width) == pytest.approx(expected, rel=1e-12)
    assert analysis.border_share(M.T, size, width) != pytest.approx(expected, rel=1e-3)


def test_the_share_of_the_border_of_known_matrices():
    assert analysis.border_share(torch.ones(36, 36), (1, 6, 6), 1) == pytest.approx(20 / 36)
    assert analysis.border_share(torch.eye(36), (1, 6, 6), 1) == 0
    assert analysis.border_share(torch.zeros(36, 36), (1, 6, 6), 1) == 0


def test_matrices_refuse():
    g = images(1, 1, 4, 4)
    refuses(
        lambda: analysis.as_stepsize(bent, torch.zeros(1, 1, 4, 4)), "gradient", "zero everywhere"
    )
    refuses(
        lambda: analysis.as_stepsize(bent, g, images(1, 1, 4, 5)), "iterate.shape", "(1, 1, 4, 5)"
    )
    refuses(
        lambda: analysis.coordinate_blocks(bent, camera().range_basis()),
        "preconditioner",
        "declares itself linear",
    )
    foreign = range_basis(inpainting(), (1, 8, 8))
    refuses(
        lambda: analysis.coordinate_blocks(dipa.Identity(), foreign),
        "basis",
        "MatrixBasis",
        "transform",
    )
    refuses(
        lambda: analysis.border_share(torch.ones(4, 5), (1, 2, 2), 1),
        "matrix.shape",
        "(4, 5)",
        "(4, 4)",
    )
    refuses(lambda: analysis.border_share(torch.ones(36, 36), (1, 6, 6), 3), "width", "3", "[1, 2]")


# Spectra

SPECTRA = {
    "camera": lambda: camera(),
    "MRI": lambda: mri((2, 8, 6), acceleration=3),
    "downsampling": lambda: downsampling(8),
    "inpainting": inpainting,
}


@pytest.mark.parametrize("make", SPECTRA.values(), ids=SPECTRA)
@pytest.mark.parametrize("form", ["low_rank", "dense"])
def test_spectra_against_a_dense_svd(make, form):
    physics = make()
    P = trained_like(physics, form, scale=0.02)
    H, J = dense_operator(physics), P.dense().detach().double()
    _, values, rows = torch.linalg.svd(H)
    V = rows[: int((values > 1e-6 * values.max()).sum())]
    whole = J @ H.T @ H
    on_range = torch.linalg.svdvals(V @ whole @ V.T)
    into_null = torch.linalg.svdvals(whole @ V.T - V.T @ (V @ whole @ V.T))
    found = analysis.spectra(P, physics)
    assert found.range_values.shape == (len(V),)
    assert (found.range_values.double() - on_range).abs().max() < 1e-5 * on_range.max()
    assert (found.null_values.double() - into_null).abs().max() < 1e-5 * on_range.max()
    assert found.condition_number == pytest.approx(
        (on_range.max() / on_range.min()).item(), rel=1e-2
    )
    own = range_basis(physics, size_of(physics))
    own = own.image(torch.eye(own.dim)).flatten(1).double()
    assert relative(found.range_block.double(), own @ whole @ own.T) < 1e-5


def test_a_projector_is_perfectly_conditioned_where_it_sees():
    physics = camera()
    found = analysis.spectra(dipa.Identity(), physics)
    assert found.condition_number == pytest.approx(1, abs=1e-5) and found.null_rank == 0
    assert found.range_rank == int(physics.mask.sum())
    # on the whole space: infinite
    assert torch.linalg.matrix_rank(dense_operator(physics)) == found.range_rank < 64


def test_a_direction_sent_into_the_null_space():
    """P = I + s n v^T with unit v seen and n unseen: one null value s, nothing changed on the
    range.
    """
    physics = camera()
    v, n = physics.range_basis().image(torch.eye(physics.range_basis().dim))[3], unseen(physics)[0]
    n = n / n.norm()

    def P(gradient, iterate, k):
        return gradient + 0.7 * (gradient * v).sum((1, 2, 3), keepdim=True) * n

    found = analysis.spectra(P, physics, images(1, 1, 8, 8))
    assert found.null_values[0].item() == pytest.approx(0.7, abs=1e-5) and found.null_rank == 1
    assert found.condition_number == pytest.approx(1, abs=1e-5)


def test_a_lost_direction_is_an_infinite_condition_number():
    P = dipa.LinearPreconditioner.identity(camera())
    P.matrix.data[:, 2] = 0
    found = analysis.spectra(P, camera())
    assert found.condition_number == math.inf and found.range_rank == len(found.range_values) - 1
    assert analysis.spectra(P, camera(), tolerance=0.0).range_rank >= found.range_rank


def test_spectra_do_not_depend_on_the_coordinates():
    physics, P, g = camera(), network(), images(1, 1, 8, 8, dtype=torch.float64)
    physics = physics.double()
    rotation = torch.linalg.qr(torch.randn(19, 19, generator=rng(2), dtype=torch.float64)).Q
    own = physics.range_basis()
    rotated = MatrixBasis(
        (1, 8, 8), rotation @ own.image(torch.eye(19, dtype=torch.float64)).flatten(1)
    )
    here, there = (
        analysis.spectra(P, physics, g, k=2, basis=basis, chunk=7) for basis in (own, rotated)
    )
    assert relative(there.range_values, here.range_values) < 1e-10
    assert relative(there.null_values, here.null_values) < 1e-10


def test_eigenvalues_say_where_a_plain_step_converges():
    """Steps x <- x - alpha P H^T (H x - y) shrink the range error by the largest |1 - alpha
    lambda| in the long run.
    """
    physics = camera(4, 0.5).double()
    P = trained_like(physics, scale=0.15).double()
    found = analysis.spectra(P, physics)
    factors = (1 - 0.5 * found.eigenvalues()).abs()
    basis, x = physics.range_basis(), images(1, 1, 4, 4, dtype=torch.float64)
    ours = [dipa.FISTA(Bare(), iterations=k, momentum="none", start="zero") for k in (30, 60)]
    short, long = (one(physics.A(x), physics, preconditioner=P, stepsize=0.5).x for one in ours)
    error = [basis.coordinates(found - x).norm().item() for found in (short, long)]
    assert 0.5 < factors.max() < 1 and found.radius(0.5) == factors.max().item()
    assert (error[1] / error[0]) ** (1 / 30) == pytest.approx(factors.max().item(), rel=2e-2)


def test_spectra_summary_and_refusals():
    found = analysis.spectra(trained_like(camera()), camera())
    assert found.summary()["range_rank"] == 19 and all(
        isinstance(v, int | float) for v in found.summary().values()
    )
    refuses(lambda: analysis.spectra(bent, camera()), "gradient", "None", "not linear")
    refuses(lambda: analysis.spectra(dipa.Identity(), camera(), tolerance=2.0), "tolerance", "2.0")


# Convergence


def test_curves_against_the_solver_and_by_hand():
    physics, x = downsampling(8), images(3, 1, 8, 8)
    y, P = physics.A(x) + 0.05, trained_like(physics, scale=0.02)
    ours = solver(iterations=7)
    found = analysis.convergence(
        solver(iterations=2), physics, y, x, preconditioner=P, stepsize=0.5, iterations=7
    )
    expected = ours(
        y, physics, preconditioner=P, stepsize=0.5, x_true=x, history=True, iterates=True
    )
    assert torch.equal(found.x, expected.x)
    for name in ("psnr", "residual", "change"):
        assert found.curves[name] == [record[name] for record in expected.history]
    fidelity = [
        0.5 * ((physics.A(z) - y) ** 2).sum((1, 2, 3)).mean().item() for z in expected.iterates
    ]
    assert found.curves["fidelity"] == pytest.approx(fidelity, rel=1e-5)
    assert found.curves["norm"] == pytest.approx(
        [z.flatten(1).norm(dim=1).mean().item() for z in expected.iterates]
    )


def test_a_thousand_iterations_settle_at_the_known_minimiser():
    """RED with D(x) = 0.9 x adds 0.05 ||x||^2 to the fidelity."""
    physics, x = inpainting(4), images(1, 1, 4, 4)
    y, ridge = physics.A(x), RED(lambda x, sigma: 0.9 * x)
    found = analysis.convergence(dipa.FISTA(ridge, momentum="none"), physics, y, stepsize=0.5)
    H = dense_operator(physics)
    minimiser = torch.linalg.solve(H.T @ H + 0.1 * torch.eye(16), (H.T @ y.flatten().double()))
    assert found.verdict == "settled" and found.stable and "psnr" not in found.curves
    assert {len(curve) for curve in found.curves.values()} == {1001}
    assert relative(found.x.flatten().double(), minimiser) < 1e-5
    objective = [
        f + 0.05 * n * n
        for f, n in zip(found.curves["fidelity"], found.curves["norm"], strict=True)
    ]
    assert (
        objective[-1] == pytest.approx(min(objective), rel=1e-5)
        and objective[0] > 1.05 * objective[-1]
    )


VERDICTS = {
    "moving": (solver(denoiser=identity_denoiser, start="zero"), None, 0.05, 5),
    "settled": (solver(denoiser=identity_denoiser, momentum="none", start="zero"), None, 0.9, 60),
    "growing": (solver(denoiser=identity_denoiser, momentum="none"), "null", 0.5, 60),
    "diverged": (solver(denoiser=identity_denoiser, start="zero"), None, 4.0, 200),
}


@pytest.mark.parametrize("expected", VERDICTS)
def test_verdicts(expected):
    physics, (ours, kind, stepsize, count) = camera(), VERDICTS[expected]
    P = pushing(unseen(physics), 10.0) if kind else None
    found = analysis.convergence(
        ours,
        physics,
        physics.A(images(2, 1, 8, 8)),
        preconditioner=P,
        stepsize=stepsize,
        iterations=count,
    )
    assert found.verdict == expected and found.stable == (expected in ("moving", "settled"))
    assert torch.isfinite(found.x).all()
    assert len({len(curve) for curve in found.curves.values()}) == 1


def test_growing_residuals_are_seen_before_the_bound():
    """A step of 2.2 / L grows the error by 1.2 an iteration: far from 1e6 after 25, and far
    from stable.
    """
    physics = camera()
    y = physics.A(images(2, 1, 8, 8))
    slow = dipa.FISTA(Bare(), momentum="none", start="zero")
    found = analysis.convergence(slow, physics, y, stepsize=2.2, iterations=25)
    assert found.curves["residual"][25] == pytest.approx(1.2**25, rel=1e-3)
    assert found.verdict == "growing"
    assert analysis.convergence(slow, physics, y, stepsize=1.8, iterations=25).verdict != "growing"


def test_convergence_refuses():
    physics = camera()
    y = physics.A(images(1, 1, 8, 8))
    refuses(lambda: analysis.convergence(solver(), physics, y, iterations=0), "iterations", "0")


# Falsification


def attempt(P, *, start="zero", stepsize=0.5, prior=None, iterations=30, noise=0.0, physics=None):
    physics, x = physics or camera(), images(3, 1, 8, 8)
    y = physics.A(x)
    y = y + noise * torch.randn(y.shape, generator=rng(9)) * (y != 0)
    ours = dipa.FISTA(prior or dipa.PnP(tiny_denoiser()), iterations=iterations, start=start)
    basis = range_basis(physics, (1, 8, 8))
    return analysis.falsification(ours, physics, P, y, x, stepsize, basis), ours, physics, x, y


def test_energies_and_audit_against_dense_algebra():
    physics = camera()
    P = trained_like(physics)
    found, ours, physics, x, y = attempt(P, physics=physics, iterations=4)
    seen = []

    def watched(gradient, iterate, k):
        seen.append(P(gradient, iterate, k).detach().flatten(1).double())
        return P(gradient, iterate, k)

    result = ours(y, physics, preconditioner=watched, stepsize=0.5, x_true=x, history=True)
    H = dense_operator(physics)
    outside = torch.eye(64, dtype=torch.float64) - torch.linalg.pinv(H) @ H
    expected = [((d @ outside).square().sum(1) / d.square().sum(1)).mean().item() for d in seen]
    assert found["energy_outside"] == pytest.approx(expected, rel=1e-4) and min(expected) > 0.01
    assert found["residuals"] == [record["residual"] for record in result.history]
    assert {name: found[name] for name in ("residual", "error_range", "error_null")} == audit(
        result.x.detach(), x, y, physics, physics.range_basis()
    )
    plain = ours(y, physics, stepsize=0.5).x
    assert found["baseline"] == audit(plain, x, y, physics, physics.range_basis())


def test_a_better_conditioned_step_passes():
    found, *_ = attempt(
        lambda gradient, iterate, k: 1.5 * gradient, prior=dipa.PnP(identity_denoiser)
    )
    assert found["passed"] and found["checks"] == {
        "stable": True,
        "consistent": True,
        "no_drift": True,
    }
    assert max(found["energy_outside"]) < 1e-10 and found["truth_residual"] == 0


def test_a_preconditioner_that_leaves_the_measurements_fails():
    found, *_ = attempt(lambda gradient, iterate, k: 0 * gradient, prior=Bare())
    assert (
        found["residual"] == pytest.approx(1)
        and not found["checks"]["consistent"]
        and not found["passed"]
    )


def test_a_drift_along_the_null_space_fails_though_the_data_fit():
    found, *_ = attempt(pushing(unseen(camera()), 0.5), prior=Bare())
    assert found["residual"] < 0.01 and found["checks"]["consistent"]
    assert found["error_null"] > 2 * found["baseline"]["error_null"]
    assert not found["checks"]["no_drift"] and not found["passed"]
    assert found["energy_outside"][-1] > 0.99


def test_a_divergence_fails():
    found, *_ = attempt(lambda gradient, iterate, k: 9 * gradient, prior=Bare(), iterations=100)
    assert found["verdict"] == "diverged" and not found["checks"]["stable"] and not found["passed"]


def test_the_noise_of_the_data_is_not_held_against_a_run():
    found, _, physics, x, y = attempt(dipa.Identity(), prior=Bare(), noise=0.5, iterations=3)
    truth = (physics.A(x) - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)
    assert found["truth_residual"] == pytest.approx(truth.mean().item())
    assert found["residual"] > RESIDUAL_LIMIT and found["checks"]["consistent"]


def test_a_first_gradient_of_rounding_counts_as_nothing():
    found, *_ = attempt(trained_like(camera()), start="adjoint", iterations=3)
    assert found["energy_outside"][0] == 0 and found["energy_outside"][2] > 0.01


def test_a_longer_trial_may_refute_what_a_short_one_does_not():
    """A push that is slower than the solver's own gain at first, and takes over later."""
    physics, x = camera(), images(3, 1, 8, 8)
    P, basis = pushing(unseen(physics), 0.05), physics.range_basis()
    ours = dipa.FISTA(Bare(), iterations=4, momentum="none", start="zero")
    short, long = (
        analysis.falsification(ours, physics, P, physics.A(x), x, 0.9, basis, iterations=count)
        for count in (None, 2000)
    )
    assert len(short["energy_outside"]) == 4 and len(long["energy_outside"]) == 2000
    assert short["checks"]["stable"] and not long["checks"]["stable"]


# Shifts


def test_shift_rows_are_those_of_direct_solves():
    physics, x = camera(), images(5, 1, 8, 8)
    P, ours = trained_like(physics, scale=0.02), solver(iterations=4)
    others = {
        "operators": {"more": camera(ratio=0.6)},
        "noise": [0.1],
        "denoisers": {"none": identity_denoiser},
        "solvers": {"plain": solver(iterations=4, momentum="none")},
    }
    asked = analysis.conditions(physics, ours, 0.5, **others)
    rows = analysis.shifts(P, x, asked, batch_size=2)
    assert [row["name"] for row in rows] == [
        "matched",
        "operator: more",
        "noise: 0.1",
        "denoiser: none",
        "solver: plain",
    ]
    direct = [
        (ours, physics, physics.A(x)),
        (ours, camera(ratio=0.6), camera(ratio=0.6).A(x)),
        (ours, physics, None),
        (solver(iterations=4, denoiser=identity_denoiser), physics, physics.A(x)),
        (solver(iterations=4, momentum="none"), physics, physics.A(x)),
    ]
    for row, (method, operator, y) in zip(rows, direct, strict=True):
        assert (
            row["status"] == "completed"
            and row["gain"] == row["psnr_student"] - row["psnr_baseline"]
        )
        if y is not None:
            student = method(y, operator, preconditioner=P, stepsize=0.5).x
            baseline = method(y, operator, stepsize=0.5).x
            residual = analysis.relative_norm(operator.A(student) - y, y).mean().item()
            assert row["psnr_student"] == pytest.approx(
                dipa.metrics.psnr(student, x).mean().item(), abs=1e-3
            )
            assert row["psnr_baseline"] == pytest.approx(
                dipa.metrics.psnr(baseline, x).mean().item(), abs=1e-3
            )
            assert row["residual"] == pytest.approx(residual, rel=1e-3)
    assert len({row["psnr_student"] for row in rows}) == 5
    assert rows[2]["psnr_student"] < rows[0]["psnr_student"]


@pytest.mark.parametrize(
    "make",
    [camera, lambda: mri((2, 8, 8), acceleration=2), inpainting],
    ids=["camera", "MRI", "foreign"],
)
def test_noise_lives_in_a_copy(make):
    physics = make()
    noisy, x = analysis.with_noise(physics, 0.3), images(200, *size_of(physics))
    assert not isinstance(physics.noise_model, deepinv.physics.GaussianNoise)
    from dipa.operators.measure import measure

    assert torch.equal(measure(physics, x), physics.A(x))
    added = measure(noisy, x) - physics.A(x)
    assert added[added != 0].std().item() == pytest.approx(0.3, rel=0.03)
    assert isinstance(analysis.with_noise(noisy, 0.0).noise_model, deepinv.physics.ZeroNoise)
    assert torch.equal(measure(noisy, x[:3], seed=1), measure(noisy, x, seed=1)[:3])


def test_shift_results_do_not_depend_on_the_batches_and_follow_the_seed():
    physics, x = camera(), images(5, 1, 8, 8)
    asked = analysis.conditions(physics, solver(), 0.5, noise=[0.1])
    one, other, seeded = (
        analysis.shifts(dipa.Identity(), x, asked, batch_size=size, seed=seed)
        for size, seed in ((1, 0), (5, 0), (5, 1))
    )
    assert other[1]["psnr_student"] == pytest.approx(one[1]["psnr_student"], abs=1e-4)
    assert seeded[1]["psnr_student"] != other[1]["psnr_student"]
    assert all(row["gain"] == 0 for row in one)


def test_a_shift_that_diverges_says_so():
    physics, ours = camera(), dipa.FISTA(dipa.PnP(identity_denoiser), iterations=100, start="zero")
    asked = analysis.conditions(physics, ours, 0.5)
    rows = analysis.shifts(lambda gradient, iterate, k: 9 * gradient, images(2, 1, 8, 8), asked)
    assert rows[0]["status"] == "diverged" and math.isfinite(rows[0]["psnr_student"])


def test_shifts_refuse():
    physics = camera()
    refuses(lambda: analysis.with_noise(physics, -1.0), "noise", "-1.0")
    refuses(
        lambda: analysis.shifts(dipa.Identity(), images(1, 1, 8, 8), []), "rows", "at least one"
    )
    asked = analysis.conditions(physics, solver())
    refuses(
        lambda: analysis.shifts(dipa.Identity(), images(1, 1, 8, 8), asked, batch_size=0),
        "batch_size",
        "0",
    )


def test_a_linear_map_of_known_spectrum():
    """Diagonal H = diag(1, 1/2, 1/4, 0) and P = 4 I: singular values 4, 1, 1/4 on the range,
    condition number 16.
    """
    matrix = torch.diag(torch.tensor([1.0, 0.5, 0.25, 0.0]))
    physics, basis = matrix_physics(matrix, (1, 2, 2)), MatrixBasis((1, 2, 2), torch.eye(4)[:3])
    found = analysis.spectra(
        lambda gradient, iterate, k: 4 * gradient, physics, images(1, 1, 2, 2), basis=basis
    )
    assert found.range_values.tolist() == pytest.approx(
        [4, 1, 0.25]
    ) and found.condition_number == pytest.approx(16)
    assert sorted(found.eigenvalues().real.tolist()) == pytest.approx([0.25, 1, 4])
