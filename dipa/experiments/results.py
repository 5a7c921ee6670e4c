"""The run folder: what is in it, how it is written (whole or not at all) and read back."""

from __future__ import annotations

import datetime
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import deepinv
import numpy as np
import torch
import yaml
from torch import nn

from .. import endtoend, files, preconditioners
from ..checks import InputError, require
from .config import END_TO_END, Config, build

REQUIRED = ("config.yaml", "manifest.json", "metrics.json", "history.jsonl")


@dataclass(frozen=True)
class Run:
    """A finished run folder, read lazily.

    ``config.yaml`` (resolved), ``manifest.json`` (where, when, with what, how long), ``metrics.json`` (numbers),
    ``history.jsonl`` (one line per training step), ``examples.npz`` (a few test images), and for methods that have
    one ``preconditioner.safetensors`` or ``network.safetensors``.
    """

    path: Path

    def __post_init__(self):
        missing = [name for name in REQUIRED if not (self.path / name).is_file()]
        require(not missing, "run folder", str(self.path), f"a finished run folder (missing: {', '.join(missing)})")

    @cached_property
    def config(self) -> Config:
        """The resolved configuration."""
        path = self.path / "config.yaml"
        try:
            return build(Config, yaml.safe_load(path.read_text(encoding="utf-8")))
        except (InputError, yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: damaged, or of another version of dipa ({reason}); move the folder away") from error

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Commit, versions, device, threads, seconds, memory, hashes."""
        return self._json("manifest.json")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Numbers on the test images: per method and per iteration."""
        return self._json("metrics.json")

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """One record per training step; empty for methods that do not train."""
        lines = (self.path / "history.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    @cached_property
    def examples(self) -> dict[str, np.ndarray]:
        """A few test images (count, C, H, W): ``truth``, ``baseline``, ``student``, ``teacher`` and ``iterates``."""
        with np.load(self.path / "examples.npz", allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def preconditioner(self) -> preconditioners.Preconditioner:
        """The trained preconditioner. Large ones are not committed; the manifest keeps their SHA-256."""
        return preconditioners.load(self.path / "preconditioner.safetensors")[0]

    def network(self) -> nn.Module:
        """The trained end-to-end network."""
        return endtoend.load(self.path / "network.safetensors")[0]

    def _json(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(f"{self.path / name}: damaged ({error}); remove the folder and run again") from error


def write_run(
    folder: Path,
    config: Config,
    *,
    metrics: Mapping[str, Any],
    history: list[dict],
    examples: Mapping[str, np.ndarray],
    manifest: Mapping[str, Any],
    trained: nn.Module | None,
) -> Run:
    """Write a run into a sibling folder, then rename it to ``folder``: a reader sees a whole run or none."""
    partial = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files.write_text(partial / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False))
    files.write_json(partial / "metrics.json", metrics)
    files.write_text(partial / "history.jsonl", "".join(json.dumps(record) + "\n" for record in history))
    files.write_atomic(partial / "examples.npz", lambda path: _save_arrays(path, examples))
    if trained is not None:
        manifest = manifest | {"trained": _save_trained(partial, config, trained)}
    files.write_json(partial / "manifest.json", manifest)
    os.replace(partial, folder)
    return Run(folder)


def _save_trained(folder: Path, config: Config, trained: nn.Module) -> dict[str, Any]:
    """Write what was trained, where it can be saved; its file, SHA-256 and bytes (fixed preconditioners have none)."""
    record = {"config": asdict(config)}
    if config.method in END_TO_END:
        path = endtoend.save(trained, folder / "network.safetensors", record)
    elif trained.kind:
        path = preconditioners.save(trained, folder / "preconditioner.safetensors", record)
    else:
        return {}
    return {"file": path.name, "sha256": files.sha256_file(path), "bytes": path.stat().st_size}


def _save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with open(path, "wb") as handle:
        np.savez_compressed(handle, **arrays)


def find_runs(root: str | Path) -> list[Run]:
    """Every finished run folder directly under ``root``, by name."""
    return [Run(path.parent) for path in sorted(Path(root).glob("[!.]*/manifest.json"))]


def provenance() -> dict[str, Any]:
    """With what this process computes: the commit of the code it has loaded, versions, device, threads. Ask early."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "deepinv": deepinv.__version__,
            "numpy": np.__version__,
        },
        "device": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def peak_memory_mib() -> int:
    """The most memory this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 1 << 20)


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
