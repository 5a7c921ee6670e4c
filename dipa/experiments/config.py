"""What a run is: frozen dataclasses that refuse unknown keys, values of the wrong type and
impossible values.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

from .. import choices, files
from ..checks import (
    plain_fields,
    plain_value,
    require,
    require_choice,
    require_int,
    require_number,
    shown,
)
from ..settings import Budget, Differentiation, LossWeights, Phase, Variations
from .methods import METHODS, Method
from .tasks import TASKS, SinglePixelTask, Task

# of a preset or profile: it becomes part of a folder's name
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
RUN_NAME = r".+-s\d+-[0-9a-f]{8}"  # as Config.run_name makes them
PHASED = ("training", "losses", "differentiation")  # sections that a phase may change
HASHED = (
    "task",
    "data",
    "solver",
    "preconditioner",
    "network",
    "losses",
    "training",
)  # sections that enter a digest even unchanged


@dataclass(frozen=True)
class DataSettings:
    """Images: ``train_count`` to distil on, ``ridge_count`` for the closed-form start (it costs no
    solve), ``test_count``.

    ``file`` names the file of a data set that has several (see :func:`dipa.data.load`).
    """

    name: str = "mnist"
    resize: str = "bilinear"
    file: str = ""
    train_count: int = 2048
    ridge_count: int = 50_000
    test_count: int = 512

    def __post_init__(self):
        plain_fields(self)
        require_choice("data.name", self.name, choices.DATASETS)
        require_choice("data.resize", self.resize, choices.RESIZES)
        for name in ("train_count", "ridge_count", "test_count"):
            require_int(f"data.{name}", getattr(self, name), 1)


@dataclass(frozen=True)
class SolverSettings:
    """K iterations, momentum rule and restart, start, prior and how its share decays, stepsizes of
    student and teacher (a number or ``1/L``), denoiser.
    """

    iterations: int = 20
    momentum: str = "nesterov"
    start: str = "zero"
    restart: int = 0
    prior_decay: float = 0.0
    prior: str = "pnp"
    red_weight: float = 1.0
    stepsize: float | str = 0.4
    teacher_stepsize: float | str = 0.7
    denoiser: str = "dncnn-deepinv"
    # the default of the first runs
    precision: str = field(default="auto", metadata={"in no digest": "bf16"})

    def __post_init__(self):
        plain_fields(self)
        require_int("solver.iterations", self.iterations, 1)
        require_choice("solver.momentum", self.momentum, choices.MOMENTA)
        require_choice("solver.start", self.start, choices.STARTS)
        require_int("solver.restart", self.restart, 0)
        require_number("solver.prior_decay", self.prior_decay, 0)
        require_choice("solver.prior", self.prior, ("pnp", "red"))
        require_number("solver.red_weight", self.red_weight, 0)
        for name in ("stepsize", "teacher_stepsize"):
            value = getattr(self, name)
            if isinstance(value, str):
                require(value == "1/L", f"solver.{name}", value, "a positive number or '1/L'")
            else:
                require_number(f"solver.{name}", value, 0, open_low=True)
        require_choice("solver.denoiser", self.denoiser, choices.DENOISERS)
        require_choice("solver.precision", self.precision, choices.PRECISIONS)


@dataclass(frozen=True)
class PreconditionerSettings:
    r"""How a linear preconditioner is made and where it starts.

    ``start`` is ``identity`` or ``ridge`` (closed form, with its ``regularization`` and
    ``null_weight``), ``form`` low-rank or dense, ``planes`` one P for every channel, ``complement``
    what P does outside the range it was made for. ``damping`` is the Hessian's :math:`\lambda` in
    units of :math:`\|H\|^2`; ``degree`` and ``polynomial`` choose p.
    """

    form: str = "low_rank"
    start: str = "ridge"
    regularization: float = 1e-3
    null_weight: float = 0.75
    planes: bool = False
    complement: float = 0.0
    damping: float = 1e-2
    degree: int = 4
    polynomial: str = "l2"

    def __post_init__(self):
        plain_fields(self)
        require_choice("preconditioner.form", self.form, choices.FORMS)
        require_choice("preconditioner.start", self.start, ("identity", "ridge"))
        require_number("preconditioner.regularization", self.regularization, 0, open_low=True)
        require_number("preconditioner.null_weight", self.null_weight, 0, 1)
        require_number("preconditioner.complement", self.complement, 0, 1)
        require_number("preconditioner.damping", self.damping, 0, open_low=True)
        require_int("preconditioner.degree", self.degree, 0, 8)
        require_choice("preconditioner.polynomial", self.polynomial, ("chebyshev", "l2"))


@dataclass(frozen=True)
class NetworkSettings:
    """The network of N-DIPA (backbone, iteration code, start, scaling) or the size of an end-to-end
    network.
    """

    backbone: str = "convnext"
    features: int = 128
    blocks: int = 5
    code: str = "sinusoidal"
    code_dim: int = 256
    start: str = "identity"
    scaling: str = "none"  # as in the papers; the library's own default is "image"

    def __post_init__(self):
        plain_fields(self)
        require_choice("network.scaling", self.scaling, choices.SCALINGS)
        require_choice("network.backbone", self.backbone, choices.BACKBONES)
        require_choice("network.code", self.code, choices.CODES)
        require_choice("network.start", self.start, ("identity", "random"))
        for name in ("features", "blocks", "code_dim"):
            require_int(f"network.{name}", getattr(self, name), 1)


@dataclass(frozen=True)
class Config:
    """One run, resolved: everything that decides its numbers, and nothing else.

    ``variations`` are of the images that the closed form and the training learn from, never of
    those that a run is tested on.
    ``phases`` are the parts of the training, in their order: each its ``share`` of
    ``training.steps``, what changes for it in ``losses``, ``training`` and ``differentiation``, and
    the other arguments of :class:`~dipa.settings.Phase`; none is the whole training in one.
    ``shifts`` are further tests of what was trained, by name: what changes in ``task`` and
    ``solver``, such as ``{"AF 8": {"task": {"acceleration": 8}}}``.
    """

    preset: str
    profile: str
    method: str
    seed: int = 0
    task: Task = field(default_factory=SinglePixelTask)
    data: DataSettings = field(default_factory=DataSettings)
    solver: SolverSettings = field(default_factory=SolverSettings)
    preconditioner: PreconditionerSettings = field(default_factory=PreconditionerSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    losses: LossWeights = field(default_factory=lambda: LossWeights(supervised=1.0))
    training: Budget = field(default_factory=Budget)
    differentiation: Differentiation = field(default_factory=Differentiation)
    variations: Variations = field(default_factory=Variations)
    phases: list = field(default_factory=list)
    shifts: dict = field(default_factory=dict)

    def __post_init__(self):
        plain_fields(self)
        for name in ("preset", "profile"):
            require(
                PLAIN_NAME.fullmatch(getattr(self, name)),
                name,
                getattr(self, name),
                "letters, digits, '-' and '_'",
            )
        require_choice("method", self.method, METHODS)
        require_int("seed", self.seed, 0, 2**31 - 1)
        for phase in self.plan:
            phase.length(self.solver.iterations)
        for name in self.shifts:
            require(isinstance(name, str), "shifts", name, "names as text")
            self.shifted(name)

    @property
    def recipe(self) -> Method:
        """The record of the method: how what is tested is made, trained and used."""
        return METHODS[self.method]

    @property
    def trained(self) -> bool:
        """Whether the method takes training steps."""
        return self.recipe.optimises

    @property
    def closed_form(self) -> bool:
        """Whether a P is made in closed form, which training then starts from."""
        linear = "preconditioner" in self.recipe.sections
        started = linear and self.trained and self.preconditioner.start == "ridge"
        return self.recipe.closed_form or started

    @property
    def plan(self) -> tuple[Phase, ...]:
        """The phases of the training."""
        if not self.phases:
            return (Phase(self.training, self.losses, self.differentiation),)
        names = [f"phases[{n}]" for n in range(len(self.phases))]
        shares = [_share(name, phase) for name, phase in zip(names, self.phases, strict=True)]
        require(
            abs(sum(shares) - 1) < 1e-6,
            "phases",
            f"shares of {sum(shares):g}",
            "shares that add up to 1",
        )
        counts = shared_out(self.training.steps, shares)
        return tuple(map(self._phase, names, self.phases, counts))

    @property
    def image_steps(self) -> int:
        """Images that the steps of the training look at, in all its phases."""
        return sum(phase.budget.steps * phase.budget.batch_size for phase in self.plan)

    def _phase(self, name: str, given: Any, steps: int) -> Phase:
        """One of them, from what changes in the sections of this configuration."""
        parts = {key: self._section(name, key, given.get(key, {})) for key in PHASED}
        told = given.get("training", {})
        require("steps" not in told, f"key {name}.training.steps", "it", "a share of all steps")
        budget = replace(parts.pop("training"), steps=steps)
        more = {key: value for key, value in given.items() if key not in (*PHASED, "share")}
        return Phase(budget, **parts, **more)

    def _section(self, name: str, key: str, changes: Any) -> Any:
        """The section ``key`` with some of its fields changed."""
        path, section = f"{name}.{key}", getattr(self, key)
        require(isinstance(changes, Mapping), path, changes, "a mapping of keys to values")
        return build(type(section), _plain(section) | dict(changes), key)

    @property
    def digest(self) -> str:
        """Eight hex digits of the hash of all that differs from the defaults; a field added
        later leaves it as it is.
        """
        return files.sha256_json(_changed(self))[:8]

    @property
    def run_name(self) -> str:
        """The run folder's name: preset, profile, seed and digest."""
        return f"{self.preset}-{self.profile}-s{self.seed}-{self.digest}"

    def shifted(self, name: str) -> Config:
        """This configuration under the shift ``name``: its task and solver changed, its own
        shifts dropped.
        """
        changes = self.shifts[name]
        require(
            isinstance(changes, Mapping),
            f"shifts.{name}",
            changes,
            "a mapping with the keys task and solver",
        )
        for key in changes:
            require_choice(f"key shifts.{name}", key, ("task", "solver"))
        parts = {
            key: self._section(f"shifts.{name}", key, change) for key, change in changes.items()
        }
        return replace(self, shifts={}, **parts)


