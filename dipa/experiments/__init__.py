"""Presets, configurations, runs, their folders and the tables made of them."""

from ..paths import runs_directory
from . import notebook, recorded, replay, tables
from .config import Config
from .presets import describe, names, profiles, resolve
from .recorded import results_folder
from .results import Run, find_runs, run_folders
from .run import run

__all__ = [
    "Config",
    "Run",
    "describe",
    "find_runs",
    "names",
    "notebook",
    "profiles",
    "recorded",
    "replay",
    "resolve",
    "results_folder",
    "run",
    "run_folders",
    "runs_directory",
    "tables",
]
