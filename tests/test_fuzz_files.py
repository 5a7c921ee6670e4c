"""Damaged files in numbers; ``make properties`` tries twenty times as many. What a case is:
:mod:`fuzz_files`.
"""

from collections import Counter

from fuzz_files import COUNTS, KINDS, foreign_file, saved_module
from hypothesis import settings

CASES = settings.default.max_examples  # 100, and 2,000 in the long form


def shares(name: str) -> Counter:
    """How many damaged files of a kind were refused and read; printed with ``pytest -s``."""
    found = Counter({key: count for key, count in COUNTS.items() if key.startswith(name)})
    print(dict(found))
    return found


def test_damaged_safetensors(tmp_path):
    for number in range(CASES):
        saved_module(number, tmp_path)
    found = shares("safetensors")
    assert found["safetensors refused"] > CASES / 2 and found["safetensors read"] > 0, (
        "damage that does no harm is no test"
    )


def test_damaged_files_of_other_kinds(tmp_path, monkeypatch):
    for number in range(CASES):
        foreign_file(number, tmp_path, monkeypatch)
    for kind in KINDS:
        assert shares(kind)[f"{kind} refused"] > 0, kind
