"""What runs on the processor runs on another device, with the same numbers, and moves there and
back; a mix is refused.
"""

from types import SimpleNamespace

import deepinv
import pytest
import torch
from batteries import Counting, images, refuses, size_of, smooth_images, tiny_denoiser
from elsewhere import KIND, PLACES, pretended
from members import (
    END_TO_END,
    EVERY_LOSS,
    FITTED,
    FITTED_FIXED,
    FOREIGN,
    PRIORS,
    SHAPE,
    SMALL,
    STEP_NETWORKS,
    neural,
)

import dipa
from dipa import analysis, endtoend, experiments, linalg, losses, metrics, networks
from dipa.choices import CODES, WAYS
from dipa.operators import (
    in_wavelets,
    plane_basis,
    range_basis,
    single_pixel,
    super_resolution,
)
from dipa.operators.measure import measure
from dipa.solvers import MOMENTA, STARTS
from dipa.training import parallel

CPU = torch.device("cpu")
# deepinv solves for the pseudo-inverse of its downsampling by an operation that is not pretended
OPERATORS = SMALL | {name: FOREIGN[name] for name in FOREIGN if name != "downsampling"}
PRECONDITIONERS = {
    name: lambda physics, make=make: make(physics, size_of(physics), 3)
    for name, make in (FITTED | FITTED_FIXED).items()
}
PRECONDITIONERS["network"] = lambda physics: neural("convnext", size_of(physics))
LEARNED = [*FITTED, "network"]
ALL_LOSSES = dipa.LossWeights(**EVERY_LOSS)


def leaves(found) -> list:
    """The tensors and numbers that a result holds, in order."""
    if isinstance(found, dict):
        found = list(found.values())
    return (
        [leaf for part in found for leaf in leaves(part)]
        if isinstance(found, (list, tuple))
        else [found]
    )


def same(monkeypatch, compute, *, tolerance=1e-5):
    """``compute(place)`` gives the same on the processor, on a device like mps and on a GPU that is
    there.

    Each tensor lies where it was computed.
    """
    here = leaves(compute(CPU))
    for enter in PLACES.values():
        with enter(monkeypatch, like_mps=True) as place:
            there = leaves(compute(place))
            assert {leaf.device for leaf in there if isinstance(leaf, torch.Tensor)} <= {place}
            there = [leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf for leaf in there]
        require_alike(there, here, tolerance if place.type == KIND else max(tolerance, 1e-4))


def require_alike(there, here, tolerance):
    assert len(here) == len(there) > 0
    for one, other in zip(here, there, strict=True):
        if isinstance(one, str):
            assert one == other
        else:
            torch.testing.assert_close(other, one, rtol=tolerance, atol=tolerance)


# --- solving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_and_their_subspaces(name, monkeypatch):
    def compute(place):
        physics = OPERATORS[name]().to(place)
        x = images(2, *size_of(physics)).to(place)
        y = measure(physics, x, seed=1)
        inverses = physics.A_adjoint(y), physics.A_dagger(y), physics.prox_l2(x, y, 2.0)
        projected = range_basis(physics).project(x), plane_basis(physics).project(x[:, :1])
        norm = linalg.squared_norm(physics.A_adjoint_A, size_of(physics), like=x)
        return y, physics(x, seed=1), inverses, projected, norm

    same(monkeypatch, compute)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("prior", PRIORS)
def test_solver_and_its_deepinv_model(prior, momentum, start, monkeypatch):
    def compute(place):
        physics, P = super_resolution(SHAPE, factor=2).to(place), neural("mlp").to(place)
        x = images(2, *SHAPE).to(place)
        made = dipa.FISTA(
            PRIORS[prior](tiny_denoiser().to(place)), iterations=3, momentum=momentum, start=start
        )
        ours = made(
            physics.A(x),
            physics,
            preconditioner=P,
            stepsize=0.4,
            x_true=x,
            history=True,
            iterates=True,
        )
        curves = [
            [record[part] for part in ("residual", "gradient_norm", "change", "psnr")]
            for record in ours.history
        ]
        return ours.iterates, curves, dipa.to_deepinv(made, P, physics, 0.4)(physics.A(x), physics)

    same(monkeypatch, compute)


@pytest.mark.parametrize("name", PRECONDITIONERS)
def test_preconditioners(name, monkeypatch):
    def compute(place):
        physics = OPERATORS["complex MRI"]().to(place)
        P = PRECONDITIONERS[name](physics).to(place)
        gradient, iterate = (images(2, 2, 7, 6, seed=seed).to(place) for seed in (0, 1))
        return [P(gradient, iterate, k) for k in (1, 4)]

    same(monkeypatch, compute)


