"""The run folder as it is read: what is in it, each file verified when it is read, damaged
folders named.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from .. import files
from ..checks import InputError, require, require_path
from ..files import read_yaml
from . import manifest as manifests
from .config import RUN_NAME, Config, build
from .presets import resolve

if TYPE_CHECKING:
    from torch import nn

    from ..preconditioners import Preconditioner

PACKAGE = Path(__file__).resolve().parents[1]
PRECONDITIONER, NETWORK = TRAINED = ("preconditioner.safetensors", "network.safetensors")
REQUIRED = ("config.yaml", "manifest.json", "metrics.json", "history.jsonl")
# what the readers of YAML, JSON and arrays raise on content that is damaged, and the system on what
# is no readable file
UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RecursionError,
    RuntimeError,  # NotImplementedError is one; zipfile raises it for what looks encrypted
    yaml.YAMLError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Run:
    """A finished run folder, read lazily; a file is compared with its SHA-256 in the manifest when
    it is read.

    ``config.yaml`` (resolved), ``manifest.json`` (where, when, with what, how long),
    ``metrics.json`` (numbers), ``history.jsonl`` (one line per training step), ``examples.npz`` (a
    few test images), ``replay.npz`` (what it takes to solve the run again), and for methods that
    have one ``preconditioner.safetensors`` or ``network.safetensors``. Folders of dipa before 0.3.0
    are read too; their manifests hold the hash of the trained file at most.

    Raises:
        InputError: a folder that is not whole; later, a file that is missing, damaged or not of
            this run.
    """

    path: Path

    def __post_init__(self):
        missing = [name for name in REQUIRED if not os.path.isfile(self.path / name)]
        allowed = f"a finished run folder (missing: {', '.join(missing)}); {manifests.MOVE}"
        require(not missing, "run folder", str(self.path), allowed)

    @cached_property
    def config(self) -> Config:
        """The resolved configuration."""
        with self._verified("config.yaml") as path:
            try:
                return build(Config, read_yaml(path))
            except InputError as error:
                raise ValueError(f"or of another version of dipa: {error}") from error

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Commit, versions, device, threads, seconds, memory, hashes of the data and of every
        file of the folder.
        """
        return manifests.read(self.path)

    @property
    def precision(self) -> str:
        """In what numbers the denoiser (an end-to-end network: its weights) computed: in
        training, else in the tests.
        """
        configured = {
            "training": self.config.solver.precision if self.config.trained else None,
            "evaluation": "float32",
        }
        # manifests of dipa before 0.3.0 do not say
        used = self.manifest.get("precision", configured)
        return used["training"] or used["evaluation"]

    @property
    def place(self) -> str:
        """On what device and in what precision the run was made: ``NVIDIA H100 80GB HBM3,
        bf16``.
        """
        return f"{self.manifest['device']}, {self.precision}"

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Numbers on the test images: per method and per iteration."""
        with self._verified("metrics.json") as path:
            return manifests.read_json(path, manifests.MOVE)

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """One record per training step; empty for methods that do not train."""
        with self._verified("history.jsonl") as path:
            return [
                dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()
            ]

    @cached_property
    def examples(self) -> dict[str, np.ndarray]:
        """A few test images (count, C, H, W): ``truth``, ``baseline``, ``student``, ``teacher``
        and ``iterates``.
        """
        return self._arrays("examples.npz")

    @cached_property
    def replay(self) -> dict[str, np.ndarray]:
        """What it takes to solve the run again, see :mod:`dipa.experiments.replay`; runs of
        dipa before 0.3.0 have none.
        """
        return self._arrays("replay.npz")

    @property
    def command(self) -> str:
        """The command that makes this run again."""
        config = self.config
        plain = resolve(config.preset, config.profile, seed=config.seed)
        seed = f" --seed {config.seed}" if config.seed else ""
        changed = "".join(f" --set {text}" for text in _changed(asdict(plain), asdict(config)))
        return f"dipa run {config.preset} --profile {config.profile}{seed}{changed}"

    def preconditioner(self) -> Preconditioner:
        """The trained preconditioner. Large ones are not committed; the manifest keeps their
        SHA-256.
        """
        return self._trained(PRECONDITIONER)

    def network(self) -> nn.Module:
        """The trained end-to-end network."""
        return self._trained(NETWORK)

    def _trained(self, name: str) -> Any:
        from ..trained import load

        with self._verified(name) as path:
            return load(path)[0]

    def verify(self, *, sealed: bool = False) -> None:
        """Look at every file; the first that is damaged or missing is refused. ``sealed`` asks for
        a list, and for no other file.

        A large file that the manifest says is left out of this copy may be missing.
        """
        listed = manifests.listed(self.manifest)
        for name in listed:
            if name not in self._left_out():
                with self._verified(name):
                    pass
        if manifests.is_sealed(self.manifest):
            others = (
                [name for name in manifests.names(self.path) if name not in listed]
                if sealed
                else []
            )
            require(
                not others,
                str(self.path),
                ", ".join(others),
                "the files that its manifest lists; remove the others",
            )
        else:
            why = (
                "a run whose manifest lists the hashes of its files (older ones: scripts/seal.py "
                "adds them)"
            )
            require(not sealed, "run folder", str(self.path), why)
            _ = self.metrics, self.history, self.examples
        _ = self.config

    def _arrays(self, name: str) -> dict[str, np.ndarray]:
        with (
            self._verified(name) as path,
            np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays,
        ):
            return {key: arrays[key] for key in arrays.files}

    @contextlib.contextmanager
    def _verified(self, name: str) -> Iterator[Path]:
        """The path of a file that is as it was written; what its reader raises becomes one line
        that names it.
        """
        path, expected = self.path / name, self._expected(name)
        try:
            if expected is not None and files.sha256_file(path) != expected:
                raise ValueError("its SHA-256 is not the one in manifest.json")
            yield path
        except InputError:
            raise
        except UNREADABLE as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"{path}: damaged ({reason}); {manifests.MOVE}") from error

    def _expected(self, name: str) -> str | None:
        """The SHA-256 of a file; None in a folder of an older version, which may not list it."""
        listed = manifests.listed(self.manifest)
        if name in self._left_out():
            raise InputError(
                f"{self.path / name}: left out of this copy of the run for its size; make it "
                f"again: {self.command}"
            )
        if manifests.is_sealed(self.manifest) and name not in listed:
            raise InputError(f"{self.path / name}: this run has no such file")
        return listed.get(name)

    def _left_out(self) -> list[str]:
        """The files that are not in this copy of the run, as its manifest says."""
        return [
            name
            for name in manifests.left_out(self.manifest)
            if not os.path.lexists(self.path / name)
        ]


def _changed(plain: dict[str, Any], config: dict[str, Any], under: str = "") -> Iterator[str]:
    """Each setting that is another than in ``plain``, as ``key=value``."""
    for name, value in config.items():
        if isinstance(value, dict) and isinstance(plain.get(name), dict):
            yield from _changed(plain[name], value, f"{under}{name}.")
        elif plain.get(name) != value:
            text = value if isinstance(value, str) else json.dumps(value)
            yield f"{under}{name}={text}"


def results_folder(topic: str = "") -> Path:
    """Where the recorded results are: of a checkout ``book/results``, else the slim copy that an
    installed package brings.

    ``topic`` names a folder in it, such as ``single_pixel`` or ``benchmarks``; without it, the
    folder of all topics. A folder that is not there holds no results:
    :func:`~dipa.experiments.find_runs` then finds none.
    """
    require(isinstance(topic, str), "topic", topic, "the name of a folder of recorded results")
    checkout = PACKAGE.parent / "book" / "results"
    return (checkout if (checkout / "records.yaml").is_file() else PACKAGE / "recorded") / topic


def find_runs(root: str | Path, *, deep: bool = False) -> list[Run]:
    """Every finished run folder directly under ``root``, by name, or with ``deep`` anywhere below
    it; a damaged one is named in a warning and left out.
    """
    runs = []
    for path in run_folders(require_path("root", root), deep=deep):
        try:
            run = Run(path)
            run.verify()
            runs.append(run)
        except InputError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    return runs


def run_folders(root: Path, *, deep: bool = False) -> Iterator[Path]:
    """What is, or should be, a run folder directly under ``root``; with ``deep`` anywhere
    below, ``root`` itself included.
    """
    if deep and _is_run(root):
        yield root
        return
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        if path.name.startswith("."):
            continue
        if _is_run(path):
            yield path
        elif deep and not path.is_symlink():
            yield from run_folders(path, deep=True)


def _is_run(path: Path) -> bool:
    """Whether the name or the content of ``path`` is that of a run folder, damaged ones
    included.
    """
    return bool(re.fullmatch(RUN_NAME, path.name)) or any(
        os.path.lexists(path / name) for name in REQUIRED
    )
