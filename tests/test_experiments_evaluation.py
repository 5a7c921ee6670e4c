"""Tasks, problems, what is tested and cached, shifted tests."""

import json
from pathlib import Path

import pytest
import torch
from batteries import refuses
from tiny_runs import small

from dipa import experiments, metrics
from dipa.experiments import evaluation
from dipa.experiments.config import Config, build
from dipa.experiments.methods import METHODS
from dipa.experiments.problem import Problem, make_solver
from dipa.experiments.tasks import TASKS


@pytest.mark.parametrize("kind", TASKS)
def test_each_task_makes_two_operators_on_one_image_space(kind):
    task = TASKS[kind](size=16)
    student, teacher = task.pair()
    assert student is not teacher
    assert tuple(student.img_size) == tuple(teacher.img_size) == (task.channels, 16, 16)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"kind": "ct"}, ("task.kind", "ct", "super_resolution")),
        ({"kind": "mri", "ratio": 0.2}, ("task", "ratio", "acceleration")),
        ({"kind": "mri", "acceleration": 0.5}, ("task.acceleration", "0.5")),
        ({"kind": "super_resolution", "factor": 0}, ("task.factor", "0")),
        ({"kind": "single_pixel", "size": 50}, ("task.size", "50")),
    ],
)
def test_bad_tasks_are_refused_by_name(task, words):
    refuses(
        lambda: build(
            Config, {"preset": "x", "profile": "smoke", "method": "baseline", "task": task}
        ),
        *words,
    )


@pytest.mark.parametrize(
    ("shifts", "words"),
    [
        ({"AF 8": {"data": {}}}, ("shifts.AF 8", "data", "task")),
        ({"AF 8": {"task": {"accel": 8}}}, ("task", "accel")),
        ({"AF 8": {"task": {"acceleration": 0}}}, ("task.acceleration", "0")),
        ({"AF 8": 3}, ("shifts.AF 8", "3")),
    ],
)
def test_bad_shifts_are_refused_when_the_configuration_is_made(shifts, words):
    values = {
        "preset": "x",
        "profile": "smoke",
        "method": "baseline",
        "task": {"kind": "mri"},
        "shifts": shifts,
    }
    refuses(lambda: build(Config, values), *words)


@pytest.mark.parametrize("preset", ["baseline", "mri-baseline", "sr-baseline", "red-baseline"])
def test_the_cache_gives_back_what_was_computed(preset, tmp_path, monkeypatch):
    """The second run solves nothing for baseline and teacher, and its numbers are the same."""
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path / "cache"))
    first = experiments.run(small(preset), tmp_path / "a", progress=False)
    assert len(list((tmp_path / "cache").glob("evaluation-*.safetensors"))) == 2
    monkeypatch.setattr(evaluation, "_solved", lambda *_: pytest.fail("solved again"))
    second = experiments.run(small(preset), tmp_path / "b", progress=False)
    assert json.loads((second.path / "metrics.json").read_text()) == json.loads(
        (first.path / "metrics.json").read_text()
    )


def test_seed_of_the_noise_and_solver_change_what_is_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path))
    variants = [
        {},
        {"solver__prior": "red"},
        {"solver__prior": "red", "solver__red_weight": 0.5},
        {"task__noise_sigma": 0.1},
    ]
    for variant in variants:
        problem = Problem.build(small("baseline", **variant))
        evaluation.evaluate(problem, None, progress=False)
    assert len(list(Path(tmp_path).glob("evaluation-*"))) == 2 * len(variants)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_a_run_killed_while_it_is_tested_goes_on_after_the_last_batch(stage, tmp_path, monkeypatch):
    """Killed in the second of two batches of a role: the batches before it, of every role, are
    not solved again.
    """
    monkeypatch.setattr(evaluation, "TEST_BATCH", 2)
    config = small("l-dipa-supervised", data__test_count=4)
    whole = experiments.run(config, tmp_path / "whole", progress=False)
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path / "cache"))
    solved, kill_at = [], {"student": 4, "teacher": 6}[stage]

    def counted(*arguments):
        solved.append(1)
        if len(solved) == kill_at:
            raise Killed
        return solve(*arguments)

    solve = evaluation._solved
    monkeypatch.setattr(evaluation, "_solved", counted)
    with pytest.raises(Killed):
        experiments.run(config, tmp_path / "runs", progress=False)
    resumed = experiments.run(config, tmp_path / "runs", progress=False)
    assert len(solved) == 6 + 1, "three roles of two batches, and the one that was killed"
    assert resumed.metrics["student"]["psnr"] == whole.metrics["student"]["psnr"]
    assert resumed.metrics == whole.metrics