@pytest.mark.parametrize("form", ["low_rank", "dense"])
@pytest.mark.parametrize("name", OPERATORS)
def test_the_closed_form(name, form, monkeypatch):
    def compute(place):
        physics = OPERATORS[name]().to(place)
        x = images(20, *size_of(physics)).to(place)
        P = dipa.LinearPreconditioner.ridge(
            physics, x, stepsize=0.5, form=form, null_weight=0.5, regularization=0.1
        )
        return P(x[:2], x[:2], 1), P.dense()

    same(monkeypatch, compute, tolerance=1e-4)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", networks.BACKBONES)
def test_backbones_and_their_gradients(name, code, monkeypatch):
    def compute(place):
        P = neural(name, code=code).to(place)
        x = images(2, *SHAPE).to(place).requires_grad_()
        direction = P(x, x, 3)
        direction.square().sum().backward()
        return (
            direction,
            x.grad,
            [parameter.grad for parameter in P.parameters() if parameter.grad is not None],
        )

    same(monkeypatch, compute, tolerance=1e-4)


# --- training -------------------------------------------------------------------------------------


def trained(place, P=None, *, way="checkpointed", steps=2, **options):
    """A preconditioner distilled with every loss, on ``place``."""
    student, teacher = (
        single_pixel(SHAPE, ratio=ratio, noise_sigma=0.01).to(place) for ratio in (0.3, 0.8)
    )
    P = (dipa.LinearPreconditioner.identity(student) if P is None else P).to(place)
    made = dipa.FISTA(dipa.PnP(tiny_denoiser().to(place)), iterations=4)
    budget = dipa.Budget(steps=steps, batch_size=2, learning_rate=0.01, checkpoint_every=1)
    plan = dipa.settings.Differentiation(way, tail=2)
    options = {
        "losses": ALL_LOSSES,
        "budget": budget,
        "differentiation": plan,
        "progress": False,
    } | options
    return dipa.distill(
        made, P, student, teacher, smooth_images(4).to(place), **options, validation=0
    )


def outcome(fit):
    history = [
        [record[name] for name in ("loss", "psnr", "gradient_norm")] for record in fit.history
    ]
    return list(fit.preconditioner.parameters()), history


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["linear, complement", "network"])
def test_every_loss_and_way_to_differentiate(kind, way, monkeypatch):
    def compute(place):
        return outcome(
            trained(place, PRECONDITIONERS[kind](single_pixel(SHAPE, ratio=0.3)), way=way)
        )

    same(monkeypatch, compute, tolerance=1e-4)


@pytest.mark.parametrize("name", END_TO_END)
def test_networks_end_to_end(name, monkeypatch, tmp_path):
    def compute(place):
        physics = OPERATORS["single pixel"]().to(place)
        x, net = (
            smooth_images(3).to(place),
            endtoend.build(name, SHAPE, **END_TO_END[name]).to(place),
        )
        fit = dipa.train_network(
            net, physics, x, budget=dipa.Budget(steps=2, batch_size=2), progress=False
        )
        back, _ = dipa.load(dipa.save(fit.network, tmp_path / f"{place.type}.safetensors"))
        losses = [record["loss"] for record in fit.history]
        return fit.network(measure(physics, x), physics), list(back.to(place).parameters()), losses

    same(monkeypatch, compute, tolerance=1e-4)


@pytest.mark.parametrize("name", STEP_NETWORKS)
def test_step_lengths(name, monkeypatch, tmp_path):
    prior = dipa.Prox(deepinv.optim.prior.L1Prior(), 0.05)

    def compute(place):
        physics = in_wavelets(OPERATORS["single pixel"](), "haar", 2).to(place)
        y = physics.A(smooth_images(4).to(place))
        budget = dipa.Budget(steps=2, batch_size=3)
        fit = dipa.training.train_steps(
            *(STEP_NETWORKS[name](SHAPE).to(place), dipa.solvers.SGP(prior, 2), physics, y),
            **{"budget": budget, "target_iterations": 5, "cache": tmp_path, "progress": False},
        )
        x = dipa.solvers.SGP(prior, 2)(y, physics, steps=fit).x
        return x, list(fit.trained.parameters()), fit.record["nmse"]

    same(monkeypatch, compute, tolerance=1e-4)


