"""Rewrite constraints.txt from the environment that runs this script: .venv/bin/python tools/lock.py."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "constraints.txt"


def marker(name: str) -> str:
    """The environment in which the pin of ``name`` applies; a release that excludes early 3.11 patch versions says so."""
    requires = (distribution(name).metadata["Requires-Python"] or "").replace(" ", "")
    patch = [part[2:] for part in requires.split(",") if part.startswith(">=3.11.")]
    return 'python_version == "3.11"' + "".join(f' and python_full_version >= "{version}"' for version in patch)


def main() -> None:
    """Keep the comment block at the top of the present file, then one pin with its marker per line."""
    head = [line for line in LOCK.read_text().splitlines() if line.startswith("#")]
    freeze = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--exclude-editable"], check=True, capture_output=True, text=True
    )
    pins = [line for line in freeze.stdout.splitlines() if "==" in line]
    LOCK.write_text("\n".join(head + [f"{pin} ; {marker(pin.split('==')[0])}" for pin in pins]) + "\n")


if __name__ == "__main__":
    main()
