"""What runs on the processor runs on another device, with the same numbers: on the pretended one, and on one like mps."""

import deepinv
import pytest
import torch
from batteries import PRIORS, images, inpainting, smooth_images, solver, tiny_denoiser
from elsewhere import pretended

import dipa
from dipa import analysis, endtoend, linalg, losses, metrics, networks
from dipa.choices import CODES, WAYS
from dipa.operators import mri, plane_basis, range_basis, single_pixel, super_resolution
from dipa.operators.measure import measure
from dipa.solvers import MOMENTA, STARTS

CPU, SHAPE = torch.device("cpu"), (1, 8, 8)
OPERATORS = {
    "single pixel": lambda: single_pixel(SHAPE, ratio=0.4, noise_sigma=0.01),
    "complex MRI": lambda: mri((2, 8, 8), acceleration=2, noise_sigma=0.01),
    "real MRI": lambda: mri(SHAPE, acceleration=2),
    "super-resolution": lambda: super_resolution(SHAPE, factor=2),
    "inpainting": inpainting,
}
LEARNED = {
    "identity": lambda physics: dipa.LinearPreconditioner.identity(physics, complement=1.0),
    "planes": lambda physics: dipa.LinearPreconditioner.identity(physics, planes=True),
    "scalar": lambda physics: dipa.ScalarSteps(3),
    "convolutional": lambda physics: dipa.ConvolutionalSteps(3, 3),
    "pointwise": lambda physics: dipa.PointwiseSteps(3, physics.img_size),
    "matrices": lambda physics: dipa.LinearSteps.identity(physics, 3),
    "network": lambda physics: network("convnext", img_size=physics.img_size),
}
FIXED = {
    "hessian": lambda physics: dipa.Hessian(physics, physics.img_size, regularization=0.1),
    "chebyshev": lambda physics: dipa.Polynomial.chebyshev(physics, 2, img_size=physics.img_size),
}
ALL_LOSSES = dipa.LossWeights(supervised=1, imitation=1, gradient=1, convergence=0.1, row_space=0.1, data_fidelity=0.1)


def network(name: str, img_size=SHAPE, **options):
    options = {"features": 4, "blocks": 1, "code_dim": 4, "start": "random"} | options
    return dipa.NeuralPreconditioner(name, img_size=img_size, **options)


def leaves(found) -> list:
    """The tensors and numbers that a result holds, in order."""
    if isinstance(found, dict):
        found = list(found.values())
    return [leaf for part in found for leaf in leaves(part)] if isinstance(found, (list, tuple)) else [found]


def same(monkeypatch, compute, *, like_mps=False, tolerance=1e-5):
    """``compute(place)`` gives the same on both devices, and each tensor lies where it was computed."""
    here = leaves(compute(CPU))
    with pretended(monkeypatch, like_mps) as place:
        there = leaves(compute(place))
        assert {leaf.device for leaf in there if isinstance(leaf, torch.Tensor)} <= {place}
        there = [leaf.detach().cpu() if isinstance(leaf, torch.Tensor) else leaf for leaf in there]
    assert len(here) == len(there) > 0
    for one, other in zip(here, there, strict=True):
        wanted = one.detach() if isinstance(one, torch.Tensor) else one
        torch.testing.assert_close(other, wanted, rtol=tolerance, atol=tolerance) if not isinstance(one, str) else None
        assert not isinstance(one, str) or one == other


# --- solving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_and_their_subspaces(name, monkeypatch):
    def compute(place):
        physics = OPERATORS[name]().to(place)
        x = images(2, *physics.img_size).to(place)
        y = measure(physics, x, seed=1)
        bases = range_basis(physics), plane_basis(physics)
        found = [y, physics.A_adjoint(y), physics.A_dagger(y), physics.prox_l2(x, y, 2.0), *(start(y, physics) for start in STARTS.values())]
        found += [bases[0].project(x), bases[1].project(x[:, :1]), physics(x, seed=1)]
        return found, linalg.squared_norm(physics.A_adjoint_A, physics.img_size, like=x)

    same(monkeypatch, compute, like_mps=True)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("prior", PRIORS)
