"""Elsewhere than on the processor: nothing is left behind, what is saved moves both ways, two devices are refused by name."""

import itertools

import pytest
import torch
from batteries import refuses, tiny_denoiser
from elsewhere import pretended

import dipa
from dipa import analysis, choices, endtoend, experiments
from dipa.operators import range_basis
from dipa.operators.measure import measure

SIZE = (1, 8, 8)
TINY = {
    "solver.precision": "float32",
    "solver.iterations": 2,
    "data.train_count": 4,
    "data.ridge_count": 16,
    "data.test_count": 2,
    "training.steps": 2,
    "training.batch_size": 2,
    "network.features": 4,
    "network.blocks": 2,
    "network.code_dim": 8,
    "task.size": 16,
}
ALL_LOSSES = {
    f"losses.{name}": 0.1 for name in ("supervised", "imitation", "gradient", "convergence", "row_space", "data_fidelity")
}
CHANGED = {
    **{way: ALL_LOSSES | {"differentiation.way": way, "differentiation.tail": 1} for way in choices.WAYS},
    **{
        f"{rule} from {start}": {"solver.momentum": rule, "solver.start": start}
        for rule, start in zip(choices.MOMENTA, choices.STARTS, strict=True)
    },
    **{
        f"{name}, {code}": {"method": "n-dipa", "network.backbone": name, "network.code": code}
        for name, code in zip(choices.BACKBONES, itertools.cycle(choices.CODES), strict=False)
    },
    **{name: {"preset": "e2e-single-pixel", "method": name, "network.features": 8} for name in endtoend.NETWORKS},
    "RED with noise": {"solver.prior": "red", "task.noise_sigma": 0.1},
    "1/L": {"solver.stepsize": "1/L", "preset": "sr-l-dipa-supervised", "task.size": 18},
    "shifts": {"shifts": {"other": {"task": {"ratio": 0.5}, "solver": {"prior": "red", "momentum": "deepinv"}}}},
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_run_gives_the_same_elsewhere(name, monkeypatch, tmp_path):
    changes = TINY | CHANGED[name]
    config = experiments.resolve(changes.pop("preset", "l-dipa-supervised"), "smoke", overrides=changes)
    here = experiments.run(config, tmp_path / "here", device="cpu", progress=False)
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path / "another cache"))
    with pretended(monkeypatch):
        there = experiments.run(config, tmp_path / "there", progress=False)
    assert [record["loss"] for record in there.history] == pytest.approx([record["loss"] for record in here.history], rel=1e-4)
    for role in ("baseline", "student", "teacher"):
        assert there.metrics[role]["psnr"] == pytest.approx(here.metrics[role]["psnr"], abs=0.02)


# --- what is saved moves ----------------------------------------------------------------------------------------------


def problem(place="cpu"):
    """Student, teacher, images, measurements, solver and preconditioner, all on one device."""
    student, teacher = (dipa.operators.single_pixel(SIZE, ratio=ratio).to(place) for ratio in (0.3, 0.8))
    images = torch.rand((4, *SIZE), generator=torch.Generator().manual_seed(0)).to(place)
    solver = dipa.FISTA(dipa.PnP(tiny_denoiser().to(place)), iterations=2)
    return student, teacher, images, measure(student, images), solver, dipa.LinearPreconditioner.identity(student).to(place)


def train(place, steps, checkpoint):
    """The preconditioner after as many steps of one training of four, begun or resumed on ``place``."""
    student, teacher, images, _, solver, P = problem(place)

    def stop(record):
        if record["step"] == steps:
            raise KeyboardInterrupt

    options = {"losses": dipa.LossWeights(imitation=1.0, gradient=1.0), "report": stop if steps < 4 else None}
    budget = dipa.Budget(steps=4, batch_size=2, checkpoint_every=1)
    return dipa.distill(solver, P, student, teacher, images, budget=budget, checkpoint=checkpoint, progress=False, **options)


