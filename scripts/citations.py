"""Citations of notebooks in plain form: python scripts/citations.py book/x.py ...

Writes author and year, linked to the list of references, in the place of {cite} roles, which only
the built book understands: a notebook is also read in Jupyter and on Colab. Names and years are
those of book/references.bib.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

from pybtex.database import Entry, parse_file
from pybtex.richtext import Text

ROOT = Path(__file__).resolve().parents[1]
ROLE = re.compile(r"\{cite(:t)?\}`([^`]+)`")
PAGE = "references.md"


@cache
def entries() -> dict[str, Entry]:
    return dict(parse_file(str(ROOT / "book" / "references.bib")).entries)


def authors(key: str) -> str:
    """One or two family names, or the first and "et al."."""
    people = [
        str(Text.from_latex(" ".join([*person.prelast_names, *person.last_names])))
        for person in entries()[key].persons["author"]
    ]
    return (
        " and ".join(people)
        if len(people) < 3 and "others" not in people
        else f"{people[0]} et al."
    )


def year(key: str) -> str:
    return entries()[key].fields["year"]


def plain(match: re.Match) -> str:
    """What takes the place of a citation role: ``[Author, year](references.md)``, in the text
    or in parentheses.
    """
    keys = [key.strip() for key in match[2].split(",")]
    if match[1]:
        return ", ".join(f"[{authors(key)} ({year(key)})]({PAGE})" for key in keys)
    return "(" + "; ".join(f"[{authors(key)}, {year(key)}]({PAGE})" for key in keys) + ")"


def main(names: list[str]) -> None:
    """Rewrite the named files."""
    for path in map(Path, names):
        path.write_text(ROLE.sub(plain, path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
