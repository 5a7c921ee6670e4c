"""Which code made a run: its commit where that is known, nothing where it is not."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import dipa
from dipa.experiments import manifest

PACKAGE = Path(dipa.__file__).parent
UNKNOWN = {"commit": None, "dirty": None}
POSIX_ONLY = {
    "resource",
    "fcntl",
    "pwd",
    "grp",
    "termios",
    "pty",
    "tty",
    "posix",
    "syslog",
    "curses",
}


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def package(folder: Path) -> Path:
    """A package in ``folder``."""
    (folder / "dipa").mkdir(parents=True)
    (folder / "dipa" / "__init__.py").write_text("")
    return folder / "dipa"


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository with one committed file, in a folder whose name has a space and an accent."""
    folder = tmp_path / "a repository é"
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "README").write_text("one")
    (folder / ".gitignore").write_text(".venv\n__pycache__\n")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


@pytest.fixture
def checkout(repository) -> Path:
    """The package at the top of a repository that tracks it."""
    made = package(repository)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "two")
    return made


def test_the_commit_of_a_checkout(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    assert manifest.commit(checkout) == {"commit": head, "dirty": False}
    (checkout / "__pycache__").mkdir()
    (checkout / "__pycache__" / "a.pyc").write_text("")
    (checkout.parent / "notes").write_text("a file of nobody's")
    assert manifest.commit(checkout)["dirty"] is False, (
        "what git ignores, and what is no code of the package"
    )


@pytest.mark.parametrize("path", ["README", "dipa/__init__.py", "dipa/new.py"])
def test_code_that_is_not_in_the_commit_is_dirty(checkout, path):
    (checkout.parent / path).write_text("two")
    assert manifest.commit(checkout)["dirty"] is True


@pytest.mark.parametrize("where", [".venv/lib/site-packages", "vendored", "."])
def test_the_commit_of_another_repository_is_not_taken(repository, where):
    """Installed below another repository, ignored or not; or at its top, but not part of it."""
    assert manifest.commit(package(repository / where)) == UNKNOWN


def test_a_package_that_another_repository_tracks_below_its_top_is_not_this_repository(repository):
    made = package(repository / "vendored")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "two")
    assert manifest.commit(made) == UNKNOWN


def test_without_repository_or_commit_nothing_is_known(tmp_path):
    made = package(tmp_path)
    assert manifest.commit(made) == UNKNOWN
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    assert manifest.commit(made) == UNKNOWN, "a repository without a commit"


def test_without_git_nothing_is_known(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert manifest.commit(checkout) == UNKNOWN


def test_a_status_that_fails_is_unknown_and_not_clean(checkout, monkeypatch):
    real = manifest._git
    monkeypatch.setattr(
        manifest,
        "_git",
        lambda folder, *words: None if words[0] == "status" else real(folder, *words),
    )
    assert manifest.commit(checkout) == UNKNOWN


def test_provenance_names_this_version():
    made = manifest.provenance()
    assert made["versions"]["dipa"] == dipa.__version__
    assert made["commit"] == manifest.commit(PACKAGE)["commit"] and (made["dirty"] is None) == (
        made["commit"] is None
    )


# --- systems that are not POSIX -------------------------------------------------------------------


def test_peak_memory_is_unknown_where_the_system_does_not_say(monkeypatch):
    assert manifest.peak_memory_mib() > 50
    monkeypatch.setitem(sys.modules, "resource", None)
    try:
        assert importlib.reload(manifest).peak_memory_mib() is None
    finally:
        monkeypatch.undo()
        importlib.reload(manifest)


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_module_needs_a_posix_module_to_be_imported(path):
    imports = [
        node
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {
        node.module for node in imports if isinstance(node, ast.ImportFrom) and not node.level
    }
    assert not names & POSIX_ONLY
