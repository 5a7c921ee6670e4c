"""The committed runs: readable by today's code, consistent with themselves, and repeatable where the denoiser is at hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from batteries import refuses

from dipa import denoisers, experiments
from dipa.experiments import replay
from dipa.experiments.config import END_TO_END

RESULTS = Path(__file__).parents[1] / "book" / "results"
LISTED = yaml.safe_load((RESULTS / "records.yaml").read_text(encoding="utf-8"))
RUNS = [run for task in LISTED for run in experiments.find_runs(RESULTS / task)]
LARGEST = 4_000_000


def test_the_listed_runs_and_no_others_are_committed():
    listed = {(task, preset, seed) for task, presets in LISTED.items() for preset, seeds in presets.items() for seed in seeds}
    assert {(run.path.parent.name, run.config.preset, run.config.seed) for run in RUNS} == listed
    assert len(RUNS) == len(listed)


def test_every_row_of_the_state_of_the_art_table_is_recorded():
    rows = experiments.tables.presets_of("D2GP Table I")
    assert len(rows) == 27
    assert set(rows) <= {run.config.preset for run in RUNS}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.path.name)
def test_folder_agrees_with_itself(run):
    assert run.path.name == run.config.run_name
    assert run.path.parent.name == run.config.task.kind
    assert len(run.history) == (run.config.training.steps if run.config.trained else 0)
    assert run.manifest["commit"] and not run.manifest["dirty"]
    assert all(file.stat().st_size <= LARGEST for file in run.path.iterdir())
    truth = run.examples["truth"]
    for role in ("baseline", "teacher"):
        mse = ((run.examples[role] - truth) ** 2).mean(axis=(1, 2, 3))
        spread = abs(-10 * np.log10(mse).mean() - run.metrics[role]["psnr"])
        assert spread < 4 * run.metrics[role]["psnr_sd_images"] / np.sqrt(len(truth))  # some of the test images


@pytest.mark.parametrize("task", LISTED)
def test_all_runs_of_a_task_saw_the_same_images_and_weights(task):
    runs = [run for run in RUNS if run.path.parent.name == task]
    assert len({run.manifest["sha256"]["test"] for run in runs}) == 1
    assert len({run.manifest["sha256"]["denoiser"] for run in runs}) == 1


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.path.name)
def test_every_recorded_student_is_solved_again(run):
    """From the folder alone, on any machine: operator, P, stepsize and momentum against what was recorded."""
    replay.check(run)


def changed(run, **parts):
    """The run as it would read with other numbers, whatever its hashes say."""
    copy = experiments.Run(run.path)
    for name, value in parts.items():
        copy.__dict__[name] = value
    return copy


EXAMPLE = next(run for run in RUNS if run.config.preset == "l-dipa-supervised")


def with_psnr(metrics: dict, role: str, more: float) -> dict:
    return metrics | {role: metrics[role] | {"psnr": metrics[role]["psnr"] + more}}


@pytest.mark.parametrize("role", ["baseline", "student", "teacher"])
@pytest.mark.parametrize("more", [6.0, 0.01, -0.01])
def test_another_psnr_is_found(role, more):
    refuses(lambda: replay.check(changed(EXAMPLE, metrics=with_psnr(EXAMPLE.metrics, role, more))), "metrics.json", role)


@pytest.mark.parametrize("role", ["baseline", "student", "teacher"])
def test_another_psnr_of_every_image_is_found(role):
    values = EXAMPLE.replay | {f"psnr_{role}": EXAMPLE.replay[f"psnr_{role}"] + 6}
    parts = {"metrics": with_psnr(EXAMPLE.metrics, role, 6.0), "replay": values}
    refuses(lambda: replay.check(changed(EXAMPLE, **parts)), "replay.npz", f"psnr_{role}")


@pytest.mark.parametrize(
    "change",
    [
        {"solver": {"stepsize": 0.41}},
        {"solver": {"momentum": "chambolle_dossal"}},
        {"solver": {"restart": 10}},
        {"solver": {"start": "adjoint"}},
    ],
    ids=str,
)
def test_another_solver_is_found(change):
    (section, values), *_ = change.items()
    config = dataclasses.replace(EXAMPLE.config, **{section: dataclasses.replace(getattr(EXAMPLE.config, section), **values)})
    refuses(lambda: replay.check(changed(EXAMPLE, config=config)), "denoiser_asked in iteration")


@pytest.mark.parametrize("change", [{"ordering": "zig_zag"}, {"ratio": 0.21}, {"teacher_ratio": 0.71}], ids=str)
def test_another_operator_is_found(change):
    """L-DIPA of this ratio does not even see one coefficient more; its mask does."""
    config = dataclasses.replace(EXAMPLE.config, task=dataclasses.replace(EXAMPLE.config.task, **change))
    refuses(lambda: replay.check(changed(EXAMPLE, config=config)), "masks of the operators")


def test_another_preconditioner_is_found():
    others = [run for run in RUNS if run.config.preset == "l-dipa-supervised" and run.config.seed > 0]
    for other in others:
        run = experiments.Run(EXAMPLE.path)
        object.__setattr__(run, "preconditioner", other.preconditioner)
        refuses(lambda run=run: replay.check(run), "denoiser_asked in iteration")
    assert others


def test_another_image_is_found():
    examples = EXAMPLE.examples | {"student": EXAMPLE.examples["student"][::-1].copy()}
    refuses(lambda: replay.check(changed(EXAMPLE, examples=examples)), "replay.npz")


@pytest.mark.parametrize("run", [r for r in RUNS if r.config.method not in END_TO_END], ids=lambda run: run.path.name)
def test_recorded_answers_are_those_of_the_denoiser(run, user_data, monkeypatch):
    """Of the papers' where its weights are at hand; else they are close to those of the packaged one, trained for the same."""
    if user_data:
        monkeypatch.setenv("DIPA_DATA", str(user_data))
    name, near = (run.config.solver.denoiser, 3e-3) if user_data else ("dncnn-bsds500", 0.1)
    asked, denoiser = replay.check(run), denoisers.load(name)
    with torch.no_grad():
        for question, answer in zip(asked.questions, asked.answers, strict=True):
            assert float((denoiser(question, 2 / 255) - answer).norm() / answer.norm()) < near