@pytest.mark.parametrize("lengths", ["image", "entry"])
def test_fitted_lengths(lengths, monkeypatch, tmp_path):
    prior = dipa.Prox(deepinv.optim.prior.L1Prior(), 0.05)

    def compute(place):
        physics = in_wavelets(OPERATORS["single pixel"](), "haar", 2).to(place)
        y = physics.A(smooth_images(4).to(place))
        options = {"lengths": lengths, "target_iterations": 5, "cache": tmp_path}
        fit = dipa.training.fit_lengths(dipa.solvers.SGP(prior, 2), physics, y, **options)
        x = dipa.solvers.SGP(prior, 2)(y, physics, steps=fit).x
        return x, fit.trained.lengths, fit.record["nmse"]

    same(monkeypatch, compute, tolerance=1e-4)


@pytest.mark.parametrize("tail", [None, 2])
def test_equilibrium(tail, monkeypatch):
    def compute(place):
        physics = OPERATORS["single pixel"]().to(place)
        P = dipa.LinearPreconditioner.identity(physics, SHAPE).to(place)
        prior = dipa.PnP(lambda x, sigma: 0.8 * x)
        solver = dipa.FISTA(prior, 3, momentum="none", start="zero")
        options = {"budget": dipa.Budget(steps=2, batch_size=3), "tail": tail, "progress": False}
        images = smooth_images(4).to(place)
        fit = dipa.training.train_equilibrium(solver, P, physics, images, **options)
        return list(P.parameters()), fit.history[-1]["loss"]

    same(monkeypatch, compute, tolerance=1e-4)


def test_gradients_are_averaged_where_processes_can_meet(monkeypatch):
    met = []
    monkeypatch.setattr(parallel, "size", lambda: 2)
    monkeypatch.setattr(
        parallel.dist,
        "all_reduce",
        lambda flat: met.append(flat.device.type) or flat.add_(flat.clone()),
    )
    for like_mps in (True, False):
        with pretended(monkeypatch, like_mps) as place:
            gradients = [torch.ones(2, 3).to(place), torch.zeros(4).to(place)]
            parallel.average(gradients, 0.25)
            assert [gradient.unique().tolist() for gradient in gradients] == [[0.5], [0.0]]
    assert met == ["cpu", "pretended"]


@pytest.mark.parametrize("method", ["fista-net", "ridge"])
def test_a_run_like_on_mps(method, monkeypatch, tmp_path):
    tiny = {
        "data.train_count": 4,
        "data.ridge_count": 16,
        "data.test_count": 2,
        "training.steps": 1,
        "solver.iterations": 2,
    }
    tiny |= {
        "method": method,
        "network.features": 4,
        "network.blocks": 1,
        "task.size": 16,
        "solver.precision": "float32",
    }
    config = experiments.resolve("baseline", "smoke", overrides=tiny)
    here = experiments.run(config, tmp_path / "here", device="cpu", progress=False)
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path / "another cache"))
    with pretended(monkeypatch, like_mps=True):
        there = experiments.run(config, tmp_path / "there", progress=False)
    for role in ("baseline", "student", "teacher"):
        assert there.metrics[role]["psnr"] == pytest.approx(here.metrics[role]["psnr"], abs=0.02)


# --- moving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_there", [True, False])
def test_a_run_begun_on_one_device_goes_on_on_another(first_there, monkeypatch, tmp_path):
    whole = outcome(trained(CPU, steps=4))
    options = {"steps": 4, "checkpoint": tmp_path / "checkpoint.pt", "cache": tmp_path / "cache"}

    def stop(record):
        if record["step"] == 3:
            raise KeyboardInterrupt

    def run(there, report=None):
        if not there:
            return trained(CPU, report=report, **options)
        with pretended(monkeypatch) as place:
            fit = trained(place, report=report, **options)
            fit.preconditioner.cpu()
            return fit

    with pytest.raises(KeyboardInterrupt):
        run(first_there, stop)
    fit = run(not first_there)
    assert fit.record["teacher_images"] == {"all": 4, "cached": 4}
    for one, other in zip(leaves(outcome(fit)), leaves(whole), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LEARNED)
