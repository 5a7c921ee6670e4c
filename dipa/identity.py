"""What shaped a result, told apart by content: the keys of caches and checkpoints.

A description goes through an object with all that it holds: plain attributes, tensors, submodules,
the code of its class. Two objects that could give other results have other descriptions; what
cannot be described that way is named.
"""

from __future__ import annotations

import ast
import functools
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import deepinv
import numpy as np
import torch
from deepinv.physics import LinearPhysics
from deepinv.physics.noise import NoiseModel
from torch import nn

from . import files, paired, seeding, storage

# relative: what power methods leave open in an operator that is built twice from the same arguments
TOLERANCE = 1e-4
# random projections that stand for a tensor of an operator; how many numbers are taken at once
PROJECTIONS, BLOCK = 8, 1 << 16
# code of this package that no solve runs
UNUSED = ("cli.py", "commands.py", "interop.py", "analysis", "data", "experiments", "plots")
# told apart by version or digest
LIBRARIES = {"torch", "torchvision", "deepinv", "numpy", "dipa", *sys.stdlib_module_names}
PLAIN = (
    bool,
    int,
    complex,
    str,
    bytes,
    range,
    slice,
    PurePath,
    Enum,
    torch.dtype,
    torch.Size,
    torch.memory_format,
    torch.layout,
)
FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# what every module holds beside its own attributes, and the record of what a preconditioner was
# made in, which shapes no result
INTERNAL = frozenset(vars(nn.Module())) | {"setting"}


@dataclass(frozen=True)
class Description:
    """An object in a few values.

    Attributes:
        exact: SHA-256 of all that must be equal to the last bit.
        numbers: (value, scale) pairs that must be equal within :data:`TOLERANCE` of their scale.
        unknown: parts that cannot be described, each with its path; equal descriptions say nothing
            about these.
    """

    exact: str
    numbers: tuple[tuple[float, float], ...] = ()
    unknown: tuple[str, ...] = ()

    def same(self, other: Description) -> bool:
        """Whether the two describe the same thing, as far as they can say."""
        pairs = zip(self.numbers, other.numbers, strict=False)
        near = all(abs(a - b) <= TOLERANCE * max(s, t) for (a, s), (b, t) in pairs)
        return self.exact == other.exact and len(self.numbers) == len(other.numbers) and near

    def record(self) -> list[Any]:
        """Plain values for a file; :meth:`read` takes them back."""
        return [self.exact, [list(pair) for pair in self.numbers], list(self.unknown)]

    @classmethod
    def read(cls, record: Any) -> Description:
        """The inverse of :meth:`record`."""
        exact, numbers, unknown = record
        return cls(exact, tuple((float(a), float(scale)) for a, scale in numbers), tuple(unknown))


def describe(value: Any, *, like: str = "exact") -> Description:
    """Describe ``value`` with everything it holds.

    ``like`` says how far the floating-point numbers of another must be alike: ``exact``; ``near``,
    up to :data:`TOLERANCE`; ``shape``, where only shapes count in tensors. The last two are for
    linear maps, whose action on a random image is described beside: random generators, noise models
    and functions then do not count.
    """
    walk = _Walk(like)
    exact = files.sha256_json(walk(value, type(value).__name__))
    return Description(exact, tuple(walk.numbers), tuple(walk.unknown))


def describe_physics(physics: LinearPhysics, images: torch.Tensor) -> dict[str, Description]:
    """An operator on such images (its attributes and what it makes of a random one), and its
    noise.
    """
    probe = torch.randn((1, *images.shape[1:]), generator=seeding.generator(0, "probe")).to(images)
    answers = list(paired.applied(physics, probe))
    held = (
        physics.modules()
        if isinstance(physics, nn.Module)
        else [getattr(physics, "noise_model", None)]
    )
    noise = [part for part in held if isinstance(part, NoiseModel)]
    return {"operator": describe([physics, answers], like="near"), "noise": describe(noise)}


def solve_identity(
    solver: Any, physics: LinearPhysics, images: torch.Tensor, stepsize: float | str, seed: int
) -> dict[str, Description]:
    """What shapes a solve but the images themselves: code and versions, solver with prior and
    denoiser, operator, noise.
    """
    shape = describe([list(images.shape[1:]), str(images.dtype)])
    # of the solver too; its name says most of what differs
    precision = describe(getattr(solver.prior, "precision", None))
    shared = {
        "dipa, torch or deepinv": describe_code(),
        "precision": precision,
        "solver": describe(solver),
    }
    shared |= {"shape of the images": shape}
    return (
        shared
        | describe_physics(physics, images)
        | {"stepsize or seed": describe([stepsize, seed])}
    )


