"""Name the published repository: python scripts/publish.py ADDRESS (an empty text takes it back).

The address stands at `repository.url` in _config.yml, which gives the book its Colab buttons, and
as the default of the first cell of every notebook, from which Colab installs the package. Tests
check that all say the same.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = re.compile(r'(?m)^(repository:\n  url: )"(.*)"')
# quotes have a backslash in an .ipynb
CELL = re.compile(r'(environ\.get\(\\?"DIPA_SOURCE\\?", \\?")(.*?)(\\?"\))')


def write(path: Path, pattern: re.Pattern, text: str) -> None:
    """Replace the one place of ``pattern`` in a file."""
    content, count = pattern.subn(lambda _: text, path.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"error: {path}: the address has {count} places, not one")
    path.write_text(content, encoding="utf-8")


def publish(root: Path, address: str) -> None:
    """Write ``address`` into the settings of the book and the first cell of its notebooks, both
    halves of each pair.
    """
    if address and not re.fullmatch(r"https://[\w.-]+/[\w./-]*\w", address):
        raise SystemExit(
            f"error: {address}: an address such as https://github.com/OWNER/REPOSITORY"
        )
    write(root / "_config.yml", CONFIG, f'repository:\n  url: "{address}"')
    for path in sorted((root / "book").glob("*.ipynb")):
        write(path, CELL, f'environ.get(\\"DIPA_SOURCE\\", \\"{address}\\")')
        write(path.with_suffix(".py"), CELL, f'environ.get("DIPA_SOURCE", "{address}")')


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    publish(ROOT, sys.argv[1])
