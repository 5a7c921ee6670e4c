"""The command line, in process: exit status, one line for bad input, and what each command
prints.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_runs import TINY

from dipa import __main__, cli, data, experiments


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
        ("inspect", "baselin"),
        ("inspect", "baseline", "--role", "boss"),
        ("inspect", "baseline", "--set", "task.size=a"),
        ("data", "mnits"),
        ("data", "mnist"),
        ("run", "baseline", "--out", "a\0b"),
        (
            "run",
            "baseline",
            "--profile",
            "smoke",
            "--set",
            'data.file="a\\0b"',
            "--set",
            "data.name=mri-npz",
        ),
        ("run", "a\0b"),
        ("list", "a\nb"),
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


def test_dipa_data_that_does_not_exist_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("DIPA_DATA", str(tmp_path / "nowhere"))
    status, _, err = call(capsys, "run", "baseline", "--profile", "small", "--out", str(tmp_path))
    assert status == 2
    assert err.count("\n") == 1
    assert "DIPA_DATA" in err and "nowhere" in err


TORCHRUN = {
    "WORLD_SIZE": "2",
    "RANK": "0",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "h",
    "MASTER_PORT": "9",
}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WORLD_SIZE", ""),
        ("WORLD_SIZE", "two"),
        ("WORLD_SIZE", "0"),
        ("WORLD_SIZE", "-1"),
        ("WORLD_SIZE", "9" * 5000),
        ("RANK", None),
        ("RANK", "2"),
        ("LOCAL_RANK", ""),
        ("LOCAL_WORLD_SIZE", "1.0"),
        ("LOCAL_WORLD_SIZE", "3"),
        ("MASTER_ADDR", None),
        ("MASTER_PORT", "http"),
        ("MASTER_PORT", "65536"),
    ],
)
def test_processes_that_are_half_announced_are_refused(
    capsys, monkeypatch, tmp_path, variable, value
):
    for name, text in (TORCHRUN | {variable: value}).items():
        monkeypatch.delenv(name, raising=False)
        if text is not None:
            monkeypatch.setenv(name, text)
    status, _, err = call(capsys, "run", "baseline", "--profile", "smoke", "--out", str(tmp_path))
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: {variable}: ") and "torchrun" in err


def test_one_process_of_torchrun_runs_alone(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setattr(experiments, "run", lambda *arguments, **options: sys.exit("reached"))
    assert (
        call(capsys, "run", "baseline", "--profile", "smoke", "--out", str(tmp_path))[0]
        == "reached"
    )


# --- what nobody reads, what nobody waits for -----------------------------------------------------


@pytest.mark.parametrize("arguments", [("list",), ("--help",), ("show", "idea")])
def test_a_pipe_that_is_closed_ends_in_silence(monkeypatch, capsys, arguments):
    """As in ``dipa list | head -1``: status 1 as Python's documentation advises, and nothing
    left for its end to complain of.
    """
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert cli.main(list(arguments)) == 1
        pipe.flush()  # as at the end of the process
    assert capsys.readouterr().err == ""


def test_a_full_disk_below_standard_output_is_one_line(monkeypatch, capsys):
    with open("/dev/full", "w") as disk:
        monkeypatch.setattr(sys, "stdout", disk)
        assert cli.main(["list"]) == 1
        disk.flush()
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"


def test_standard_output_that_is_closed_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["list"]) == 0


def start(*words: str, **options) -> subprocess.Popen:
    """A command that hears Ctrl-C also where these tests run in a shell's background, which
    ignores it.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    hears = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    return subprocess.Popen([sys.executable, "-m", *words], **pipes, **hears, text=True, **options)


@pytest.mark.parametrize("module", ["dipa", "dipa.cli"])
def test_ctrl_c_while_torch_is_imported_is_one_line(module):
    process = start(module, "data")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.count("\n")) == (130, 1)
    assert err.startswith("stopped (SIGINT)")


def test_what_the_terminal_cannot_show_is_shown_otherwise(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(cli, "main", lambda: print("folder: /ü", flush=True))
    before = signal.getsignal(signal.SIGINT)
    try:
        __main__.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert stream.buffer.getvalue() == b"folder: /\\xfc\n"


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    """Baseline and teacher both meet it; the run goes on."""
    (tmp_path / "file").write_text("")
    command = [
        sys.executable,
        "-m",
        "dipa",
        "run",
        "baseline",
        "--profile",
        "smoke",
        "--out",
        str(tmp_path / "runs"),
        "--quiet",
    ]
    command += [
        "--set",
        "task.size=8",
        "--set",
        "data.test_count=2",
        "--set",
        "solver.iterations=2",
    ]
    done = subprocess.run(
        command,
        env=os.environ | {"DIPA_CACHE": str(tmp_path / "file")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "student" in done.stdout
    assert (
        done.stderr.count("\n") == 1
        and done.stderr.startswith("warning: cache: ")
        and "DIPA_CACHE" in done.stderr
    )