def describe_preconditioner(
    preconditioner: nn.Module, images: torch.Tensor, iterations: int
) -> dict[str, Description]:
    """P before training: a network by its weights, a linear one by what it makes of a random image
    in each iteration.

    The basis of a linear P made from an operator is not the same to the last digit, nor its matrix,
    when it is made again.
    """
    traits: Any = getattr(preconditioner, "traits", None)
    if not getattr(traits, "linear", False):
        return {"preconditioner": describe(preconditioner)}
    probe = torch.randn((1, *images.shape[1:]), generator=seeding.generator(0, "probe")).to(images)
    with torch.no_grad():
        answers = [
            preconditioner(probe, probe, k)
            for k in range(1, iterations + 1 if traits.iteration_dependent else 2)
        ]
    return {
        "preconditioner": describe(preconditioner, like="shape"),
        "start": describe(answers, like="near"),
    }


def describe_code(*also: str) -> Description:
    """The code that runs: digest of this package's modules that shape a solve and of the files
    ``also``; versions.
    """
    root = Path(__file__).parent
    paths = [
        path for path in sorted(root.rglob("*.py")) if path.relative_to(root).parts[0] not in UNUSED
    ]
    digests = {
        path.relative_to(root).as_posix(): _syntax(path)
        for path in [*paths, *(root / name for name in also)]
    }
    versions = [sys.modules[__package__].__version__, torch.__version__, deepinv.__version__]
    return Description(files.sha256_json([digests, versions]))


