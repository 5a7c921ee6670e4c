import json
import os
import time

import pytest

from dipa import files


def test_write_atomic_replaces(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    for text in ("one", "two: é"):
        assert files.write_text(path, text) == path
        assert path.read_text(encoding="utf-8") == text
    assert os.listdir(path.parent) == ["a.txt"]


def test_write_atomic_keeps_the_old_file_on_failure(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")

    def broken(partial):
        partial.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(path, broken)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_write_atomic_has_one_moment_of_change(tmp_path, monkeypatch):
    """Until the rename the old file is whole; a failure there leaves it so."""
    path = files.write_text(tmp_path / "a.txt", "old")

    def full(source, target):
        assert source.read_text() == "new" and path.read_text() == "old"
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        files.write_text(path, "new")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_write_atomic_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(ZeroDivisionError):
        files.write_atomic(tmp_path / "a.txt", lambda partial: 1 / 0)
    assert os.listdir(tmp_path) == []


def test_write_atomic_never_shows_half_a_file(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")

    def slow(partial):
        partial.write_text("new")
        assert path.read_text() == "old" and partial.parent == path.parent

    files.write_atomic(path, slow)
    assert path.read_text() == "new"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_json_refuses_what_is_not_json(tmp_path, bad):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"loss": bad})
    assert os.listdir(tmp_path) == []
    assert json.loads(files.write_json(tmp_path / "a.json", {"loss": 0.1}).read_text()) == {
        "loss": 0.1
    }


def test_what_the_system_refuses_to_write_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="file/a.txt: could not be written .* start again"):
        files.write_text(tmp_path / "file" / "a.txt", "x")


def test_two_processes_of_the_same_number_write_under_names_of_their_own(tmp_path, monkeypatch):
    """In containers that share a folder process numbers repeat: a writer in the middle of a
    file is not disturbed.
    """
    path = tmp_path / "a.txt"
    monkeypatch.setattr(files.os, "getpid", lambda: 7)

    def first(partial):
        partial.write_text("fir")
        files.write_text(path, "second")
        partial.write_text(partial.read_text() + "st")

    files.write_atomic(path, first)
    assert path.read_text() == "first" and os.listdir(tmp_path) == ["a.txt"]


def test_sweep_removes_what_killed_writers_left_and_nothing_else(tmp_path):
    left = files.temporary(tmp_path / "a.txt", "partial")
    kept = [tmp_path / name for name in ("a.txt", "a.partial", ".a.partial", ".b.0123abcd.partial")]
    for path in (left, *kept):
        path.touch()
    long_ago = time.time() - 3600
    os.utime(left, (long_ago, long_ago))
    files.sweep(tmp_path, older_than=7200)
    assert left.exists()
    files.sweep(tmp_path, older_than=1800)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    files.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept[:3])
    files.sweep(tmp_path / "missing")


def test_hash_of_a_file_is_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert (
        files.sha256_file(tmp_path / "abc")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_hash_of_json_ignores_key_order_only():
    assert files.sha256_json({"a": 1, "b": 2}) == files.sha256_json({"b": 2, "a": 1})
    assert files.sha256_json({"a": 1}) != files.sha256_json({"a": 1.5})
    assert files.sha256_json([1, 2]) != files.sha256_json([2, 1])
