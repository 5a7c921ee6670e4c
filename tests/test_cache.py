"""The cache: entries are found by what made them, checked against it, and made again where they
are not that.
"""

import os
import warnings
from pathlib import Path

import pytest
import torch

import dipa
from dipa import cache, paths, storage
from dipa.cache import Cache
from dipa.identity import Description, describe

PROBLEM = {"solver": describe({"momentum": "none"}), "operator": describe(0.5, like="near")}


class Work:
    """Computes an entry that says how often it was computed."""

    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return {"x": torch.full((2,), float(self.times))}, {
            "status": "completed",
            "times": self.times,
        }


def own(number: int) -> dict[str, Description]:
    return {"images": describe(number)}


def test_an_entry_is_computed_once_and_read_back(tmp_path):
    work = Work()
    first = Cache(tmp_path, "teacher", PROBLEM)
    made = [first(own(i), work) for i in range(3)]
    second = Cache(tmp_path, "teacher", PROBLEM)
    read = [second(own(i), work) for i in range(3)]
    assert work.times == 3 and (first.hits, first.computed, second.hits, second.computed) == (
        0,
        3,
        3,
        0,
    )
    for (tensors, record), (again, same) in zip(made, read, strict=True):
        assert torch.equal(tensors["x"], again["x"]) and record == same


@pytest.mark.parametrize(
    "other",
    [
        {"solver": describe({"momentum": "nesterov"})},
        {"operator": describe(0.5001 + 1e-4, like="near")},
        {"operator": describe(0.5)},
        {"more": describe(1)},
    ],
)
def test_another_problem_finds_nothing_and_both_stay(other, tmp_path):
    work = Work()
    for problem in (PROBLEM, PROBLEM | other, PROBLEM, PROBLEM | other):
        Cache(tmp_path, "teacher", problem)(own(0), work)
    assert work.times == 2 and len(list(tmp_path.iterdir())) == 2


def test_the_last_digits_of_an_operator_find_the_same_entry(tmp_path):
    work = Work()
    for digits in (0.5, 0.5 + 1e-7, 0.5 - 1e-6):
        Cache(tmp_path, "teacher", PROBLEM | {"operator": describe(digits, like="near")})(
            own(0), work
        )
    assert work.times == 1 and len(list(tmp_path.iterdir())) == 1


def damaged(path: Path, other: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def one_bit(path: Path, other: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)


def swapped(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def without_identity(path: Path, other: Path) -> None:
    storage.write_tensors(path, {"x": torch.zeros(2)}, {"status": "completed"})


def foreign_identity(path: Path, other: Path) -> None:
    storage.write_tensors(path, {"x": torch.zeros(2)}, {"identity": {"solver": 3}, "record": {}})


@pytest.mark.parametrize("change", [damaged, one_bit, swapped, without_identity, foreign_identity])
def test_what_is_damaged_or_of_something_else_is_computed_again(change, tmp_path):
    work = Work()
    Cache(tmp_path, "teacher", PROBLEM)(own(0), work)
    (path,) = tmp_path.iterdir()
    Cache(tmp_path, "teacher", PROBLEM)(own(1), work)
    (other,) = set(tmp_path.iterdir()) - {path}
    change(path, other)
    with pytest.warns(
        UserWarning,
        match="cache: .*safetensors is (damaged|of something else); it is computed again",
    ) as said:
        tensors, record = Cache(tmp_path, "teacher", PROBLEM)(own(0), work)
    assert len(said) == 1 and record["times"] == 3 and tensors["x"].tolist() == [3, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Cache(tmp_path, "teacher", PROBLEM)(own(0), work)[1]["times"] == 3
        assert Cache(tmp_path, "teacher", PROBLEM)(own(1), work)[1]["times"] == 2, (
            "the other one is as it was"
        )


def test_what_cannot_be_described_is_not_kept(tmp_path):
    work = Work()
    for _ in range(2):
        Cache(tmp_path, "teacher", PROBLEM | {"solver": describe(lambda x: x)})(own(0), work)
    assert work.times == 2 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["a file in its place", "no right to write", "full disk"])
def test_a_cache_that_cannot_be_written_is_one_warning(kind, tmp_path, monkeypatch):
    folder, work = tmp_path / "cache", Work()
    if kind == "a file in its place":
        folder.write_text("")
    else:  # the tests may run as root, whom no mode stops
        error = OSError(
            *(
                (13, "Permission denied")
                if kind == "no right to write"
                else (28, "No space left on device")
            )
        )
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(error))
    kept = Cache(folder, "teacher", PROBLEM)
    with pytest.warns(UserWarning, match="cannot be written .* set DIPA_CACHE") as said:
        entries = [kept(own(i), work)[1]["times"] for i in range(3)]
    assert entries == [1, 2, 3] and len(said) == 1


def test_no_home_is_one_warning_and_no_cache(monkeypatch):
    monkeypatch.delenv("DIPA_CACHE")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.warns(UserWarning, match="DIPA_CACHE: not set, and there is no home folder"):
        assert cache.directory() is None


def test_two_identities_differ_in_what_one_lacks():
    a, b = {"x": describe(1), "y": describe(2)}, {"x": describe(1), "z": describe(2)}
    assert cache.differences(a, b) == ["y", "z"] and cache.differences(a, dict(a)) == []
    assert cache.differences(a, {"x": describe(1), "y": describe(3)}) == ["y"]
    assert cache.from_record(cache.to_record(a)) == a


def test_a_user_s_folder_may_be_given_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    Cache("~/kept", "teacher", PROBLEM)(own(0), Work())
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_the_package_names_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path))
    assert cache.directory() == paths.cache_directory() == tmp_path and dipa.__version__
