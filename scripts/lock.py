"""Rewrite the lock from the environment that runs this script:
.venv/bin/python scripts/lock.py, with uv on the PATH.

constraints.txt gets the exact versions, requirements-locked.txt the same with the SHA-256 of every
file that PyPI has for them.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

# an archive that has to be built would bring its build tools, unchecked
WHEELS = "--only-binary :all:"
ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS, LOCKED = ROOT / "constraints.txt", ROOT / "requirements-locked.txt"


def head(path: Path) -> list[str]:
    """The comment block at the top of ``path``, which is kept."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]


def marker(name: str) -> str:
    """The environment in which the pin of ``name`` applies; a release that excludes early 3.11
    patch versions says so.
    """
    requires = (distribution(name).metadata["Requires-Python"] or "").replace(" ", "")
    patch = [part[2:] for part in requires.split(",") if part.startswith(">=3.11.")]
    return 'python_version == "3.11"' + "".join(
        f' and python_full_version >= "{version}"' for version in patch
    )


def pins() -> list[str]:
    """``name==version`` of all that is installed, setuptools and wheel too, but not pip and
    this package.
    """
    freeze = [
        sys.executable,
        "-m",
        "pip",
        "freeze",
        "--all",
        "--exclude-editable",
        "--exclude",
        "pip",
    ]
    lines = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout.splitlines()
    return [line for line in lines if "==" in line]


def hashes(source: Path) -> list[str]:
    """The pins of ``source`` with their hashes, from PyPI whatever index this machine is set to."""
    uv = shutil.which("uv") or sys.exit(
        "error: no uv found; install it outside of this environment, which the lock describes"
    )
    compile = [
        uv,
        "pip",
        "compile",
        str(source),
        "--no-deps",
        "--generate-hashes",
        "--no-annotate",
        "--no-header",
        "--quiet",
    ]
    public = [
        "--no-config",
        "--default-index",
        "https://pypi.org/simple",
        "--python-version",
        platform.python_version(),
    ]
    return subprocess.run(
        compile + public, check=True, capture_output=True, text=True
    ).stdout.splitlines()


def main() -> None:
    """Write both files, each under the comment block it has."""
    lines = [f"{pin} ; {marker(pin.split('==')[0])}" for pin in pins()]
    CONSTRAINTS.write_text("\n".join(head(CONSTRAINTS) + lines) + "\n", encoding="utf-8")
    LOCKED.write_text(
        "\n".join(head(LOCKED) + [WHEELS] + hashes(CONSTRAINTS)) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