def test_solver_and_its_deepinv_model(prior, momentum, start, monkeypatch):
    def compute(place):
        physics, P = OPERATORS["super-resolution"]().to(place), network("mlp").to(place)
        x = images(2, *SHAPE).to(place)
        made = dipa.FISTA(PRIORS[prior](tiny_denoiser().to(place)), iterations=3, momentum=momentum, start=start)
        ours = made(physics.A(x), physics, preconditioner=P, stepsize=0.4, x_true=x, history=True, iterates=True)
        curves = [[record[part] for part in ("residual", "gradient_norm", "change", "psnr")] for record in ours.history]
        return ours.iterates, curves, dipa.to_deepinv(made, P, physics, 0.4)(physics.A(x), physics)

    same(monkeypatch, compute, like_mps=True)


@pytest.mark.parametrize("name", LEARNED | FIXED)
def test_preconditioners(name, monkeypatch):
    def compute(place):
        physics = OPERATORS["complex MRI"]().to(place)
        P = (LEARNED | FIXED)[name](physics).to(place)
        gradient, iterate = images(2, 2, 8, 8).to(place), images(2, 2, 8, 8, seed=1).to(place)
        return [P(gradient, iterate, k) for k in (1, 4)]

    same(monkeypatch, compute, like_mps=True)


@pytest.mark.parametrize("form", ["low_rank", "dense"])
@pytest.mark.parametrize("name", OPERATORS)
def test_the_closed_form(name, form, monkeypatch):
    def compute(place):
        physics = OPERATORS[name]().to(place)
        x = images(20, *physics.img_size).to(place)
        P = dipa.LinearPreconditioner.ridge(physics, x, stepsize=0.5, form=form, null_weight=0.5, regularization=0.1)
        return P(x[:2], x[:2], 1), P.dense()

    same(monkeypatch, compute, like_mps=True, tolerance=1e-4)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", networks.BACKBONES)
def test_backbones_and_their_gradients(name, code, monkeypatch):
    def compute(place):
        P = network(name, code=code).to(place)
        x = images(2, *SHAPE).to(place).requires_grad_()
        direction = P(x, x, 3)
        direction.square().sum().backward()
        return direction, x.grad, [parameter.grad for parameter in P.parameters() if parameter.grad is not None]

    same(monkeypatch, compute, like_mps=True, tolerance=1e-4)


# --- training ---------------------------------------------------------------------------------------------------------


def trained(place, P=None, *, way="checkpointed", precision="float32", steps=2, **options):
    """A preconditioner distilled with every loss, on ``place``."""
    student, teacher = (single_pixel(SHAPE, ratio=ratio, noise_sigma=0.01).to(place) for ratio in (0.3, 0.8))
    P = (dipa.LinearPreconditioner.identity(student) if P is None else P).to(place)
    made = dipa.FISTA(dipa.PnP(tiny_denoiser().to(place), precision=precision), iterations=4)
    budget = dipa.Budget(steps=steps, batch_size=2, learning_rate=0.01, checkpoint_every=1)
    plan = dipa.settings.Differentiation(way, tail=2)
    options = {"losses": ALL_LOSSES, "budget": budget, "differentiation": plan, "progress": False} | options
    return dipa.distill(made, P, student, teacher, smooth_images(4).to(place), **options)


def outcome(fit):
    return list(fit.preconditioner.parameters()), [[record[name] for name in ("loss", "psnr", "gradient_norm")] for record in fit.history]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["identity", "network"])
def test_every_loss_and_way_to_differentiate(kind, way, monkeypatch):
    def compute(place):
        return outcome(trained(place, LEARNED[kind](single_pixel(SHAPE, ratio=0.3)), way=way))

    same(monkeypatch, compute, like_mps=True, tolerance=1e-4)


@pytest.mark.parametrize("name", endtoend.NETWORKS)
def test_networks_end_to_end(name, monkeypatch, tmp_path):
    def compute(place):
        physics = OPERATORS["single pixel"]().to(place)
        x, net = smooth_images(3).to(place), endtoend.build(name, SHAPE, features=4, blocks=2).to(place)
        fit = dipa.train_network(net, physics, x, budget=dipa.Budget(steps=2, batch_size=2), progress=False)
        back, _ = endtoend.load(endtoend.save(fit.network, tmp_path / f"{place.type}.safetensors"))
        return fit.network(measure(physics, x), physics), list(back.to(place).parameters()), [record["loss"] for record in fit.history]

    same(monkeypatch, compute, like_mps=True, tolerance=1e-4)


