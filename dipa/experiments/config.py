"""What a run is: frozen dataclasses that refuse unknown keys, values of the wrong type and impossible values."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from .. import data, denoisers, files
from ..checks import InputError, require, require_choice, require_int, require_number
from ..losses import LossWeights
from ..operators import ORDERINGS
from ..preconditioners.linear import FORMS
from ..solvers import MOMENTA, STARTS
from ..training import Budget

METHODS = ("baseline", "ridge", "l-dipa")


@dataclass(frozen=True)
class Task:
    """Student and teacher operators: single-pixel cameras of one ordering and two compression ratios."""

    kind: str = "single_pixel"
    size: int = 32
    ratio: float = 0.2
    teacher_ratio: float = 0.7
    ordering: str = "cake_cutting"
    noise_sigma: float = 0.0

    def __post_init__(self):
        require_choice("task.kind", self.kind, ("single_pixel",))
        require(self.size in (8, 16, 32, 64, 128), "task.size", self.size, "8, 16, 32, 64 or 128")
        require_number("task.ratio", self.ratio, 0, 1, open_low=True)
        require_number("task.teacher_ratio", self.teacher_ratio, 0, 1, open_low=True)
        require_choice("task.ordering", self.ordering, ORDERINGS)
        require_number("task.noise_sigma", self.noise_sigma, 0)


@dataclass(frozen=True)
class Data:
    """Images: ``train_count`` to distil on, ``ridge_count`` for the closed-form start (it costs no solve), ``test_count``."""

    name: str = "mnist"
    resize: str = "bilinear"
    train_count: int = 2048
    ridge_count: int = 50_000
    test_count: int = 512

    def __post_init__(self):
        require_choice("data.name", self.name, data.DATASETS)
        require_choice("data.resize", self.resize, data.mnist.RESIZES)
        for name in ("train_count", "ridge_count", "test_count"):
            require_int(f"data.{name}", getattr(self, name), 1)


@dataclass(frozen=True)
class Solver:
    """K iterations, momentum rule, start, the stepsizes of student and teacher, the denoiser and its precision."""

    iterations: int = 20
    momentum: str = "nesterov"
    start: str = "zero"
    stepsize: float = 0.4
    teacher_stepsize: float = 0.7
    denoiser: str = "dncnn-deepinv"
    precision: str = "bf16"

    def __post_init__(self):
        require_int("solver.iterations", self.iterations, 1)
        require_choice("solver.momentum", self.momentum, MOMENTA)
        require_choice("solver.start", self.start, STARTS)
        require_number("solver.stepsize", self.stepsize, 0, open_low=True)
        require_number("solver.teacher_stepsize", self.teacher_stepsize, 0, open_low=True)
        require_choice("solver.denoiser", self.denoiser, denoisers.NAMES)
        require_choice("solver.precision", self.precision, ("float32", "bf16"))


@dataclass(frozen=True)
class Preconditioner:
    """The method's start: ``identity`` or ``ridge`` (closed form, its regularisation and null weight), low-rank or dense."""

    form: str = "low_rank"
    start: str = "ridge"
    regularization: float = 1e-3
    null_weight: float = 0.75

    def __post_init__(self):
        require_choice("preconditioner.form", self.form, FORMS)
        require_choice("preconditioner.start", self.start, ("identity", "ridge"))
        require_number("preconditioner.regularization", self.regularization, 0, open_low=True)
        require_number("preconditioner.null_weight", self.null_weight, 0, 1)


@dataclass(frozen=True)
class Config:
    """One run, resolved: everything that decides its numbers, and nothing else."""

    preset: str
    profile: str
    method: str
    seed: int = 0
    task: Task = field(default_factory=Task)
    data: Data = field(default_factory=Data)
    solver: Solver = field(default_factory=Solver)
    preconditioner: Preconditioner = field(default_factory=Preconditioner)
    losses: LossWeights = field(default_factory=lambda: LossWeights(supervised=1.0))
    training: Budget = field(default_factory=Budget)

    def __post_init__(self):
        require_choice("method", self.method, METHODS)
        require_int("seed", self.seed, 0, 2**31 - 1)

    @property
    def digest(self) -> str:
        """Eight hex digits of the hash of the whole configuration."""
        return files.sha256_json(asdict(self))[:8]

    @property
    def run_name(self) -> str:
        """The run folder's name: preset, profile, seed and digest."""
        return f"{self.preset}-{self.profile}-s{self.seed}-{self.digest}"


def build(kind: type, values: Mapping[str, Any], where: str = "") -> Any:
    """An instance of the dataclass ``kind`` from nested mappings; unknown keys and wrong types are refused by name."""
    require(isinstance(values, Mapping), where or "configuration", values, "a mapping of keys to values")
    known = {f.name: f for f in fields(kind)}
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else str(key)
        require_choice(f"key {path}" if where else "key", key, known)
        nested = is_dataclass(hints[key])
        arguments[key] = build(hints[key], value, path) if nested else _typed(path, value, hints[key])
    missing = [name for name in ("preset", "profile", "method") if name in known and name not in arguments]
    require(not missing, "configuration", f"no {', '.join(missing)}", "a complete configuration")
    return kind(**arguments)


def _typed(path: str, value: Any, hint: Any) -> Any:
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not any(type(value) is kind for kind in allowed):
        raise InputError(f"{path}: got {value!r}; allowed: {' or '.join(kind.__name__ for kind in allowed)}")
    return value
