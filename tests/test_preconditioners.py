import deepinv
import numpy as np
import pytest
import torch
from batteries import (
    FOREIGN,
    OPERATORS,
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
from safetensors.torch import save_file

import dipa
from dipa import LinearPreconditioner
from dipa.operators import MatrixBasis, PixelBasis, single_pixel
from dipa.preconditioners.linear import FORMS
from dipa.solvers import data_gradient

SHAPE = (1, 8, 8)


def student():
    return single_pixel(SHAPE, ratio=0.3)


def perturbed(physics, form: str, scale: float = 0.05) -> LinearPreconditioner:
    """A low-rank or dense preconditioner with the same action on data gradients: identity plus a fixed random matrix."""
    dense = LinearPreconditioner.identity(physics, form="dense")
    n = dense.basis.dim
    dense.matrix.data += scale * torch.randn(n, n, generator=rng(0))
    if form == "dense":
        return dense
    low = LinearPreconditioner.identity(physics, form="low_rank")
    rows = low.basis.image(torch.eye(low.basis.dim)).flatten(1)
    low.matrix.data = dense.matrix.data @ rows.T
    return low


MEMBERS = {
    "identity": lambda: dipa.Identity(),
    "linear, low rank": lambda: perturbed(student(), "low_rank"),
    "linear, dense": lambda: perturbed(student(), "dense"),
    "linear, ridge": lambda: LinearPreconditioner.ridge(student(), smooth_images(20), stepsize=0.4),
    "linear, inpainting": lambda: perturbed(FOREIGN["inpainting"](), "low_rank"),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_contract(name):
    check_preconditioner(MEMBERS[name](), SHAPE)


# --- size and action -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
def test_parameter_counts(channels):
    physics = single_pixel((channels, 8, 8), ratio=0.3)
    n, m = 64 * channels, 19 * channels
    assert LinearPreconditioner.identity(physics).parameter_count == n * m
    assert LinearPreconditioner.identity(physics, form="dense").parameter_count == n * n
    assert dipa.Identity().parameter_count == 0


@pytest.mark.parametrize("name", [*MEMBERS][1:])
def test_dense_is_the_matrix_of_the_action_on_the_subspace(name):
    P = MEMBERS[name]()
    matrix = P.dense()
    assert matrix.shape == (64, 64)
    gradient = images(3, *SHAPE)
    expected = (gradient.flatten(1) @ matrix.T).reshape(gradient.shape)
    assert relative(P(gradient, gradient, 1), expected) < 1e-5
    outside = gradient - P.basis.project(gradient)
    assert P(outside, outside, 1).norm() < 1e-4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OPERATORS)
def test_identity_start_is_the_identity_on_data_gradients(name, form):
    physics = OPERATORS[name]()
    P = LinearPreconditioner.identity(physics, size_of(physics), form=form)
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
        assert relative(solve(y, physics, preconditioner=P, stepsize=0.4, iterates=True).iterates, plain) < 1e-5


def test_low_rank_is_dense_iterate_by_iterate():
    physics = student()
    y = physics.A(images(3, *SHAPE))
    runs = [
        solver(8)(y, physics, preconditioner=perturbed(physics, form), stepsize=0.4, iterates=True).iterates for form in FORMS
    ]
    plain = solver(8)(y, physics, stepsize=0.4, iterates=True).iterates
    for low, dense in zip(*runs, strict=True):
        assert relative(low, dense) < 1e-5
    assert relative(runs[0], plain) > 1e-2, "the perturbation shows"


def supervised(P, physics, x):
    return ((solver(3)(physics.A(x), physics, preconditioner=P, stepsize=0.4).x - x) ** 2).sum()


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
    a, b = (solver(5)(physics.A(x), physics, preconditioner=P, stepsize=0.4).x for P in (low, dense))
    assert relative(a, b) < 1e-5
    assert supervised(low, physics, x).item() < 0.95 * started, "the five steps did something"


def test_gradient_with_respect_to_the_matrix_by_finite_differences():
    physics = student()
    P = perturbed(physics, "low_rank")
    physics.double(), P.double()
    x = smooth_images(2, dtype=torch.float64)
    solve = solver(3, tiny_denoiser().double())

    def loss(matrix):
        P.matrix.data = matrix
        return ((solve(physics.A(x), physics, preconditioner=P, stepsize=0.4).x - x) ** 2).sum()

    start = P.matrix.data.clone()
    loss(start).backward()
    for seed in range(3):
        along = torch.randn(start.shape, generator=rng(seed), dtype=torch.float64)
        numeric = finite_difference(lambda matrix: loss(matrix).item(), start, along)
        assert torch.sum(P.matrix.grad * along).item() == pytest.approx(numeric, rel=1e-6)


# --- ridge -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("stepsize", "weight"), [(0.4, 1e-3), (1.0, 0.1)])
def test_ridge_solves_the_normal_equations(form, stepsize, weight):
    """Against numpy's least squares on the stacked system [C; sqrt(weight N) I] W^T = [X; 0], W = stepsize B."""
    physics, x = student(), smooth_images(90)
    P = LinearPreconditioner.ridge(physics, x, stepsize=stepsize, regularization=weight, form=form)
    seen = P.basis.coordinates(physics.A_adjoint(physics.A(x))).double().numpy()
    stacked = np.concatenate([seen, np.sqrt(weight * len(x)) * np.eye(seen.shape[1])])
    targets = np.concatenate([x.flatten(1).double().numpy(), np.zeros((seen.shape[1], 64))])
    predictor = np.linalg.lstsq(stacked, targets, rcond=None)[0].T
    assert relative(stepsize * P.matrix.detach().double(), torch.from_numpy(predictor)) < 1e-5


@pytest.mark.parametrize("form", FORMS)
def test_one_ridge_step_from_zero_is_the_linear_prediction(form):
    """And no other linear map of the measurements predicts the images it was fitted on better, for a vanishing weight."""
    physics, x = student(), smooth_images(200)
    P = LinearPreconditioner.ridge(physics, x, stepsize=0.4, regularization=1e-9, form=form)
    one = solver(1, identity_denoiser, start="zero", momentum="none")
    predicted = one(physics.A(x), physics, preconditioner=P, stepsize=0.4).x
    assert relative(predicted, (physics.A_adjoint(physics.A(x)).flatten(1) @ (0.4 * P.dense().T)).reshape(x.shape)) < 1e-4
    seen = physics.A_adjoint(physics.A(x)).flatten(1).double().numpy()
    best = seen @ np.linalg.lstsq(seen, x.flatten(1).double().numpy(), rcond=1e-6)[0]
    errors = [
        ((x.flatten(1).double().numpy() - fit) ** 2).sum() for fit in (predicted.detach().flatten(1).double().numpy(), best)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-2)
    adjoint_error = ((x - physics.A_adjoint(physics.A(x))) ** 2).sum().item()
    assert errors[0] < 0.5 * adjoint_error, "and it beats the adjoint"


def test_ridge_shrinks_to_zero_as_its_weight_grows():
    norms = [
        LinearPreconditioner.ridge(student(), smooth_images(30), stepsize=0.4, regularization=weight).matrix.norm().item()
        for weight in (1e-3, 1.0, 1e6)
    ]
    assert norms[0] > norms[1] > norms[2] and norms[2] < 1e-4


def test_ridge_uses_every_batch():
    """More images than one internal batch of 4,096: all of them count."""
    physics, x = single_pixel((1, 2, 2), ratio=0.5), images(5000, 1, 2, 2)
    P = LinearPreconditioner.ridge(physics, x, stepsize=1.0, regularization=1e-6)
    seen, pixels = P.basis.coordinates(physics.A_adjoint_A(x)).double(), x.flatten(1).double()
    predictor = torch.linalg.solve(seen.T @ seen + 5e-3 * torch.eye(2, dtype=torch.float64), seen.T @ pixels).T
    assert relative(P.matrix.detach().double(), predictor) < 1e-5


# --- reductions ------------------------------------------------------------------------------------------------------


def test_exact_inverse_solves_an_invertible_system_in_one_step():
    matrix = torch.randn(6, 4, generator=rng(0), dtype=torch.float64)
    physics, x = matrix_physics(matrix, (1, 2, 2)), images(3, 1, 2, 2, dtype=torch.float64)
    P = LinearPreconditioner(torch.linalg.inv(matrix.T @ matrix), PixelBasis((1, 2, 2)))
    result = solver(1, identity_denoiser, start="zero")(physics.A(x), physics, preconditioner=P, stepsize=1.0)
    assert relative(result.x, x) < 1e-12


# --- doors -----------------------------------------------------------------------------------------------------------


def test_refuses():
    physics, x = student(), images(3, *SHAPE)
    refuses(lambda: LinearPreconditioner.identity(physics, form="lowrank"), "form", "'lowrank'", "did you mean low_rank")
    refuses(lambda: LinearPreconditioner(torch.eye(3), PixelBasis(SHAPE)), "matrix.shape", "(3, 3)", "(64, 64)")
    refuses(lambda: LinearPreconditioner(torch.eye(64), MatrixBasis(SHAPE, torch.eye(64)[:5])), "(64, 64)", "(64, 5)")
    refuses(lambda: LinearPreconditioner.ridge(physics, x, stepsize=0), "stepsize", "0")
    refuses(lambda: LinearPreconditioner.ridge(physics, x, stepsize=0.4, regularization=0), "regularization", "0")
    refuses(lambda: LinearPreconditioner.ridge(physics, x, stepsize=0.4, regularization=float("nan")), "regularization", "nan")
    refuses(lambda: LinearPreconditioner.ridge(physics, x * float("nan"), stepsize=0.4), "images", "finite")
    refuses(lambda: LinearPreconditioner.ridge(physics, [1], stepsize=0.4), "images", "list")
    nameless = deepinv.physics.LinearPhysics(A=lambda x, **_: x, A_adjoint=lambda y, **_: y)
    for form in FORMS:
        refuses(lambda form=form: LinearPreconditioner.identity(nameless, form=form), "img_size", "(C, H, W)")
        assert LinearPreconditioner.identity(downsampling(8), form=form).basis.img_size == SHAPE


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", OPERATORS)
def test_identity_of_a_float64_operator_is_float64(name, form):
    physics = OPERATORS[name]().double()
    P = LinearPreconditioner.identity(physics, form=form)
    x = images(2, *size_of(physics), dtype=torch.float64)
    gradient = physics.A_adjoint(physics.A(x))
    assert P.matrix.dtype == P.dense().dtype == torch.float64
    assert relative(P(gradient, x, 1), gradient) < 1e-5


@pytest.mark.parametrize("name", [*MEMBERS][1:])
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
    P = LinearPreconditioner.ridge(student().double(), smooth_images(20).double(), stepsize=0.4, form=form)
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


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MEMBERS][1:])
def test_save_and_load_round_trip(name, tmp_path):
    P = MEMBERS[name]()
    path = dipa.save(P, tmp_path / "p.safetensors")
    again, record = dipa.load(path)
    assert record == {}
    assert torch.equal(again.matrix, P.matrix) and again.matrix.requires_grad
    assert again.basis.kind == P.basis.kind and again.basis.img_size == P.basis.img_size
    assert all(torch.equal(again.state_dict()[key], value) for key, value in P.state_dict().items())
    gradient = images(2, *SHAPE)
    assert relative(again(gradient, gradient, 1), P(gradient, gradient, 1)) < 1e-6
    dipa.save(again, tmp_path / "q.safetensors")
    assert (tmp_path / "q.safetensors").read_bytes() == path.read_bytes()


