"""The plain form of a citation: author and year, as a link to the list of references, readable wherever a notebook is opened."""

from __future__ import annotations

import re
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
        str(Text.from_latex(" ".join([*person.prelast_names, *person.last_names]))) for person in entries()[key].persons["author"]
    ]
    return " and ".join(people) if len(people) < 3 and "others" not in people else f"{people[0]} et al."


def year(key: str) -> str:
    return entries()[key].fields["year"]


def plain(match: re.Match) -> str:
    """What takes the place of a citation role: ``[Author, year](references.md)``, in the text or in parentheses."""
    keys = [key.strip() for key in match[2].split(",")]
    if match[1]:
        return ", ".join(f"[{authors(key)} ({year(key)})]({PAGE})" for key in keys)
    return "(" + "; ".join(f"[{authors(key)}, {year(key)}]({PAGE})" for key in keys) + ")"
