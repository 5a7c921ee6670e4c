"""Runs that are killed, stopped, spread over processes, or out of disk. The long form: make
faults.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dipa import experiments

HERE = Path(__file__).parent
SMALL = {
    "task.size": 8,
    "solver.iterations": 2,
    "data.train_count": 8,
    "data.test_count": 3,
    "training.steps": 8,
    "training.batch_size": 4,
    "solver.precision": "float32",
}


def command(out: Path, settings: dict, *launcher: str) -> list[str]:
    pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    arguments = [
        "-m",
        "dipa.cli",
        "run",
        "l-dipa-distilled-r",
        "--profile",
        "smoke",
        "--out",
        str(out),
        "--quiet",
        *pairs,
    ]
    return [sys.executable, *launcher, *arguments]


def call(command: list[str], cache: Path, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"DIPA_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, **options
    )


# --- killed and stopped ---------------------------------------------------------------------------


def test_killed_runs_end_in_the_same_bits(tmp_path):
    """SIGKILL, SIGTERM and SIGINT at random moments, DIPA_KILLS of the first (default 4)."""
    kills = os.environ.get("DIPA_KILLS", "4")
    done = call(
        [sys.executable, str(HERE / "kill_and_resume.py"), "--kills", kills, "--stops", "2"],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["seconds reported"] > 0
    assert (
        counts["SIGKILL"] == int(kills)
        and counts["SIGTERM"] == counts["SIGINT"] == 1 <= counts["finished"]
    )
    print(done.stdout)


def test_many_at_once_end_well_and_leave_one_run(tmp_path):
    """DIPA_AT_ONCE processes (default 4) ask for the same run; then once more while a third of
    them are killed.
    """
    processes = int(os.environ.get("DIPA_AT_ONCE", "4"))
    kills = [0, processes // 3]
    script = [sys.executable, str(HERE / "at_once.py"), "--processes", str(processes)]
    done = call([*script, "--kills", *map(str, kills)], tmp_path)
    assert done.returncode == 0, done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["processes"] for found in rounds] == [processes, processes]
    assert rounds[0]["killed"] == 0 and rounds[1]["killed"] <= kills[1]
    print(done.stdout)


# --- a full disk ----------------------------------------------------------------------------------


def limit_files(size: int):
    """Files of this process may not grow beyond ``size`` bytes: the system refuses the write,
    as on a full disk.
    """
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_names_the_file_and_loses_nothing(tmp_path):
    """The disk fills up in the middle of a training: one line, status 1, and the last
    checkpoint continues.
    """
    settings, out = (
        SMALL | {"training.steps": 200, "training.checkpoint_every": 1},
        tmp_path / "runs",
    )
    process = subprocess.Popen(
        command(out, settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    while not (found := list(out.glob(".*.working/checkpoint.pt"))) and time.monotonic() < until:
        time.sleep(0.01)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert (
        err.count("\n") == 1
        and "checkpoint.pt: could not be written" in err
        and "start again" in err
    )
    kept = found[0].read_bytes()
    assert len(kept) > 1000, "the checkpoint before is whole"
    done = call(command(out, SMALL | {"training.steps": 200}), tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = experiments.find_runs(out)
    assert len(run.history) == 200


def test_the_disk_may_fail_at_any_write(tmp_path):
    """One in DIPA_DISK (default 20) of the writes of a run fails in turn."""
    done = call(
        [
            sys.executable,
            str(HERE / "disk_faults.py"),
            "--every",
            os.environ.get("DIPA_DISK", "20"),
        ],
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["faults"] >= 3
    print(done.stdout)


# --- several processes ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_and_two(tmp_path_factory):
    """The same run by one process and by two, with a small learning rate: Adam turns rounding
    into steps of that size.
    """
    root, settings = (
        tmp_path_factory.mktemp("processes"),
        SMALL | {"training.learning_rate": 1e-4, "training.batch_size": 5},
    )
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    outputs = [
        call(command(root / "one", settings), root / "cache1"),
        call(command(root / "two", settings, *launcher), root / "cache2"),
    ]
    assert [done.returncode for done in outputs] == [0, 0], outputs[1].stderr
    assert outputs[1].stdout.count("test images") == 1, "one process reports"
    return [experiments.find_runs(root / name)[0] for name in ("one", "two")]


def test_two_processes_train_what_one_does(one_and_two):
    """Five images a step: shares of three and two, averaged by their sizes."""
    one, two = one_and_two
    assert two.manifest["processes"] == 2 and one.manifest["processes"] == 1
    a, b = (run.preconditioner().matrix.detach() for run in one_and_two)
    assert float((a - b).norm() / a.norm()) < 1e-5
    for first, second in zip(one.history, two.history, strict=True):
        # L_G is a quotient of residuals that are almost 0
        cosine = {"loss", "gradient", "gradient_norm"}
        for name, value in first.items():
            assert second[name] == pytest.approx(value, rel=1e-4 if name in cosine else 1e-5), name


def test_two_processes_report_what_one_does(one_and_two):
    one, two = one_and_two
    for role in ("baseline", "student", "teacher"):
        a, b = (run.metrics[role] for run in one_and_two)
        assert (
            b["psnr"] == pytest.approx(a["psnr"], abs=1e-3)
            and b["curve"].keys() == a["curve"].keys()
        )
        assert b["curve"]["psnr"] == pytest.approx(a["curve"]["psnr"], abs=1e-3)
    assert two.examples["student"] == pytest.approx(one.examples["student"], abs=1e-5)
    assert two.examples["student_iterates"].shape == one.examples["student_iterates"].shape


def test_bad_input_stops_every_process(tmp_path):
    """A divergence that one of two processes may meet first: both end, no one waits, no folder
    is left behind.
    """
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    settings = SMALL | {"solver.stepsize": 1e6, "solver.iterations": 4}
    done = call(command(tmp_path / "runs", settings, *launcher), tmp_path)
    assert done.returncode != 0 and "the student diverged at iteration" in done.stderr
    assert experiments.find_runs(tmp_path / "runs") == []
