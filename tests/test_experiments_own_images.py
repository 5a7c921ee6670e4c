"""``dipa evaluate``: a run's student on other images, beside baseline, 1/L and best start."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from batteries import refuses
from PIL import Image
from tiny_runs import small

from dipa import cli, commands, data, experiments, metrics
from dipa.data import ImageSet
from dipa.experiments.own_images import Evaluation, evaluate_on, own_images, untrained
from dipa.experiments.problem import Problem, make_solver, operators
from dipa.experiments.replay import STREAM
from dipa.operators.measure import measure


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return experiments.run(small("idea"), tmp_path_factory.mktemp("runs"), progress=False)


@pytest.fixture
def pictures(tmp_path):
    """A folder of three pictures, one of them below it."""
    draw = np.random.default_rng(0)
    (tmp_path / "mine" / "more").mkdir(parents=True)
    for name in ("b2.png", "b10.png", "more/a.png"):
        values = draw.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "mine" / name)
    (tmp_path / "mine" / "notes.txt").write_text("no picture")
    return tmp_path / "mine"


def test_a_folder_of_pictures_by_name(pictures):
    whole = data.folder(pictures, size=16)
    assert (whole.name, whole.split, whole.images.shape) == ("mine", "all", (3, 1, 16, 16))
    for count, channels in ((2, 3), (1, 2)):
        part = data.folder(str(pictures), size=16, count=count, channels=channels)
        assert part.images.shape == (count, channels, 16, 16)
    direct = data.pictures.decode(data.pictures.in_folder(pictures)[0], 16, 1)
    assert data.pictures.in_folder(pictures)[0].name.endswith("b2.png")
    assert torch.equal(whole.images[0], direct)


def test_what_is_no_folder_of_pictures_is_refused(pictures, tmp_path):
    refuses(lambda: data.folder(tmp_path / "lost"), "folder", "lost")
    (tmp_path / "empty").mkdir()
    refuses(lambda: data.folder(tmp_path / "empty"), "folder", "empty", "png")
    refuses(lambda: data.folder(pictures, count=4), "count", "4", "3 images")
    refuses(lambda: data.folder(pictures, size=4), "size", "4")
    (pictures / "a.png").write_bytes(b"no picture")
    refuses(lambda: data.folder(pictures), "a.png")


def test_what_takes_no_training_is_told_on_the_run_s_own_test_images(run):
    found = untrained(run)
    assert list(found) == ["steps of 1/L", "closed form, where P starts"]
    ridge = replace(run.config, method="ridge", preset="ridge")
    problem = Problem.build(run.config)
    y = measure(problem.student, problem.test.images, seed=run.config.seed, stream=STREAM)
    for name, P, alpha in (
        ("steps of 1/L", None, "1/L"),
        ("closed form, where P starts", ridge.recipe.make(Problem.build(ridge)), 0.4),
    ):
        x = problem.solver(y, problem.student, preconditioner=P, stepsize=alpha).x
        assert found[name] == pytest.approx(metrics.psnr(x, problem.test.images).mean().item())
    assert abs(found["steps of 1/L"] - run.metrics["baseline"]["psnr"]) > 1e-3
    assert run.config.solver.stepsize == 0.4


def test_on_its_own_images_it_says_what_the_run_did(run):
    found = evaluate_on(run, own_images(run, run.config.data.name, 3))
    assert found.count == run.manifest["counts"]["test"] == 3
    for role in ("student", "baseline"):
        assert found.mean(role) == pytest.approx(run.metrics[role]["psnr"], abs=1e-3)


def test_1_l_and_the_best_start_are_runs_of_the_solver(run, pictures):
    images = own_images(run, str(pictures))
    found = evaluate_on(run, images)
    physics, _ = operators(run.config)
    y = measure(physics, images.images, seed=run.config.seed, stream=STREAM)
    by_hand = {}
    for start in ("zero", "adjoint", "scaled_adjoint", "pseudo_inverse", "interpolated"):
        solver = make_solver(run.config.solver, precision="float32")
        object.__setattr__(solver, "start", start)
        by_hand[start] = metrics.psnr(solver(y, physics, stepsize="1/L").x, images.images)
    assert found.psnr["1/L"] == pytest.approx(by_hand[run.config.solver.start].tolist(), abs=1e-3)
    best = max(value.mean().item() for value in by_hand.values())
    (name,) = set(found.psnr) - {"student", "baseline", "1/L"}
    assert found.mean(name) == pytest.approx(best, abs=1e-3)
    assert best == pytest.approx(by_hand[name.split()[-1]].mean().item(), abs=1e-3)


def test_it_says_on_which_images_the_student_loses():
    psnr = {"student": [20.0, 29.9, 25.0], "baseline": [30.0, 30.0, 25.5]}
    found = Evaluation("a run", "mine", 3, psnr, dict.fromkeys(psnr, "completed"))
    assert found.lost == [10.0, 0.5]
    assert "below the baseline on 2 of 3 images, by up to 10.0 dB" in str(found)
    same = Evaluation("a run", "mine", 3, {name: [30.0] * 3 for name in psnr}, found.status)
    assert "nowhere more than 0.3 dB below" in str(same) and same.plain()["mean"]["student"] == 30


def test_fixed_preconditioners_and_networks_are_evaluated_too(tmp_path):
    for preset in ("hessian", "baseline", "e2e-mri"):
        made = experiments.run(small(preset), tmp_path, progress=False)
        found = evaluate_on(made, own_images(made, made.config.data.name, 3))
        assert found.mean("student") == pytest.approx(made.metrics["student"]["psnr"], abs=1e-3)


def test_the_command(run, pictures, capsys):
    where = [str(run.path), "--images", str(pictures)]
    assert cli.main(["evaluate", *where, "--count", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["count"] == 2 and len(told["psnr"]["student"]) == 2
    assert cli.main(["evaluate", *where]) == 0
    assert "on 3 images of mine" in capsys.readouterr().out
    for wrong in (["--images", str(pictures / "lost")], ["--images", "embedded", "--count", "0"]):
        assert cli.main(["evaluate", str(run.path), *wrong]) == 2
        assert capsys.readouterr().err.startswith("error: ")


def test_the_command_that_makes_a_run_again(run, tmp_path):
    words = run.command.split()
    changed = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert words[:5] == ["dipa", "run", "idea", "--profile", "smoke"] and "task.size=16" in changed
    assert experiments.resolve("idea", "smoke", overrides=changed) == run.config
    plain = experiments.resolve("idea", "smoke", seed=3)
    object.__setattr__(run, "config", plain)
    assert run.command == "dipa run idea --profile smoke --seed 3"
    del run.__dict__["config"]


def test_images_are_those_of_the_task(run):
    assert isinstance(own_images(run, "embedded", 2), ImageSet)
    assert own_images(run, "embedded", 2).images.shape == (2, 1, 16, 16)


def test_images_that_p_does_not_trust_are_counted_and_get_1_l(tmp_path):
    """The closed form of photographs, on a kind that they are not."""
    config = small("ridge", data__ridge_count=200)
    run = experiments.run(config, tmp_path, progress=False)
    assert "untrusted" not in run.metrics["student"]
    size = config.task.size
    stripes = (torch.arange(size) % 2).expand(3, 1, size, size).float().contiguous()
    found = evaluate_on(run, ImageSet(stripes, "stripes", "all"))
    assert found.status["student"] == "completed, 3 untrusted: without P"
    assert found.psnr["student"] == pytest.approx(found.psnr["1/L"], abs=1e-3)
    assert "untrusted" in str(found) and found.status["1/L"] == "completed"


def test_a_run_counts_the_test_images_that_its_p_does_not_trust(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        "dipa.preconditioners.base.trusted", lambda known, P, physics, y: torch.arange(len(y)) > 0
    )
    run = experiments.run(small("ridge", data__ridge_count=200), tmp_path, progress=False)
    assert run.metrics["student"]["untrusted"] == 1
    assert "untrusted" not in run.metrics["baseline"]
    assert "completed, 1 untrusted: without P" in commands.summary(run)


def test_under_a_shift_p_is_tested_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "dipa.preconditioners.base.trusted", lambda known, P, physics, y: torch.arange(len(y)) > 99
    )
    config = small("ridge", data__ridge_count=200, shifts={"same": {"task": {}}})
    numbers = experiments.run(config, tmp_path, progress=False).metrics
    assert numbers["student"]["untrusted"] == 3
    assert "untrusted" not in numbers["shifts"]["same"]["student"]
    assert numbers["shifts"]["same"]["student"]["psnr"] != numbers["student"]["psnr"]