# --- moving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there_first", [True, False])
def test_a_run_begun_on_one_device_is_resumed_on_another(there_first, monkeypatch, tmp_path):
    whole = outcome(trained(CPU, steps=4))
    checkpoint, cache = tmp_path / "checkpoint.pt", tmp_path / "cache"

    def part(there, stop):
        def report(record):
            if record["step"] == stop:
                raise KeyboardInterrupt

        options = {"steps": 4, "checkpoint": checkpoint, "cache": cache, "report": report}
        if not there:
            return trained(CPU, **options)
        with pretended(monkeypatch) as place:
            return dipa.storage.sha256_tensors(trained(place, **options).preconditioner.state_dict())

    with pytest.raises(BaseException):
        part(there_first, 2)
    assert checkpoint.is_file()
    part(not there_first, 0)


@pytest.mark.parametrize("name", LEARNED)
def test_saved_preconditioners_move(name, monkeypatch, tmp_path):
    x = images(2, *SHAPE)
    P = LEARNED[name](single_pixel(SHAPE, ratio=0.3))
    expected = P(x, x, 2)
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    dipa.save(P, there)
    with pretended(monkeypatch) as place:
        moved = dipa.load(there)[0].to(place)
        torch.testing.assert_close(moved(x.to(place), x.to(place), 2).cpu(), expected)
        dipa.save(moved, back)
    assert there.read_bytes() == back.read_bytes()
    torch.testing.assert_close(dipa.load(back)[0](x, x, 2), expected)


# --- analysis ---------------------------------------------------------------------------------------------------------


def analysed(place, kind="network"):
    physics = OPERATORS["single pixel"]().to(place)
    x = images(2, *SHAPE).to(place)
    return physics, x, measure(physics, x), LEARNED[kind](physics).to(place), solver(3, tiny_denoiser().to(place))


ANALYSES = {
    "differences": lambda physics, x, y, P, made: analysis.finite_differences(P, x[:1], x[1:], columns=[3, 4]),
    "stepsize": lambda physics, x, y, P, made: analysis.as_stepsize(P, x),
    "linearity": lambda physics, x, y, P, made: analysis.linearity_index(P, x, x.flip(0)),
    "convergence": lambda physics, x, y, P, made: (found := analysis.convergence(made, physics, y, x, preconditioner=P, iterations=4)) and [found.x, found.curves, found.verdict],
    "falsification": lambda physics, x, y, P, made: analysis.falsification(made, physics, P, y, x, 0.4, range_basis(physics)),
    "shifts": lambda physics, x, y, P, made: analysis.shifts(P, x, analysis.conditions(physics, made, 0.4, noise=[0.02], denoisers={"other": tiny_denoiser(1).to(x.device)}, operators={"other": single_pixel(SHAPE, ratio=0.7).to(x.device)})),
    "metrics": lambda physics, x, y, P, made: metrics.summary(x, x.flip(0), 2),
    "row space": lambda physics, x, y, P, made: losses.row_space(x, range_basis(physics).project),
    "dot test": lambda physics, x, y, P, made: round(linalg.dot_test_error(physics.A, physics.A_adjoint, x, y), 3),
}
LINEAR = {
    "jacobian": lambda physics, P: analysis.jacobian(P, torch.zeros(1, *SHAPE).to(P.matrix), columns=[3, 4]),
    "blocks": lambda physics, P: analysis.coordinate_blocks(P, range_basis(physics)),
    "border": lambda physics, P: analysis.border_share(P.dense(), SHAPE, 2),
    "antisymmetry": lambda physics, P: analysis.antisymmetric_share(P.dense()),
}


@pytest.mark.parametrize("name", ANALYSES)
def test_analysis(name, monkeypatch):
    same(monkeypatch, lambda place: ANALYSES[name](*analysed(place)), like_mps=True, tolerance=1e-4)


@pytest.mark.parametrize("name", LINEAR)
def test_analysis_of_matrices(name, monkeypatch):
    def compute(place):
        physics, _, _, P, _ = analysed(place, "identity")
        return LINEAR[name](physics, P)

    same(monkeypatch, compute, like_mps=True)


@pytest.mark.parametrize("operator", ["single pixel", "inpainting"])
def test_spectra(operator, monkeypatch):
    def compute(place):
        physics = OPERATORS[operator]().to(place)
        found = analysis.spectra(dipa.LinearPreconditioner.identity(physics, SHAPE, form="dense"), physics)
        return found.range_values, found.null_values, found.summary(), found.radius(0.5)

    same(monkeypatch, compute, like_mps=True, tolerance=1e-4)