def test_saved_preconditioners_move(name, monkeypatch, tmp_path):
    x = images(2, *SHAPE)
    P = PRECONDITIONERS[name](single_pixel(SHAPE, ratio=0.3))
    expected = P(x, x, 2)
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    dipa.save(P, there)
    with pretended(monkeypatch) as place:
        moved = dipa.load(there)[0].to(place)
        torch.testing.assert_close(moved(x.to(place), x.to(place), 2).cpu(), expected)
        dipa.save(moved, back)
    assert there.read_bytes() == back.read_bytes()
    torch.testing.assert_close(dipa.load(back)[0](x, x, 2), expected)


# --- analysis -------------------------------------------------------------------------------------


def things(place, kind="network"):
    """What a reconstruction takes, all of it on ``place``."""
    physics, teacher = (
        single_pixel(SHAPE, ratio=ratio, noise_sigma=0.01).to(place) for ratio in (0.4, 0.8)
    )
    x, denoiser = smooth_images(2).to(place), Counting(tiny_denoiser()).to(place)
    made = dipa.FISTA(dipa.PnP(denoiser), iterations=3)
    held = {
        "denoiser": denoiser,
        "solver": made,
        "P": PRECONDITIONERS[kind](physics).to(place),
        "basis": range_basis(physics),
    }
    net = endtoend.build("fista-net", SHAPE, features=4, blocks=1).to(place)
    return SimpleNamespace(
        physics=physics, teacher=teacher, x=x, y=measure(physics, x), net=net, **held
    )


def long_run(t):
    found = analysis.convergence(t.solver, t.physics, t.y, t.x, preconditioner=t.P, iterations=4)
    return found.x, found.curves, found.verdict


def shifted(t):
    other = tiny_denoiser(1).to(t.x.device)
    rows = analysis.conditions(
        t.physics, t.solver, 0.4, noise=[0.02], denoisers={"x": other}, operators={"x": t.teacher}
    )
    return analysis.shifts(t.P, t.x, rows)


def spectra_of(t):
    found = analysis.spectra(dipa.LinearPreconditioner.identity(t.physics, form="dense"), t.physics)
    return found.range_values, found.null_values, found.summary(), found.radius(0.5)


ANALYSES = {
    "differences": lambda t: analysis.finite_differences(t.P, t.x[:1], t.x[1:], columns=[3, 4]),
    "stepsize": lambda t: analysis.as_stepsize(t.P, t.x),
    "linearity": lambda t: analysis.linearity_index(t.P, t.x, t.x.flip(0)),
    "convergence": long_run,
    "falsification": lambda t: analysis.falsification(
        t.solver, t.physics, t.P, t.y, t.x, 0.4, t.basis
    ),
    "shifts": shifted,
    "spectra": spectra_of,
    "metrics": lambda t: metrics.summary(t.x, t.x.flip(0), 2),
    "row space": lambda t: losses.row_space(t.x, t.basis.project),
}
LINEAR = {
    "jacobian": lambda t: analysis.jacobian(t.P, t.x[:1], columns=[3, 4]),
    "blocks": lambda t: analysis.coordinate_blocks(t.P, t.basis),
    "border": lambda t: analysis.border_share(t.P.dense(), SHAPE, 2),
    "antisymmetry": lambda t: analysis.antisymmetric_share(t.P.dense()),
}


@pytest.mark.parametrize("name", ANALYSES | LINEAR)
def test_analysis(name, monkeypatch):
    def compute(place):
        return (ANALYSES | LINEAR)[name](
            things(place, "linear, complement" if name in LINEAR else "network")
        )

    same(monkeypatch, compute, tolerance=1e-4)


# --- a mix of devices -----------------------------------------------------------------------------


def solved(t, y=None, P=None, **options):
    return t.solver(
        t.y if y is None else y,
        t.physics,
        preconditioner=t.P if P is None else P,
        stepsize=0.4,
        **options,
    )


def distilled(t, solver=None, P=None, student=None, teacher=None, x=None):
    held = (
        solver or t.solver,
        P or t.P,
        student or t.physics,
        teacher or t.teacher,
        t.x if x is None else x,
    )
    return dipa.distill(*held, losses=ALL_LOSSES, progress=False, validation=0)


