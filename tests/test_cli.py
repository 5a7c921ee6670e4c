"""The command line, in process: exit status, one line for bad input, and what each command
prints.
"""

import io
import os
import signal
import subprocess
import sys
import time

import pytest
from children import call

from dipa import __main__, cli, experiments


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