@functools.lru_cache(maxsize=256)
def _syntax(path: Path) -> str:
    """Digest of a module without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return files.sha256_json(ast.dump(tree))


@functools.lru_cache(maxsize=64)
def _source(package: str) -> str | None:
    """Digest of the Python files of a top-level package or module outside :data:`LIBRARIES`;
    None where it has none.
    """
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None or not Path(file).is_file():
        return None
    paths = (
        sorted(Path(file).parent.rglob("*.py"))
        if Path(file).name == "__init__.py"
        else [Path(file)]
    )
    return files.sha256_json([files.sha256_file(path) for path in paths])


@dataclass
class _Walk:
    """One way through an object: plain values to hash, numbers to compare, what it could not
    describe.
    """

    like: str
    numbers: list[tuple[float, float]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    met: dict[int, int] = field(default_factory=dict)
    # what was met, so that no later object takes its id
    alive: list[Any] = field(default_factory=list)

    def __call__(self, value: Any, path: str) -> Any:
        if value is None or isinstance(value, PLAIN):
            return [type(value).__name__, repr(value)]
        if isinstance(value, float):
            return self._number(value)
        if isinstance(value, torch.device):
            return "device"
        if isinstance(value, np.generic):
            return self(value.item(), path)
        if id(value) in self.met:
            return ["met before", self.met[id(value)]]
        self.met[id(value)] = len(self.met)
        self.alive.append(value)
        return self._held(value, path)

    def _held(self, value: Any, path: str) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value.detach())
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
            return self._tensor(torch.from_numpy(value.copy()))
        if isinstance(value, torch.Generator):
            return "generator" if self.like != "exact" else self._tensor(value.get_state())
        if isinstance(value, Mapping):
            return [
                ["mapping", str(key), self(value[key], f"{path}[{key!r}]")]
                for key in sorted(value, key=str)
            ]
        if isinstance(value, (list, tuple)):
            return [
                type(value).__name__,
                [self(item, f"{path}[{i}]") for i, item in enumerate(value)],
            ]
        if isinstance(value, (set, frozenset)):
            return ["set", [self(item, path) for item in sorted(value, key=repr)]]
        if isinstance(value, (type, *FUNCTIONS)):
            return self._code(value, path)
        return self._object(value, path)

    def _number(self, value: float) -> Any:
        if self.like == "exact" or value != value:
            return ["float", repr(value)]
        self.numbers.append((value, abs(value)))
        return "number"

    def _tensor(self, tensor: torch.Tensor) -> Any:
        if self.like == "exact" or not (tensor.is_floating_point() or tensor.is_complex()):
            return ["tensor", storage.sha256_tensors({"": tensor})]
        self.numbers += sketch(tensor) if self.like == "near" else []
        return ["tensor", str(tensor.dtype), list(tensor.shape)]

    def _code(self, value: Any, path: str) -> Any:
        """A class or function: its name, where a library or a file says what it does."""
        if isinstance(value, functools.partial):
            return [
                "partial",
                self(value.func, path),
                self(value.args, path),
                self(value.keywords, path),
            ]
        if isinstance(value, types.MethodType):
            return ["method", self(value.__self__, path), value.__name__]
        if isinstance(value, type):
            return ["class", self._class(value, path)]
        if _package(value) in LIBRARIES:
            return ["function", value.__module__, value.__qualname__, self._closure(value, path)]
        self.unknown += [f"{path} (a function)"] if self.like == "exact" else []
        return "function"

    def _closure(self, function: Any, path: str) -> list[Any]:
        """What a function of a library brings along: its instructions (lambdas share a name)
        and the values it holds.
        """
        code = getattr(function, "__code__", None)
        cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
        return [
            code and code.co_code.hex(),
            self([*cells, getattr(function, "__defaults__", None)], path),
        ]

    def _class(self, kind: type, path: str) -> list[Any]:
        """What a class inherits, with the digests of packages that are no library."""
        bases = []
        for base in kind.__mro__[:-1]:
            package = _package(base)
            digest = None if package in LIBRARIES else _source(package)
            if digest is None and package not in LIBRARIES:
                self.unknown.append(f"{path} (the code of {base.__qualname__})")
            bases.append([base.__module__, base.__qualname__, digest])
        return bases

    def _object(self, value: Any, path: str) -> Any:
        """A module or another object with attributes."""
        held = _attributes(value)
        if held is None:
            self.unknown.append(f"{path} (a {type(value).__name__})")
            return "unknown"
        if isinstance(value, nn.Module):
            if any(getattr(value, name, None) for name in HOOKS):
                self.unknown.append(f"{path} (hooks)")
            held |= {"training": value.training and self.like == "exact"}
            held |= dict(value._parameters) | dict(value._buffers) | dict(value._modules)
        counted = {name: part for name, part in held.items() if self._counts(name, part)}
        return [
            self._class(type(value), path),
            {name: self(counted[name], f"{path}.{name}") for name in sorted(counted)},
        ]

    def _counts(self, name: str, part: Any) -> bool:
        """Whether an attribute shapes results: seeded noise draws from (seed, image), whatever
        its generator has done.
        """
        return "random_state" not in name and not (
            self.like != "exact" and isinstance(part, NoiseModel)
        )


def _attributes(value: Any) -> dict[str, Any] | None:
    """The attributes of an object by name, without those it computed from the others; None for
    one without any place for them.
    """
    slots = [name for base in type(value).__mro__ for name in getattr(base, "__slots__", ())]
    if not hasattr(value, "__dict__") and not slots:
        return None
    slotted = {
        name: getattr(value, name)
        for name in slots
        if hasattr(value, name) and name not in ("__weakref__", "__dict__")
    }
    attributes = {
        name: part for name, part in getattr(value, "__dict__", {}).items() if name not in INTERNAL
    }
    computed = {
        name
        for name in attributes
        if isinstance(getattr(type(value), name, None), functools.cached_property)
    }
    if isinstance(value, NoiseModel):
        computed |= {"rng"}
    return slotted | {name: part for name, part in attributes.items() if name not in computed}


def _package(code: Any) -> str:
    """The top-level package of a class or function."""
    return (getattr(code, "__module__", None) or "").partition(".")[0]


def sketch(tensor: torch.Tensor) -> list[tuple[float, float]]:
    """Norm and :data:`PROJECTIONS` random projections of a tensor, each with the norm as its
    scale: nine numbers for it.
    """
    flat = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    flat = flat.reshape(-1).cpu()
    total = torch.zeros(PROJECTIONS, dtype=torch.float64)
    for number, block in enumerate(flat.split(BLOCK)):
        weights = torch.randn(
            PROJECTIONS, generator=seeding.generator(0, "block", number), dtype=torch.float64
        )
        total += weights * (_weights()[:, : len(block)] @ block.double())
    norm = float(torch.linalg.vector_norm(flat.double())) if len(flat) else 0.0
    return [(value, norm) for value in (norm, *total.tolist())]


@functools.lru_cache(maxsize=1)
def _weights() -> torch.Tensor:
    return torch.randn(
        PROJECTIONS, BLOCK, generator=seeding.generator(0, "sketch"), dtype=torch.float64
    )