def test_a_shifted_test_is_the_test_of_the_shifted_configuration():
    shifted = {"harsher": {"task": {"ratio": 0.1}}, "RED": {"solver": {"prior": "red"}}}
    problem = Problem.build(
        small("l-dipa-supervised", shifts=shifted, preconditioner__complement=1.0)
    )
    fit = problem.config.recipe.fit(problem, None, progress=False)
    numbers, *_ = evaluation.evaluate(problem, fit.preconditioner, progress=False)
    direct = Problem.build(small("l-dipa-supervised", task__ratio=0.1))
    expected, *_ = evaluation.evaluate(direct, fit.preconditioner, progress=False)
    for role in ("baseline", "student"):
        assert numbers["shifts"]["harsher"][role]["psnr"] == pytest.approx(
            expected[role]["psnr"], abs=1e-4
        )
    assert numbers["shifts"]["RED"]["student"]["psnr"] != numbers["student"]["psnr"]


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.network])
def test_end_to_end_networks_are_tested_under_the_operator_of_the_test(method):
    shifts = {"other": {"task": {"ratio": 0.5}}}
    problem = Problem.build(
        small(
            "e2e-single-pixel", method=method, shifts=shifts, network__features=8, network__blocks=2
        )
    )
    fit = problem.config.recipe.fit(problem, None, progress=False)
    numbers, examples, _ = evaluation.evaluate(problem, fit.network, progress=False)
    other = problem.shifted("other").student
    x = problem.test.images
    with torch.no_grad():
        psnr = metrics.psnr(fit.network(other.A(x), other), x).mean().item()
    assert numbers["shifts"]["other"]["student"]["psnr"] == pytest.approx(psnr, abs=1e-4)
    assert "student_iterates" not in examples and numbers["student"]["curve"] == {}


def test_fixed_methods_are_made_from_the_configuration():
    damping = 0.25
    problem = Problem.build(small("sr-hessian", preconditioner__damping=damping))
    gradient = problem.student.A_adjoint_A(problem.test.images)
    direction = problem.config.recipe.fit(problem, None, progress=False).preconditioner(
        gradient, gradient, 1
    )
    back = problem.student.A_adjoint_A(direction) + damping * problem.student.norm_sq * direction
    assert torch.allclose(back, gradient, atol=1e-5)


def test_precision_of_the_test_is_float32_whatever_the_training():
    config = small("baseline", solver__precision="bf16")
    assert make_solver(config.solver).prior.precision == "bf16"
    assert make_solver(config.solver, precision="float32").prior.precision == "float32"


def test_a_network_trained_in_bfloat16_is_tested_and_kept_in_float32(tmp_path):
    run = experiments.run(
        small("n-dipa-supervised", solver__precision="bf16"), tmp_path, progress=False
    )
    assert run.preconditioner().precision == "float32"
    physics, _ = run.config.task.pair()
    truth = torch.from_numpy(run.examples["truth"])
    solver = make_solver(run.config.solver, precision="float32")
    with torch.no_grad():
        x = solver(
            physics.A(truth),
            physics,
            preconditioner=run.preconditioner(),
            stepsize=run.config.solver.stepsize,
        ).x
    assert torch.allclose(x, torch.from_numpy(run.examples["student"]), atol=1e-5)


def test_psnr_of_the_modulus_is_reported_for_complex_images():
    x = torch.rand((4, 2, 8, 8), generator=torch.Generator().manual_seed(0))
    turned = torch.stack([-x[:, 1], x[:, 0]], dim=1)  # times i: the same modulus
    found = metrics.summary(turned, x, 4)
    assert found["psnr_magnitude"] > 60 > found["psnr"]
    assert "psnr_magnitude" not in metrics.summary(x[:, :1], x[:, 1:], 4)
