"""A run is solved again from its folder, without its data and its denoiser; whatever was
changed in it is found.
"""

import dataclasses

import numpy as np
import pytest
from batteries import refuses
from tiny_runs import small

from dipa import data, denoisers, experiments
from dipa.experiments import replay
from dipa.experiments.methods import METHODS

PRESETS = {
    "baseline": {},
    "hessian": {},
    "ridge": {},
    "l-dipa-supervised": {"task__noise_sigma": 0.05},
    "n-dipa-supervised": {},
    "scalar": {},
    "red-l-dipa-supervised": {},
    "mri-baseline": {},
    "mri-polynomial": {},
    "sr-ridge": {},
    **{
        f"e2e-{method}": {"preset": "e2e-single-pixel", "method": method}
        for method in METHODS
        if METHODS[method].network
    },
}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Runs, each made once."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def run(name, **settings):
        settings = (
            {"solver__iterations": 4, "data__test_count": 12} | PRESETS.get(name, {}) | settings
        )
        preset = settings.pop("preset", name)
        if name not in made:
            made[name] = experiments.run(
                small(preset, **settings), folder / name, progress=False
            ).path
        return experiments.Run(made[name])

    return run


def changed(run, **parts):
    """The run as it would read with other contents, whatever its hashes say."""
    for name, value in parts.items():
        run.__dict__[name] = value
    return run


@pytest.mark.parametrize("name", PRESETS)
def test_a_run_agrees_with_itself_without_data_and_denoiser(name, make, monkeypatch):
    run = make(name)
    for module, function in ((data, "load"), (denoisers, "load")):
        monkeypatch.setattr(
            module, function, lambda *_, **__: pytest.fail("not needed to solve a run again")
        )
    replay.check(run)


def test_a_large_preconditioner_that_was_left_out_is_replaced_by_its_answers(make, monkeypatch):
    monkeypatch.setattr(replay, "LARGEST", 100)
    run = make("l-dipa-imitation")
    assert run.replay["directions"].shape[0] == 4
    monkeypatch.setattr(type(run), "preconditioner", lambda _: pytest.fail("it was left out"))
    replay.check(run)
    directions = run.replay["directions"].copy()
    directions[0] *= 1.1
    refuses(
        lambda: replay.check(changed(run, replay=run.replay | {"directions": directions})),
        "in iteration",
    )


def test_answers_are_kept_of_a_p_whose_file_may_be_too_large_to_commit(make, monkeypatch):
    """A file is larger than the numbers in it, by less than is allowed for."""
    run = make("l-dipa-imitation")
    numbers = sum(p.numel() * p.element_size() for p in run.preconditioner().state_dict().values())
    size = run.manifest["trained"]["bytes"]
    assert numbers < size < numbers + replay.ROOM
    monkeypatch.setattr(replay, "LARGEST", size - 1)
    assert "directions" in make("another", preset="l-dipa-imitation").replay


@pytest.mark.parametrize("role", ["baseline", "student", "teacher"])
@pytest.mark.parametrize("more", [6.0, 0.01, -0.01])
def test_another_psnr_is_found(role, more, make):
    run = make("l-dipa-supervised")
    metrics = run.metrics | {role: run.metrics[role] | {"psnr": run.metrics[role]["psnr"] + more}}
    refuses(lambda: replay.check(changed(run, metrics=metrics)), "metrics.json", role)


@pytest.mark.parametrize("role", ["baseline", "student", "teacher"])
def test_another_psnr_of_every_image_is_found(role, make):
    run = make("l-dipa-supervised")
    metrics = run.metrics | {role: run.metrics[role] | {"psnr": run.metrics[role]["psnr"] + 6}}
    values = run.replay | {f"psnr_{role}": run.replay[f"psnr_{role}"] + 6}
    refuses(
        lambda: replay.check(changed(run, metrics=metrics, replay=values)),
        "replay.npz",
        f"psnr_{role}",
    )


def test_without_the_psnr_of_all_images_six_decibels_are_found(make):
    """As in folders that were sealed afterwards: the mean must be a likely one."""
    run = make("l-dipa-supervised")
    few = {name: array for name, array in run.replay.items() if not name.startswith("psnr_")}
    metrics = {
        role: run.metrics[role] | {"psnr_sd_images": 3.0}
        for role in ("baseline", "student", "teacher")
    }
    replay.check(changed(run, replay=few, metrics=metrics))
    metrics["student"] = metrics["student"] | {"psnr": metrics["student"]["psnr"] + 6}
    refuses(lambda: replay.check(changed(run, metrics=metrics)), "metrics.json", "student")


def test_a_baseline_cannot_claim_a_student(make):
    run = make("baseline")
    metrics = run.metrics | {"student": run.metrics["student"] | {"psnr": 99.0}}
    refuses(
        lambda: replay.check(changed(run, metrics=metrics)), "metrics.json", "student of its own"
    )


@pytest.mark.parametrize(
    "values",
    [
        {"stepsize": 0.41},
        {"momentum": "deepinv"},
        {"restart": 2},
        {"start": "adjoint"},
        {"iterations": 3},
        {"prior": "red"},
    ],
    ids=str,
)
def test_another_solver_is_found(values, make):
    run = make("l-dipa-supervised")
    config = dataclasses.replace(
        run.config, solver=dataclasses.replace(run.config.solver, **values)
    )
    refuses(lambda: replay.check(changed(run, config=config)), "denoiser_asked")


@pytest.mark.parametrize(
    "values", [{"ordering": "zig_zag"}, {"ratio": 0.22}, {"teacher_ratio": 0.75}], ids=str
)
def test_another_operator_is_found(values, make):
    """L-DIPA of this ratio does not even see one coefficient more; its mask does."""
    run = make("l-dipa-supervised")
    config = dataclasses.replace(run.config, task=dataclasses.replace(run.config.task, **values))
    refuses(lambda: replay.check(changed(run, config=config)), "masks of the operators")


@pytest.mark.parametrize("change", [{"seed": 1}, {"task": 0.06}], ids=str)
def test_other_noise_is_found(change, make):
    run = make("l-dipa-supervised")
    task = dataclasses.replace(run.config.task, noise_sigma=change.pop("task", 0.05))
    config = dataclasses.replace(run.config, task=task, **change)
    refuses(lambda: replay.check(changed(run, config=config)), "denoiser_asked in iteration")


def test_another_preconditioner_is_found(make, monkeypatch):
    run, other = (
        make("l-dipa-supervised"),
        make("l-dipa-supervised-other", preset="l-dipa-supervised", seed=1, task__noise_sigma=0.3),
    )
    P = other.preconditioner()
    monkeypatch.setattr(type(run), "preconditioner", lambda _: P)
    refuses(lambda: replay.check(run), "denoiser_asked")


def test_another_image_is_found(make):
    run = make("l-dipa-supervised")
    turned = {"student": run.examples["student"][:, :, ::-1].copy()}
    refuses(lambda: replay.check(changed(run, examples=run.examples | turned)), "replay.npz")
    few = {name: array for name, array in run.replay.items() if not name.startswith("psnr_")}
    first = run.examples["student"].copy()
    first[0, 0, 3, 3] += 0.01
    parts = {"replay": few, "examples": run.examples | {"student": first}}
    metrics = {
        role: run.metrics[role] | {"psnr_sd_images": 9.0}
        for role in ("baseline", "student", "teacher")
    }
    refuses(lambda: replay.check(changed(run, metrics=metrics, **parts)), "student solved again")
    assert np.abs(first - run.examples["student"]).max() >= 0
