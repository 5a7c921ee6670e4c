"""The command line, in process: exit status, one line for bad input, and what each command prints."""

import json

import numpy as np
import pytest
import yaml
from test_experiments import TINY

from dipa import cli, data, experiments


def call(capsys, *arguments):
    """Exit status, standard output and standard error of one command."""
    try:
        status = cli.main(list(arguments))
    except SystemExit as stop:  # argparse
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_list_names_every_preset(capsys):
    status, out, _ = call(capsys, "list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == experiments.names()


def test_list_json_is_one_object_per_preset(capsys):
    status, out, _ = call(capsys, "list", "--json")
    assert status == 0
    rows = json.loads(out)
    assert [row["name"] for row in rows] == experiments.names()
    keys = {"name", "paper", "table", "task", "method", "prior", "loss", "profile_seconds"}
    assert all(keys <= set(row) and set(row["profile_seconds"]) == set(experiments.profiles()) for row in rows)
    assert {row["task"] for row in rows} == {"single_pixel", "mri", "super_resolution"}


def test_show_prints_the_resolved_configuration(capsys):
    status, out, _ = call(capsys, "show", "baseline", "--profile", "smoke", "--seed", "3", "--set", "solver.momentum=deepinv")
    shown = yaml.safe_load(out)
    assert status == 0
    assert (shown["seed"], shown["solver"]["momentum"]) == (3, "deepinv")
    assert out.startswith("# baseline-smoke-s3-")


def test_run_writes_a_folder_and_says_where(capsys, tmp_path):
    overrides = [part for text in TINY for part in ("--set", text)]
    status, out, _ = call(capsys, "run", "ridge", "--profile", "smoke", "--out", str(tmp_path), "--quiet", *overrides)
    (folder,) = tmp_path.iterdir()
    assert status == 0
    assert str(folder) in out
    assert "PSNR" in out or "dB" in out
    assert experiments.Run(folder).config.preset == "ridge"


def test_data_shows_what_is_here(capsys):
    status, out, _ = call(capsys, "data")
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines() if line[0] != " "] == list(data.DATASETS)
    assert "mnist: not available" in out
    assert "dipa data mnist --download" in out
    for name in data.DATASETS:
        assert data.SOURCES[name].about in out and data.SOURCES[name].get in out


def test_data_lists_the_files_there_are(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DIPA_DATA", str(tmp_path))
    (tmp_path / "mri").mkdir()
    np.savez(tmp_path / "mri" / "good.npz", images=np.ones((20, 8, 8)))
    np.savez(tmp_path / "mri" / "odd.npz", other=np.ones(3))
    status, out, _ = call(capsys, "data", "mri-npz")
    assert status == 0
    assert "mri-npz good.npz: 14 train, 4 test" in out
    assert "mri-npz odd.npz: not available" in out


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("runn", "baseline"),
        ("run",),
        ("run", "basline"),
        ("run", "baseline", "--profile", "tiny"),
        ("run", "baseline", "--set", "training.stps=1"),
        ("run", "baseline", "--set", "training.steps"),
        ("run", "baseline", "--seed", "one"),
        ("run", "baseline", "--seed", "-1"),
        ("show", "baseline", "--sett", "a=b"),
        ("data", "mnits"),
        ("data", "mnist"),
    ],
)
def test_bad_input_is_one_line_and_status_two(capsys, arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("DIPA_RUNS", str(tmp_path))
    status, _, err = call(capsys, *arguments)
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("error: ")


def test_missing_data_ends_before_any_folder_is_left(capsys, tmp_path):
    status, _, err = call(capsys, "run", "baseline", "--profile", "small", "--out", str(tmp_path))
    assert status == 2
    assert "mnist" in err
    assert experiments.find_runs(tmp_path) == []


def test_interrupt_leaves_status_130(capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "run", interrupted)
    status, _, err = call(capsys, "run", "baseline", "--profile", "smoke")
    assert status == 130
    assert "continues from the last checkpoint" in err


def test_a_full_disk_is_one_line(capsys, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(experiments, "run", full)
    status, _, err = call(capsys, "run", "baseline", "--profile", "smoke")
    assert status == 1
    assert err.count("\n") == 1
    assert "No space left" in err
