"""The committed runs: readable by today's code, consistent with themselves, and repeatable where the denoiser is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dipa import denoisers, experiments, operators, solvers
from dipa.priors import PnP

RECORDS = Path(__file__).parents[1] / "book" / "results" / "single_pixel"
RUNS = experiments.find_runs(RECORDS)
EXPECTED = {name for name in experiments.names() if name != "idea"}


def test_every_preset_is_recorded_and_two_have_three_seeds():
    seeds = {}
    for run in RUNS:
        seeds.setdefault(run.config.preset, set()).add(run.config.seed)
    assert set(seeds) == EXPECTED
    assert seeds["l-dipa-supervised"] == seeds["l-dipa-imitation"] == {0, 1, 2}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.path.name)
def test_folder_agrees_with_itself(run):
    assert run.path.name == run.config.run_name
    assert len(run.history) == (run.config.training.steps if run.config.method == "l-dipa" else 0)
    assert run.manifest["commit"]
    truth = run.examples["truth"]
    for role in ("baseline", "teacher"):
        mse = ((run.examples[role] - truth) ** 2).mean(axis=(1, 2, 3))
        spread = abs(-10 * np.log10(mse).mean() - run.metrics[role]["psnr"])
        assert spread < 4 * run.metrics[role]["psnr_sd_images"] / np.sqrt(len(truth))  # eight of the test images


def test_all_runs_saw_the_same_images_and_weights():
    assert len({run.manifest["sha256"]["test"] for run in RUNS}) == 1
    assert len({run.manifest["sha256"]["denoiser"] for run in RUNS}) == 1


@pytest.mark.parametrize("run", [r for r in RUNS if r.config.seed == 0], ids=lambda run: run.path.name)
def test_stored_images_follow_from_the_stored_preconditioner(run, user_data, monkeypatch):
    """The student's images again from truth and P. Without the papers' weights, P must still be what it says it is."""
    matrix = run.preconditioner() if run.config.method != "baseline" else None
    task, setting = run.config.task, run.config.solver
    physics = operators.single_pixel((1, task.size, task.size), ratio=task.ratio, ordering=task.ordering)
    if matrix is not None:
        assert tuple(matrix.matrix.shape) == (task.size**2, int(physics.mask.sum()))
        assert torch.equal(matrix.basis.index, physics.range_basis().index)
    if user_data is None:
        return
    monkeypatch.setitem(os.environ, "DIPA_DATA", str(user_data))
    prior = PnP(denoisers.load(setting.denoiser))
    solver = solvers.FISTA(prior, setting.iterations, setting.momentum, setting.start)
    truth = torch.from_numpy(run.examples["truth"][:4])
    with torch.no_grad():
        x = solver(physics.A(truth), physics, preconditioner=matrix, stepsize=setting.stepsize).x
    stored = torch.from_numpy(run.examples["student" if matrix is not None else "baseline"])
    assert torch.allclose(x, stored[:4], atol=2e-3)