@pytest.mark.parametrize("begun", ["here", "there"])
def test_a_checkpoint_of_one_device_is_resumed_on_the_other(begun, monkeypatch, tmp_path):
    whole = train("cpu", 4, tmp_path / "whole.pt")
    with pretended(monkeypatch) as place:
        first, second = ("cpu", place) if begun == "here" else (place, "cpu")
        with pytest.raises(KeyboardInterrupt):
            train(first, 3, tmp_path / "moved.pt")
        moved = train(second, 4, tmp_path / "moved.pt")
        matrix = moved.preconditioner.matrix.detach().cpu()
    assert torch.allclose(matrix, whole.preconditioner.matrix, rtol=1e-4, atol=1e-7)
    assert len(moved.history) == 4 and moved.record["training_seconds"] > 0


def test_what_is_saved_elsewhere_is_loaded_on_the_processor(monkeypatch, tmp_path):
    P = dipa.LinearPreconditioner.identity(problem()[0])
    network = endtoend.build("u-net", SIZE, features=4, blocks=2)
    dipa.save(P, tmp_path / "here")
    with pretended(monkeypatch) as place:
        dipa.save(P.to(place), tmp_path / "there")
        endtoend.save(network.to(place), tmp_path / "network")
        assert dipa.load(tmp_path / "here")[0].to(place).matrix.device == place
        loaded = endtoend.load(tmp_path / "network")[0]
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}


# --- two devices --------------------------------------------------------------------------------------------------------


def mixes():
    """Calls in which one argument is left on the processor: the name that the refusal gives it, and the call."""
    losses, budget = dipa.LossWeights(imitation=1.0, gradient=1.0), dipa.Budget(steps=1, batch_size=2)
    options = {"losses": losses, "budget": budget, "progress": False}

    def solve(student, teacher, images, y, solver, P):
        return solver(y, student, preconditioner=P, stepsize=0.4, x_true=images)

    def distil(student, teacher, images, y, solver, P):
        return dipa.distill(solver, P, student, teacher, images, **options)

    def network(student, teacher, images, y, solver, P):
        net = endtoend.build("u-net", SIZE, features=4, blocks=2).to(images.device)
        return dipa.train_network(net, student, images, budget=budget, progress=False)

    def audit(student, teacher, images, y, solver, P):
        return analysis.audit(images, images, y, student, range_basis(student))

    def shifts(student, teacher, images, y, solver, P):
        return analysis.shifts(P, images, analysis.conditions(student, solver, 0.4))

    def adapter(student, teacher, images, y, solver, P):
        return dipa.to_deepinv(solver, P, student, 0.4)(y, student)

    parts = ("student", "teacher", "images", "y", "solver", "P")
    cases = {
        solve: {"student": "y", "images": "x_true.device", "y": "y", "solver": "prior.denoiser", "P": "preconditioner"},
        distil: {
            "student": "student",
            "teacher": "teacher",
            "images": "student",
            "solver": "prior.denoiser",
            "P": "preconditioner",
        },
        network: {"student": "physics", "images": "physics"},
        audit: {"student": "physics", "images": "physics", "y": "y.device"},
        shifts: {
            "student": "physics of matched",
            "images": "physics of matched",
            "solver": "prior.denoiser",
            "P": "preconditioner",
        },
        adapter: {"P": "gradient"},
    }
    return [(call, parts.index(left), word) for call, found in cases.items() for left, word in found.items()]


@pytest.mark.parametrize(("call", "left", "word"), mixes(), ids=lambda value: getattr(value, "__name__", str(value)))
def test_one_argument_on_another_device_is_refused_by_name(call, left, word, monkeypatch):
    behind = problem()[left]
    with pretended(monkeypatch) as place:
        arguments = list(problem(place))
        call(*arguments)
        arguments[left] = behind
        text = refuses(lambda: call(*arguments), f"{word}: got", "cpu", "pretended:0")
    assert text.count("\n") == 0


@pytest.mark.parametrize("where", ["denoiser", "preconditioner"])
def test_a_function_of_the_user_must_stay_on_the_device_of_its_images(where, monkeypatch):
    with pretended(monkeypatch) as place:
        student, _, _, y, solver, _ = problem(place)
        away = lambda images, *more: images.cpu()  # noqa: E731
        if where == "denoiser":
            solver = dipa.FISTA(dipa.PnP(away), iterations=2)
        P = away if where == "preconditioner" else None
        refuses(lambda: solver(y, student, preconditioner=P, stepsize=0.4), where, "cpu", "pretended:0")
