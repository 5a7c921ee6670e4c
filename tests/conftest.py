"""What every test relies on: one thread, no network, a private cache, no data of the user
unless a fixture asks for it.
"""

import os
import socket
from pathlib import Path

import elsewhere  # noqa: F401 - registers its device before anything is differentiated
import pytest
import torch
import tried
from hypothesis import settings

from dipa import cache

torch.set_num_threads(1)
# Properties try the same examples every time; `pytest --hypothesis-profile long` tries 20 times as
# many, new ones each time.
settings.register_profile("short", max_examples=100, deadline=None, derandomize=True, database=None)
settings.register_profile(
    "long", settings.get_profile("short"), max_examples=2000, derandomize=False, print_blob=True
)
settings.load_profile("short")
USER_DATA = os.environ.get("DIPA_DATA")


@pytest.fixture(autouse=True)
def private_folders(monkeypatch, tmp_path_factory):
    """Caches in a temporary folder; the user's data and weights out of sight."""
    monkeypatch.setenv("DIPA_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.mktemp("torch")))
    cache.warn_once.cache_clear()
    monkeypatch.delenv("DIPA_DATA", raising=False)
    monkeypatch.delenv("DIPA_DNCNN", raising=False)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any attempt to resolve or reach an Internet host fails the test, even where the code
    would catch an OSError.
    """
    connect = socket.socket.connect

    def refuse(*args, **kwargs):
        pytest.fail(f"a test used the network: {args}")

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            refuse(address)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def user_data() -> Path | None:
    """The folder DIPA_DATA named when pytest started, None without one."""
    return Path(USER_DATA) if USER_DATA else None


def pytest_terminal_summary(terminalreporter):
    """How many examples the properties tried; where the book is that ``make test`` built
    before, just above the closing line.
    """
    if tried.report():
        terminalreporter.write_line(tried.report())
    index = Path(__file__).parents[1] / "_build" / "html" / "index.html"
    if index.is_file():
        terminalreporter.write_line(
            f"The book of this checkout: "
            f"{index.relative_to(Path.cwd()) if index.is_relative_to(Path.cwd()) else index}"
        )
