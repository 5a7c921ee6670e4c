"""The committed runs: readable by today's code, consistent with themselves, and repeatable
where the denoiser is at hand.
"""

from pathlib import Path

import numpy as np
import pytest
import record
import torch
import yaml

from dipa import claims, denoisers, experiments, reports
from dipa.experiments import replay

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "book" / "results"
LISTED = yaml.safe_load((RESULTS / "records.yaml").read_text(encoding="utf-8"))
RUNS = [run for task in LISTED for run in experiments.find_runs(RESULTS / task)]
LARGEST = 4_100_000


def test_the_listed_runs_and_no_others_are_committed():
    listed = {
        (task, preset, seed)
        for task, presets in LISTED.items()
        for preset, seeds in presets.items()
        for seed in seeds
    }
    assert {(run.path.parent.name, run.config.preset, run.config.seed) for run in RUNS} == listed
    assert len(RUNS) == len(listed)


def test_every_row_of_the_state_of_the_art_table_is_recorded():
    rows = reports.presets_of("D2GP Table I")
    assert len(rows) == 27
    assert set(rows) <= {run.config.preset for run in RUNS}


def test_claims_are_judged_from_the_recorded_runs():
    """A claim has a number of ours exactly where every run it needs is recorded."""
    recorded = {run.config.preset for run in RUNS}
    for verdict in claims.judge(RUNS):
        whole = set(verdict.claim.presets) <= recorded
        assert (verdict.ours is not None) == whole == bool(verdict.seeds), verdict.claim.name
    assert any(verdict.ours is not None for verdict in claims.judge(RUNS))


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.path.name)
def test_folder_agrees_with_itself(run):
    assert run.path.name == run.config.run_name
    assert run.path.parent.name == run.config.task.kind
    fitted = run.config.solver.iterations if run.config.method.endswith("-fitted") else 0
    assert len(run.history) == (run.config.training.steps if run.config.trained else fitted)
    assert run.manifest["commit"] and not run.manifest["dirty"]
    assert all(file.stat().st_size <= LARGEST for file in run.path.iterdir())
    truth = run.examples["truth"]
    for role in ("baseline", "teacher"):
        mse = ((run.examples[role] - truth) ** 2).mean(axis=(1, 2, 3))
        spread = abs(-10 * np.log10(mse).mean() - run.metrics[role]["psnr"])
        # some of the test images
        assert spread < 4 * run.metrics[role]["psnr_sd_images"] / np.sqrt(len(truth))


@pytest.mark.parametrize("task", LISTED)
def test_all_runs_of_a_task_saw_the_same_images_and_weights(task):
    runs = [run for run in RUNS if run.path.parent.name == task]
    assert len({run.manifest["sha256"]["test"] for run in runs}) == 1
    assert len({run.manifest["sha256"]["denoiser"] for run in runs}) == 1


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.path.name)
def test_every_recorded_student_is_solved_again(run, user_data, monkeypatch):
    """From the folder alone, on any machine; and the recorded answers are those of a denoiser.

    Of the papers' where its weights are at hand; else they are close to those of the packaged one,
    trained for the same.
    """
    if user_data:
        monkeypatch.setenv("DIPA_DATA", str(user_data))
    name, near = (run.config.solver.denoiser, 3e-3) if user_data else ("dncnn-bsds500", 0.1)
    asked, denoiser = replay.check(run), denoisers.load(name)
    questions, answers = torch.cat(asked.questions), torch.cat(asked.answers)
    with torch.no_grad():
        assert float((denoiser(questions, 2 / 255) - answers).norm() / answers.norm()) < near


def test_the_recorder_finds_every_run_that_is_committed():
    assert {record.run_name(preset, seed) for _, preset, seed in record.wanted()} == {
        run.path.name for run in RUNS
    }
