"""Fail if a notebook and its .py twin differ: python scripts/check_pairs.py [NOTEBOOK ...]
(default: every notebook in book/).
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import jupytext
from jupytext.config import load_jupytext_config

ROOT = Path(__file__).resolve().parents[1]


def difference(notebook: Path) -> str:
    """What has to change in the twin to match ``notebook``, as a unified diff; empty when they
    agree.
    """
    twin = notebook.with_suffix(".py")
    if not twin.is_file():
        return f"{twin.name}: missing"
    config = load_jupytext_config(str(notebook))
    expected = jupytext.writes(
        jupytext.read(notebook, config=config), fmt="py:percent", config=config
    )
    lines = difflib.unified_diff(
        twin.read_text().splitlines(),
        expected.splitlines(),
        twin.name,
        f"{notebook.name} as py",
        lineterm="",
        n=1,
    )
    return "\n".join(lines)


def main(names: list[str]) -> int:
    """Report on each pair; 1 if any differs."""
    notebooks = [Path(name).resolve() for name in names] or sorted((ROOT / "book").glob("*.ipynb"))
    orphans = {path.stem for path in (ROOT / "book").glob("*.py")} - {
        path.stem for path in (ROOT / "book").glob("*.ipynb")
    }
    failed = bool(orphans)
    for stem in sorted(orphans):
        print(f"book/{stem}.py has no notebook: make sync")
    for notebook in notebooks:
        diff = difference(notebook)
        print(f"{notebook.name}: {'differs from its .py twin (make sync)' if diff else 'in sync'}")
        if diff:
            print(diff)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
