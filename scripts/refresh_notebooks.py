"""Re-execute the committed notebooks in place, so that the stored outputs belong to the present
code.

python scripts/refresh_notebooks.py [NOTEBOOK ...] (default: every notebook in book/). The .py twins
are synced before and after. papermill is not used here: it would leave time stamps and paths in the
metadata.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
TIMEOUT = 1800  # seconds a cell


def sync(notebook: Path) -> None:
    """Let the newer half of the pair win."""
    subprocess.run(
        [sys.executable, "-m", "jupytext", "--sync", "--quiet", str(notebook)], check=True
    )


def refresh(notebook: Path) -> None:
    """Execute ``notebook`` from its own folder and store it with outputs and little else."""
    sync(notebook)
    content = nbformat.read(notebook, as_version=4)
    content.metadata["kernelspec"] = KERNEL
    client = NotebookClient(
        content,
        timeout=TIMEOUT,
        record_timing=False,
        kernel_name="python3",
        resources={"metadata": {"path": str(notebook.parent)}},
    )
    client.execute()
    content.metadata = {
        key: content.metadata[key]
        for key in ("jupytext", "kernelspec", "widgets")
        if key in content.metadata
    }
    for cell in content.cells:
        cell.metadata = {
            key: value for key, value in cell.metadata.items() if key == "tags" and value
        }
    nbformat.validate(content)
    partial = notebook.with_name(f".{notebook.name}.partial")
    nbformat.write(content, partial)
    partial.replace(notebook)
    sync(notebook)


def main(names: list[str]) -> None:
    """Refresh the named notebooks, or all."""
    for notebook in [Path(name).resolve() for name in names] or sorted(
        (ROOT / "book").glob("*.ipynb")
    ):
        began = time.monotonic()
        print(f"{notebook.name} ...", end=" ", flush=True)
        refresh(notebook)
        print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
