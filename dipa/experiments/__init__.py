"""Presets, configurations, runs, their folders and the tables made of them."""

from . import notebook, recorded, tables
from .config import Config
from .presets import describe, names, profiles, resolve
from .results import Run, find_runs, run_folders
from .run import run, runs_directory

__all__ = [
    "Config",
    "Run",
    "describe",
    "find_runs",
    "names",
    "notebook",
    "profiles",
    "recorded",
    "resolve",
    "run",
    "run_folders",
    "runs_directory",
    "tables",
]
