"""What each command prints, in process."""

import json
from pathlib import Path

import numpy as np
import yaml
from children import call
from tiny_runs import TINY

from dipa import commands, data, experiments


def test_the_command_line_has_each_of_them(capsys):
    _, out, _ = call(capsys, "--help")
    listed = out.split("{")[1].split("}")[0].split(",")
    assert [name.strip() for name in listed] == list(commands.COMMANDS)


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
    assert all(
        keys <= set(row) and set(row["profile_seconds"]) == set(experiments.profiles())
        for row in rows
    )
    assert {row["task"] for row in rows} == {"single_pixel", "mri", "super_resolution"}


def test_list_runs_says_on_what_and_in_what_numbers_each_was_computed(capsys):
    folder = Path(__file__).parents[1] / "book" / "results" / "mri"
    runs = experiments.find_runs(folder)
    status, out, _ = call(capsys, "list", "--runs", str(folder))
    assert status == 0 and len(out.splitlines()) == len(runs) > 1
    for line, run in zip(out.splitlines(), runs, strict=True):
        gain = run.metrics["student"]["psnr"] - run.metrics["baseline"]["psnr"]
        parts = (
            run.path.name,
            f"{run.metrics['student']['psnr']:.2f} dB ({gain:+.2f})",
            run.manifest["device"],
            run.precision,
        )
        assert all(part in line for part in parts)
    _, text, _ = call(capsys, "list", "--runs", str(folder), "--json")
    assert [row["run"] for row in json.loads(text)] == [run.path.name for run in runs]
    assert json.loads(text)[0]["seconds"] == runs[0].manifest["seconds"]


def test_list_runs_of_a_folder_without_runs_or_that_is_not_there(capsys, tmp_path):
    assert call(capsys, "list", "--runs", str(tmp_path)) == (0, "", "")
    status, out, error = call(capsys, "list", "--runs", str(tmp_path / "none"))
    assert (status, out) == (2, "") and error.count("\n") == 1 and "--runs" in error


def test_show_prints_the_resolved_configuration(capsys):
    status, out, _ = call(
        capsys,
        "show",
        "baseline",
        "--profile",
        "smoke",
        "--seed",
        "3",
        "--set",
        "solver.momentum=deepinv",
    )
    shown = yaml.safe_load(out)
    assert status == 0
    assert (shown["seed"], shown["solver"]["momentum"]) == (3, "deepinv")
    assert out.startswith("# baseline-smoke-s3-")


def test_run_writes_a_folder_and_says_where(capsys, tmp_path):
    overrides = [part for text in TINY for part in ("--set", text)]
    status, out, _ = call(
        capsys, "run", "ridge", "--profile", "smoke", "--out", str(tmp_path), "--quiet", *overrides
    )
    (folder,) = tmp_path.iterdir()
    assert status == 0
    assert str(folder) in out
    assert "PSNR" in out or "dB" in out
    assert experiments.Run(folder).config.preset == "ridge"


def test_data_shows_what_is_here(capsys):
    status, out, _ = call(capsys, "data")
    assert status == 0
    assert [line.split(":")[0] for line in out.splitlines() if line[0] != " "] == list(
        data.DATASETS
    )
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


def test_dipa_data_that_does_not_exist_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DIPA_DATA", str(tmp_path / "nowhere"))
    status, _, err = call(capsys, "run", "baseline", "--profile", "small", "--out", str(tmp_path))
    assert status == 2
    assert err.count("\n") == 1
    assert "DIPA_DATA" in err and "nowhere" in err
