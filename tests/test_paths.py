import json
from pathlib import Path

import numpy as np
import pytest
import torch
from batteries import identity_denoiser, refuses, smooth_images, solver
from tiny_runs import tiny

import dipa
from dipa import endtoend, experiments, operators, paths

FOLDERS = {
    "DIPA_DATA": paths.data_directory,
    "DIPA_CACHE": paths.cache_directory,
    "DIPA_RUNS": paths.runs_directory,
}
NAMED = FOLDERS | {"DIPA_DNCNN": paths.denoiser_file}


@pytest.mark.parametrize("variable", NAMED)
@pytest.mark.parametrize("name", ["plain", "with space", "ü and 漢字"])
def test_a_variable_names_a_folder_from_home(variable, name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in (f"~/{name}", str(tmp_path / name)):
        monkeypatch.setenv(variable, text)
        assert NAMED[variable]() == tmp_path / name


@pytest.mark.parametrize(
    ("variable", "default"),
    [
        ("DIPA_DATA", None),
        ("DIPA_CACHE", Path("~/.cache/dipa").expanduser()),
        ("DIPA_RUNS", Path("runs")),
        ("DIPA_DNCNN", None),
    ],
)
def test_an_empty_variable_is_one_that_is_not_set(variable, default, monkeypatch):
    monkeypatch.setenv(variable, "")
    assert NAMED[variable]() == default
    monkeypatch.delenv(variable)
    assert NAMED[variable]() == default


def test_a_data_folder_that_does_not_exist_is_named(tmp_path, monkeypatch):
    for wrong in (tmp_path / "nowhere", tmp_path / "file"):
        (tmp_path / "file").touch()
        monkeypatch.setenv("DIPA_DATA", str(wrong))
        refuses(paths.data_directory, "DIPA_DATA", str(wrong), "existing folder")


def test_no_home_folder_asks_for_the_variable(monkeypatch, tmp_path):
    """As in a container whose user has no entry and no HOME."""
    monkeypatch.delenv("DIPA_CACHE")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    refuses(paths.cache_directory, "DIPA_CACHE", "no home folder")
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path))
    assert paths.cache_directory() == tmp_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "ü and space"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    yield folder
    assert not (tmp_path / "~").exists()


def test_files_are_written_and_read_from_home(home):
    dipa.save(dipa.ScalarSteps(2), "~/of mine/P.safetensors")
    assert (home / "of mine" / "P.safetensors").is_file()
    assert dipa.load("~/of mine/P.safetensors")[0].iterations == 2
    dipa.save(endtoend.build("u-net", (1, 8, 8), features=2, blocks=2), Path("~/net"))
    assert dipa.load("~/net")[0].kind == "u-net"


def test_training_keeps_its_files_at_home(home):
    """Checkpoint and cache; and a record of numbers of numpy is one that JSON can hold."""
    student, teacher = (
        operators.single_pixel((1, 8, 8), ratio=np.float32(ratio)) for ratio in (0.25, 0.75)
    )
    budget = dipa.Budget(steps=np.int64(2), batch_size=np.array(2), learning_rate=np.float32(0.01))
    numbers = {
        "stepsize": np.float64(0.4),
        "teacher_stepsize": np.float32(0.75),
        "seed": np.int8(1),
        "budget": budget,
    }
    files = {"checkpoint": "~/made/checkpoint.pt", "cache": "~/cached"}
    losses = dipa.LossWeights(imitation=np.float32(1), supervised=np.int64(1))
    fit = dipa.distill(
        solver(np.int32(2)),
        dipa.ScalarSteps(2),
        student,
        teacher,
        smooth_images(3),
        losses=losses,
        progress=False,
        **numbers,
        **files,
        validation=0,
    )
    assert (home / "made" / "checkpoint.pt").is_file() and list((home / "cached").iterdir())
    json.dumps(fit.record, allow_nan=False)
    assert (
        fit.record["seed"] == 1
        and fit.record["budget"]["steps"] == 2
        and fit.record["teacher_stepsize"] == 0.75
    )
    dipa.save(fit, "~/fit")
    assert dipa.load("~/fit")[1]["losses"]["supervised"] == 1


def test_runs_are_written_at_home(home):
    run = experiments.run(tiny("baseline"), "~/runs", progress=False)
    assert run.path.parent == home / "runs"


@pytest.mark.parametrize("path", ["", ".", "..", "a/..", "/", "\0", None])
def test_what_names_a_folder_is_no_file_to_write(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refuses(lambda: dipa.save(dipa.ScalarSteps(2), path), "path")
    refuses(lambda: dipa.save(dipa.ScalarSteps(2), tmp_path), "path", "a file")
    assert not any(tmp_path.iterdir())


def test_numbers_of_numpy_describe_a_solver_as_pythons_do():
    """So that keys and run folders are the same."""
    made = dipa.FISTA(
        dipa.RED(identity_denoiser, sigma=np.float64(0.1), weight=np.int64(1)),
        iterations=np.int64(3),
        restart=np.int8(2),
    )
    expected = dipa.FISTA(dipa.RED(identity_denoiser, sigma=0.1, weight=1), iterations=3, restart=2)
    assert json.dumps(made.describe()) == json.dumps(expected.describe())
    physics = operators.mri(
        (2, np.int16(8), 8),
        acceleration=np.float32(2),
        mask_seed=np.int64(3),
        noise_sigma=np.array(0.0),
    )
    assert json.dumps(physics.describe()) == json.dumps(
        operators.mri((2, 8, 8), acceleration=2.0, mask_seed=3).describe()
    )
    P = dipa.NeuralPreconditioner(
        "cnn",
        img_size=(1, 8, 8),
        features=np.int64(4),
        blocks=np.int8(1),
        code_dim=np.array(4),
        seed=np.int64(1),
    )
    same = dipa.NeuralPreconditioner(
        "cnn", img_size=(1, 8, 8), features=4, blocks=1, code_dim=4, seed=1
    )
    assert json.dumps(P.header()) == json.dumps(same.header())
    assert all(torch.equal(a, b) for a, b in zip(P.parameters(), same.parameters(), strict=True))
