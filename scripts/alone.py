"""Run each notebook alone: in an empty folder, with the package of a freshly built wheel, as on
Colab.

    python scripts/alone.py [NOTEBOOK ...]   # default: every notebook in book/

The wheel is unpacked, and shadows the editable installation of this checkout. nbval executes the
copies and compares the outputs that are tagged for it; the first lines of a failure name the
notebook. Finished runs are looked for in DIPA_RUNS.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# what a wheel is made of
SOURCES = (
    "setup.py",
    "MANIFEST.in",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "dipa",
    "book/results",
    "scripts/slim.py",
)
NBVAL = [
    "--nbval-lax",
    "--nbval-current-env",
    "--nbval-cell-timeout",
    "900",
    "-o",
    "filterwarnings=",
    "-p",
    "no:cacheprovider",
    "-q",
    # two notebooks at a time
    "-n",
    "2",
    "--dist",
    "loadfile",
]
BUILD = [
    "-m",
    "pip",
    "wheel",
    "--quiet",
    "--no-deps",
    "--no-build-isolation",
    "--no-index",
    "--disable-pip-version-check",
]


def copy_sources(folder: Path) -> None:
    """What a wheel is made of, so that no left-over of an earlier build gets into it."""
    for name in SOURCES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*")
            )
        else:
            shutil.copyfile(ROOT / name, folder / name)


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout below ``folder``."""
    copy_sources(folder / "source")
    command = [sys.executable, *BUILD, "--wheel-dir", str(folder / "wheel"), str(folder / "source")]
    # setuptools warns where bytecode is switched off
    subprocess.run(command, env=os.environ | {"PYTHONDONTWRITEBYTECODE": ""}, check=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    return wheel


def unpack(wheel: Path, folder: Path) -> Path:
    """Unpack the wheel as an installation would."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def copy_alone(notebooks: list[Path], folder: Path) -> list[Path]:
    """Each notebook as the only file of a folder of its own."""
    copies = [folder / notebook.stem / notebook.name for notebook in notebooks]
    for notebook, copy in zip(notebooks, copies, strict=True):
        copy.parent.mkdir(parents=True)
        shutil.copyfile(notebook, copy)
    return copies


def main(names: list[str]) -> int:
    """Execute the named notebooks, or all; the exit status of pytest."""
    notebooks = [Path(name).resolve() for name in names] or sorted((ROOT / "book").glob("*.ipynb"))
    with tempfile.TemporaryDirectory(prefix="alone-") as name:
        folder = Path(name)
        package = unpack(build_wheel(folder), folder / "package")
        copies = copy_alone(notebooks, folder / "notebooks")
        settings = [
            "--nbval-sanitize-with",
            str(ROOT / "tests" / "nbval_sanitize.cfg"),
            "--rootdir",
            str(folder),
        ]
        environment = os.environ | {"PYTHONPATH": str(package)}
        command = [sys.executable, "-m", "pytest", *NBVAL, *settings, *map(str, copies)]
        return subprocess.run(command, cwd=folder, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