# what is refused, with the words that say so: all of a call is there (t) but for one argument,
# which is here (h)
MIXES = {
    "y": (lambda t, h: solved(t, h.y), "y.device"),
    "x_true": (lambda t, h: solved(t, x_true=h.x), "x_true.device"),
    "preconditioner": (lambda t, h: solved(t, P=h.P), "preconditioner: got 'parameters"),
    "fixed preconditioner": (
        lambda t, h: solved(t, P=dipa.Polynomial(h.physics, [1.0])),
        "preconditioner.device",
    ),
    "denoiser": (lambda t, h: h.solver(t.y, t.physics, stepsize=0.4), "prior.denoiser"),
    "student": (lambda t, h: distilled(t, student=h.physics), "student.device"),
    "teacher": (lambda t, h: distilled(t, teacher=h.teacher), "teacher.device"),
    "trained": (lambda t, h: distilled(t, P=h.P), "preconditioner: got 'parameters"),
    "prior": (lambda t, h: distilled(t, solver=h.solver), "prior.denoiser"),
    "images": (lambda t, h: distilled(t, x=h.x), "student.device"),
    "measured": (lambda t, h: measure(t.physics, h.x), "images.device"),
    "closed form": (
        lambda t, h: dipa.LinearPreconditioner.ridge(h.physics, t.x, stepsize=1.0),
        "physics.device",
    ),
    "network": (
        lambda t, h: dipa.train_network(h.net, t.physics, t.x, progress=False),
        "network: got 'parameters",
    ),
    "its operator": (
        lambda t, h: dipa.train_network(t.net, h.physics, t.x, progress=False),
        "physics.device",
    ),
    "its measurements": (lambda t, h: t.net(h.y, t.physics), "y.device"),
    "audit: x_true": (
        lambda t, h: analysis.audit(t.x, h.x, t.y, t.physics, t.basis),
        "x_true.device",
    ),
    "audit: y": (lambda t, h: analysis.audit(t.x, t.x, h.y, t.physics, t.basis), "y.device"),
    "audit: basis": (
        lambda t, h: analysis.audit(t.x, t.x, t.y, t.physics, h.basis),
        "basis.device",
    ),
    "falsification: basis": (
        lambda t, h: analysis.falsification(t.solver, t.physics, t.P, t.y, t.x, 0.4, h.basis),
        "basis.device",
    ),
    "falsification: P": (
        lambda t, h: analysis.falsification(t.solver, t.physics, h.P, t.y, t.x, 0.4, t.basis),
        "preconditioner: got 'parameters",
    ),
    "long run": (
        lambda t, h: analysis.convergence(h.solver, t.physics, t.y, iterations=3),
        "prior.denoiser",
    ),
    "spectra: basis": (
        lambda t, h: analysis.spectra(t.P, t.physics, t.x[:1], basis=h.basis),
        "basis.device",
    ),
    "spectra: physics": (lambda t, h: analysis.spectra(t.P, h.physics, t.x[:1]), "physics.device"),
    "blocks": (
        lambda t, h: analysis.coordinate_blocks(
            PRECONDITIONERS["linear, complement"](t.physics), h.basis
        ),
        "basis.device",
    ),
    "jacobian: P": (lambda t, h: analysis.jacobian(h.P, t.x[:1]), "preconditioner.device"),
    "jacobian: iterate": (lambda t, h: analysis.jacobian(t.P, t.x[:1], h.x[:1]), "iterate.device"),
    "directions": (lambda t, h: analysis.directional(t.P, t.x[:1], h.x), "directions.device"),
    "distance": (lambda t, h: analysis.relative_distance(t.x, h.x), "matrix.device"),
    "loss": (lambda t, h: losses.imitation(t.x, h.x), "x_teacher.device"),
    "metric": (lambda t, h: metrics.psnr(t.x, h.x), "x_true.device"),
}


@pytest.mark.parametrize("argument", MIXES)
def test_a_mix_of_devices_is_refused_at_the_door(argument, monkeypatch):
    call, words = MIXES[argument]
    with pretended(monkeypatch) as place:
        there, here = things(place), things(CPU)
        text = refuses(lambda: call(there, here), words, "pretended:0", "cpu")
        assert "RuntimeError" not in text  # what torch says in the middle of a computation
        assert there.denoiser.calls == here.denoiser.calls == 0


def test_functions_that_give_back_to_another_device_are_named(monkeypatch):
    with pretended(monkeypatch) as place:
        t = things(place)
        refuses(
            lambda: solved(t, P=lambda gradient, iterate, k: gradient.cpu()),
            "preconditioner.device",
            "cpu",
            "pretended:0",
        )
        away = dipa.FISTA(dipa.PnP(lambda planes, sigma: planes.cpu()), iterations=2)
        refuses(lambda: away(t.y, t.physics, stepsize=0.4), "denoiser.device", "cpu", "pretended:0")