def _share(name: str, phase: Any) -> float:
    """What a phase says of its share of all steps; one with unknown keys is refused."""
    require(isinstance(phase, Mapping), name, phase, "a mapping of keys to values")
    known = {f.name for f in fields(Phase)} - {"budget"} | {"share", "training"}
    for key in phase:
        require_choice(f"key {name}.{key}", key, sorted(known))
    share = phase.get("share", 1.0)
    return float(require_number(f"{name}.share", share, 0, 1, open_low=True))


def shared_out(steps: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in these shares that add up to ``steps``, each at least 1 (more than ``steps``
    in all where there are fewer steps than shares).
    """
    ends, last, steps = [0], len(shares) - 1, max(steps, len(shares))
    for number, share in enumerate(accumulate(shares)):
        ends.append(min(max(round(share * steps), ends[-1] + 1), steps - (last - number)))
    return [end - begin for begin, end in pairwise(ends)]


def _plain(value: Any) -> dict[str, Any]:
    return {f.name: getattr(value, f.name) for f in fields(value)}


def _changed(value: Any) -> dict[str, Any]:
    """The fields of a configuration that are not at their default, nested; ``kind`` is always
    among them.
    """
    changes: dict[str, Any] = {}
    for f in fields(value):
        setting = getattr(value, f.name)
        default = (
            f.default_factory()
            if f.default_factory is not MISSING
            else f.metadata.get("in no digest", f.default)
        )
        if is_dataclass(setting):
            changed = _changed(setting)
            changes |= {f.name: changed} if changed or f.name in HASHED else {}
        elif setting != default or f.name == "kind":
            changes[f.name] = setting
    return changes


def build(kind: type, values: Any, where: str = "") -> Any:
    """An instance of the dataclass ``kind`` from nested mappings; unknown keys and wrong types
    are refused by name.
    """
    require(
        isinstance(values, Mapping), where or "configuration", values, "a mapping of keys to values"
    )
    known = {f.name: f for f in fields(kind)}
    hints = typing.get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        name = key if isinstance(key, str) else shown(key)
        path = f"{where}.{name}" if where else name
        require_choice(f"key {path}" if where else "key", key, known)
        hint = _task(value) if key == "task" else hints[key]
        arguments[key] = (
            build(hint, value, path) if is_dataclass(hint) else _typed(path, value, hint)
        )
    missing = [
        name for name in ("preset", "profile", "method") if name in known and name not in arguments
    ]
    require(not missing, "configuration", f"no {', '.join(missing)}", "a complete configuration")
    return kind(**arguments)


@cache
def text_fields() -> frozenset[str]:
    """``section.key`` of every field that holds text and nothing else, in any task."""
    hints = typing.get_type_hints(Config)
    sections: dict[str, tuple[Any, ...]] = {"": (Config,), "task.": tuple(TASKS.values())}
    sections |= {
        f"{name}.": (kind,) for name, kind in hints.items() if is_dataclass(kind) and name != "task"
    }
    kinds = ((section, kind) for section, several in sections.items() for kind in several)
    return frozenset(
        f"{section}{name}"
        for section, kind in kinds
        for name, hint in typing.get_type_hints(kind).items()
        if hint is str
    )


def _task(values: Any) -> type:
    """The class of a task, by its ``kind``."""
    kind = values.get("kind", "single_pixel") if isinstance(values, Mapping) else "single_pixel"
    require_choice("task.kind", kind, TASKS)
    return TASKS[kind]


def _typed(path: str, value: Any, hint: Any) -> Any:
    value = _own(value)
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        require_number(path, value, -math.inf)
        return float(value)
    require(type(value) in allowed, path, value, " or ".join(kind.__name__ for kind in allowed))
    return value


def _own(value: Any) -> Any:
    """Python's own numbers, mappings and lists in the place of others, nested ones too: what YAML
    and JSON can write.
    """
    if isinstance(value, Mapping):
        return {key: _own(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_own(inner) for inner in value]
    return plain_value(value)
