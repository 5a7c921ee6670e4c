"""Presets, configurations, runs and their folders; what needs torch is imported when it is used."""

from __future__ import annotations

from ..lazy import lazy
from ..paths import runs_directory
from .config import Config
from .presets import describe, names, profiles, resolve

MODULES = ("notebook", "replay")
HOMES = {"results": ("Run", "find_runs", "results_folder", "run_folders"), "running": ("run",)}

__getattr__, __dir__ = lazy(__name__, MODULES, HOMES)

__all__ = [
    "Config",
    "Run",
    "describe",
    "find_runs",
    "names",
    "notebook",
    "profiles",
    "replay",
    "resolve",
    "results_folder",
    "run",
    "run_folders",
    "runs_directory",
]
