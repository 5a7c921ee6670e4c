"""The tool that tries small changes: its list fits the code, and it tells a change that is
noticed from one that is not.
"""

import json
from pathlib import Path

import mutants
import pytest
import yaml

ROOT = Path(__file__).parents[1]
SUM = "def total(a, b):\n    # of two numbers\n    return a + b\n"
TEST = "from toy.sums import total\n\n\ndef test_total():\n    assert total(2, 3) == 5\n"
NOTICED = {"breaks": "the sign", "find": "a + b", "replace": "a - b"}
UNNOTICED = {"breaks": "nothing", "find": "of two numbers", "replace": "of both numbers"}
ENDLESS = {
    "breaks": "the end",
    "find": "    return a + b",
    "replace": "    while True:\n        pass",
}
UNREADABLE = {"breaks": "the name", "find": "def total(", "replace": "def sum_of("}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A checkout of one function and its test; ``toy(*changes)`` writes their list."""
    monkeypatch.setattr(mutants, "COPIED", ("toy", "tests"))
    mutants.FRESH.set_forkserver_preload(["pytest"])
    for name, text in {
        "toy/__init__.py": "",
        "toy/sums.py": SUM,
        "tests/test_sums.py": TEST,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "scripts").mkdir()

    def listed(*changes: dict) -> Path:
        table = {"toy/sums.py": {"tests": ["test_sums.py"], "mutants": list(changes)}}
        (tmp_path / "scripts" / "mutants.yaml").write_text(yaml.safe_dump(table))
        return tmp_path

    return listed


def run(root: Path, *more: str) -> int:
    return mutants.main(["--root", str(root), "--workers", "1", *more])


def test_the_list_fits_the_code():
    listed = mutants.read(ROOT / "scripts" / "mutants.yaml")
    assert mutants.stale(listed, ROOT) == []
    assert len(listed) >= 80 and sum("/experiments/" in mutant.file for mutant in listed) >= 30
    assert len({(mutant.file, mutant.find, mutant.replace) for mutant in listed}) == len(listed)
    named = {test.partition("::")[0] for mutant in listed for test in mutant.tests}
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


def test_a_change_that_is_noticed_is_killed_and_another_survives(toy, capsys, tmp_path):
    root = toy(NOTICED, UNNOTICED, UNREADABLE)
    assert run(root, "--json", str(tmp_path / "out.json")) == 1
    found = [outcome["state"] for outcome in json.loads((tmp_path / "out.json").read_text())]
    assert found == ["killed", "survived", "did not run"]
    assert "1 of   3 killed" in capsys.readouterr().out
    assert (root / "toy" / "sums.py").read_text() == SUM, "changes are made in a copy"
    assert run(root, "--only", "the sign") == 0


def test_of_the_tests_only_those_that_match_are_run(toy):
    root = toy(NOTICED | {"match": "total"})
    assert run(root) == 0
    root = toy(NOTICED | {"match": "no_test_of_this_name"})
    assert run(root) == 1


def test_a_change_that_never_ends_is_killed(toy, tmp_path):
    (mutant,) = mutants.read(toy(ENDLESS) / "scripts" / "mutants.yaml")
    assert mutants.try_one(mutant, tmp_path, 1.0).state == "killed"
    assert (tmp_path / "toy" / "sums.py").read_text() == SUM


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"find": "a * b"}, "'a * b' is there 0 times"),
        ({"find": "b"}, "'b' is there 3 times"),
        ({"replace": "a +"}, "'a +' is no Python there"),
    ],
)
def test_an_entry_that_does_not_fit_is_named(change, words, toy, capsys):
    assert run(toy(NOTICED | change), "--only", "anything") == 1
    assert f"toy/sums.py: {words}" in capsys.readouterr().err.replace("\n", " ")


def test_a_baseline_that_fails_is_refused(toy, capsys):
    root = toy(NOTICED)
    (root / "tests" / "test_sums.py").write_text(TEST.replace("5", "6"))
    assert run(root) == 1
    assert "the unchanged code" in capsys.readouterr().err


def test_nothing_to_try_is_refused(toy, capsys):
    assert run(toy(NOTICED), "--only", "no such text") == 1
    assert "no such text" in capsys.readouterr().err