def test_only_linear_preconditioners_are_saved(tmp_path):
    refuses(lambda: dipa.save(dipa.Identity(), tmp_path / "p.safetensors"), "preconditioner", "Identity", "LinearPreconditioner")
    assert not list(tmp_path.iterdir())


def test_the_record_travels(tmp_path):
    record = {"losses": {"imitation": 1.0}, "seed": 3, "budget": None}
    path = dipa.preconditioners.save(perturbed(student(), "low_rank"), tmp_path / "p.safetensors", record)
    assert dipa.load(str(path))[1] == record


def test_missing_truncated_and_foreign_files_are_refused_by_name(tmp_path):
    refuses(lambda: dipa.load(tmp_path / "missing.safetensors"), "missing.safetensors")
    whole = dipa.save(perturbed(student(), "low_rank"), tmp_path / "whole.safetensors").read_bytes()
    for length in (0, 20, len(whole) // 2):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        refuses(lambda: dipa.load(tmp_path / "cut.safetensors"), "cut.safetensors")
    save_file({"matrix": torch.rand(2, 2)}, tmp_path / "foreign.safetensors")
    refuses(lambda: dipa.load(tmp_path / "foreign.safetensors"), "foreign.safetensors")
    dipa.files.write_tensors(tmp_path / "other.safetensors", {"matrix": torch.rand(2, 2)}, {"kind": "denoiser"})
    refuses(lambda: dipa.load(tmp_path / "other.safetensors"), "other.safetensors", "denoiser")
    dipa.files.write_tensors(tmp_path / "empty.safetensors", {"a": torch.rand(2)}, {"kind": "linear"})
    refuses(lambda: dipa.load(tmp_path / "empty.safetensors"), "empty.safetensors")


def test_null_weight_scales_only_what_leaves_the_range():
    physics, x = single_pixel((1, 8, 8), ratio=0.3), torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    whole, half, none = (LinearPreconditioner.ridge(physics, x, stepsize=0.4, null_weight=w).dense() for w in (1.0, 0.5, 0.0))
    projector = physics.A_adjoint_A(torch.eye(64).reshape(64, 1, 8, 8)).reshape(64, 64)
    assert torch.allclose(projector @ half, projector @ whole, atol=1e-5)
    assert torch.allclose(half - projector @ half, 0.5 * (whole - projector @ whole), atol=1e-5)
    assert torch.allclose(none, projector @ none, atol=1e-5)
    refuses(lambda: LinearPreconditioner.ridge(physics, x, stepsize=0.4, null_weight=1.5), "null_weight", "1.5")
