from pathlib import Path

import pytest
from batteries import refuses

from dipa import paths

FOLDERS = {"DIPA_DATA": paths.data_directory, "DIPA_CACHE": paths.cache_directory, "DIPA_RUNS": paths.runs_directory}
NAMED = FOLDERS | {"DIPA_DNCNN": paths.denoiser_file}


@pytest.mark.parametrize("variable", NAMED)
@pytest.mark.parametrize("name", ["plain", "with space", "ü and 漢字"])
def test_a_variable_names_a_folder_from_home(variable, name, tmp_path, monkeypatch):
    (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in (f"~/{name}", str(tmp_path / name)):
        monkeypatch.setenv(variable, text)
        assert NAMED[variable]() == tmp_path / name


@pytest.mark.parametrize(
    ("variable", "default"),
    [("DIPA_DATA", None), ("DIPA_CACHE", Path("~/.cache/dipa").expanduser()), ("DIPA_RUNS", Path("runs")), ("DIPA_DNCNN", None)],
)
def test_an_empty_variable_is_one_that_is_not_set(variable, default, monkeypatch):
    monkeypatch.setenv(variable, "")
    assert NAMED[variable]() == default
    monkeypatch.delenv(variable)
    assert NAMED[variable]() == default


def test_a_data_folder_that_does_not_exist_is_named(tmp_path, monkeypatch):
    for wrong in (tmp_path / "nowhere", tmp_path / "file"):
        (tmp_path / "file").touch()
        monkeypatch.setenv("DIPA_DATA", str(wrong))
        refuses(paths.data_directory, "DIPA_DATA", str(wrong), "existing folder")


def test_no_home_folder_asks_for_the_variable(monkeypatch, tmp_path):
    """As in a container whose user has no entry and no HOME."""
    monkeypatch.delenv("DIPA_CACHE")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    refuses(paths.cache_directory, "DIPA_CACHE", "no home folder")
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path))
    assert paths.cache_directory() == tmp_path
