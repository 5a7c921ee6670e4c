"""What runs cost on one CPU thread, read from a file that runs wrote (``tools/record_costs.py``)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "costs.json"


@cache
def _table() -> dict[str, dict[str, float]]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def seconds(preset: str, profile: str) -> float | None:
    """Seconds a run of ``preset`` took in ``profile``; None where none was recorded."""
    return _table().get(preset, {}).get(profile)
