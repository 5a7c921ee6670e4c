"""The Makefile in a checkout whose path holds spaces and letters beyond ASCII: every recipe
finds its tools and folders.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("python", "dipa", "jupyter-book", "jupytext", "papermill", "ruff", "mypy")
TARGETS = (
    "train",
    "build",
    "book",
    "pairs",
    "nbval",
    "smoke",
    "presets",
    "unit",
    "faults",
    "properties",
    "lint",
    "format",
)
TARGETS += ("pages", "runs", "sync", "notebooks", "gpu")
FILES = (
    "Makefile",
    "scripts/stage",
    "requirements.txt",
    "constraints.txt",
    "requirements-locked.txt",
    "pyproject.toml",
)
FILES += ("_config.yml",)
ECHO = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The Makefile with tools that only write down how they were called."""
    folder = tmp_path_factory.mktemp("a dir") / "ü and $x 'q'"
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / "scripts").mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    for name in TOOLS:
        tool = folder / ".venv" / "bin" / name
        tool.write_text(ECHO)
        tool.chmod(0o755)
    (folder / ".venv" / ".installed").touch()
    return folder


@pytest.mark.parametrize("target", TARGETS)
def test_every_recipe_runs(checkout, target, tmp_path):
    temporary = tmp_path / "t m p"
    temporary.mkdir()
    calls = tmp_path / "calls"
    environment = os.environ | {"CALLS": str(calls), "TMPDIR": str(temporary)}
    done = subprocess.run(
        ["make", "-C", str(checkout), target], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert calls.read_text().count("\n") >= 1
    assert not any(temporary.iterdir())
    assert sorted(path.name for path in checkout.parent.iterdir()) == [checkout.name]


@pytest.mark.parametrize(("status", "fine"), [(0, True), (3, True), (1, False), (2, False)])
def test_a_slice_that_leaves_something_is_no_failure(checkout, status, fine, tmp_path):
    python = checkout / ".venv" / "bin" / "python"
    kept = python.read_text()
    python.write_text(f"#!/bin/sh\nexit {status}\n")
    try:
        done = subprocess.run(["make", "-C", str(checkout), "gpu"], capture_output=True, text=True)
    finally:
        python.write_text(kept)
    assert (done.returncode == 0) == fine, done.stdout + done.stderr


def test_an_environment_that_is_missing_is_made_with_the_python_given(checkout, tmp_path):
    python = tmp_path / "my python"
    python.write_text(ECHO)
    python.chmod(0o755)
    calls = tmp_path / "calls"
    environment = os.environ | {"CALLS": str(calls)}
    command = ["make", "-C", str(checkout), "-B", "install", f"PYTHON={python}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "my python -c import sys" in calls.read_text()
        and "python -m pip install" in calls.read_text()
    )
