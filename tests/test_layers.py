"""Imports point one way: a layer may use those above it in this list, and only the ones it is
allowed to know. The tests mirror that list.
"""

import ast
from pathlib import Path

import pytest

import dipa

ROOT = Path(dipa.__file__).parent
# from what everything uses to what uses everything
ORDER = [
    "lazy",
    "checks",
    "choices",
    "settings",
    "interrupt",
    "paths",
    "files",
    "encoded",
    "device",
    "memory",
    "gathered",
    "seeding",
    "variations",
    "linalg",
    "remembered",
    "adjoint",
    "paired",
    "physics",
    "storage",
    "identity",
    "cache",
    "metrics",
    "data",
    "operators",
    "denoisers",
    "priors",
    "elastic_net",
    "networks",
    "preconditioners",
    "losses",
    "solvers",
    "endtoend",
    "training",
    "trained",
    "analysis",
    "interop",
    "plots",
    "comparison",
    "experiments",
    "reports",
    "claims",
    "commands",
    "cli",
]
# beyond the order: layers that must not know each other
FORBIDDEN = {
    "solvers": {"operators", "data", "denoisers", "preconditioners", "losses"},
    "networks": {"operators", "data", "denoisers", "priors"},
    "preconditioners": {"data", "denoisers", "priors"},
    "losses": {"operators", "data", "denoisers", "priors", "preconditioners", "linalg"},
    "priors": {"operators", "data", "denoisers"},
    "operators": {"data"},
    "denoisers": {"operators", "data"},
    "endtoend": {"data", "denoisers", "priors", "preconditioners"},
    "training": {"data"},
    "analysis": {"data", "training"},
    "interop": {"data", "training", "analysis"},
    "plots": {
        "operators",
        "data",
        "denoisers",
        "priors",
        "preconditioners",
        "losses",
        "solvers",
        "training",
    },
}
# test modules that belong to no part alone: what each crosses
CROSSING = {
    "benchmarks": "benchmarks/: their arithmetic, and the plain way beside the package",
    "by_hand": "operators, solvers, training and experiments: whole runs in plain torch",
    "chain": "CI, locks, line ends: the repository around the package",
    "contributing": "CONTRIBUTING.md: preconditioners, tasks, experiments and reports",
    "elsewhere": "every part that computes, on a device that is not the processor",
    "faults": "training, experiments and files, in processes that are killed or out of disk",
    "foreign_physics": "deepinv's operators, priors and denoisers in every part that takes one",
    "fuzz": "every public function and every command, with something wrong",
    "fuzz_files": "every reader of files: data, denoisers, storage, documents",
    "gpu": "scripts/gpu.py",
    "layers": "the imports of all parts, and the names of the tests",
    "licences": "pictures and weights of the repository, and the wheel",
    "makefile": "Makefile",
    "members": "the registries of all parts, beside tests/members.py",
    "mutants": "scripts/mutants.py, and its list beside all parts",
    "notebooks_read": "book/, citations and links as Jupyter and Colab show them",
    "portable": "every import, where there is no POSIX",
    "properties": "every part, with whatever hypothesis draws",
    "readme": "README.md: the package as its first page shows it",
    "recorded": "experiments, reports and claims, on the runs of book/results",
    "start": "cli, experiments and reports, before torch is imported",
    "wheel": "the built package: experiments and reports of its recorded runs",
    "wiring": "every field of a configuration, from operators to tested images",
}
FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def layer(parts: tuple[str, ...]) -> str | None:
    """The layer a dotted name lies in; None outside dipa and for what dipa/__init__.py itself
    defines.
    """
    name = parts[1].removesuffix(".py") if len(parts) > 1 and parts[0] == "dipa" else ""
    known = (ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file()
    return name if name and known else None


def imported(source: str, package: tuple[str, ...]) -> set[str]:
    """Layers of dipa that ``source``, a module inside ``package``, imports; functions' own
    imports count.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        targets = []
        if isinstance(node, ast.Import):
            targets = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            targets = [base] if len(base) > 1 else [(*base, alias.name) for alias in node.names]
        found |= {layer(target) for target in targets} - {None}
    return found


def test_the_reader_of_imports():
    source = (
        "from .. import files, seeding\nfrom ..checks import x\nfrom . import loop\nfrom .base "
        "import y\nimport torch\n"
    )
    source += "import dipa.cli\nfrom .. import __version__\n"
    assert imported(source, ("dipa", "solvers")) == {"files", "seeding", "checks", "solvers", "cli"}
    assert imported("def f():\n    from .training import distill\n", ("dipa",)) == {"training"}
    assert imported(
        "from dipa import plots\nfrom deepinv import priors\n", ("dipa", "solvers")
    ) == {"plots"}


def test_every_module_belongs_to_a_layer():
    assert {layer(("dipa", *path.relative_to(ROOT).parts)) for path in FILES} - {"__main__"} <= set(
        ORDER
    )
    assert {"checks", "solvers", "training", "operators"} <= {
        layer(("dipa", *path.relative_to(ROOT).parts)) for path in FILES
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_up(path):
    parts = ("dipa", *path.relative_to(ROOT).parts)
    own = layer(parts)
    allowed = {*ORDER[: ORDER.index(own) + 1]} if own in ORDER else {*ORDER}
    # where the command begins: it imports nothing before it is called
    allowed |= {"__main__"} if own == "cli" else set()
    wrong = imported(path.read_text(), parts[:-1]) - (allowed - FORBIDDEN.get(own, set()))
    assert not wrong, f"{own} must not import {', '.join(sorted(wrong))}"


def part_of(module: str) -> str | None:
    """The part that a test module (without ``test_``) is named for."""
    return next((part for part in ORDER if module == part or module.startswith(f"{part}_")), None)


def test_the_tests_mirror_the_package():
    """Every part has a test module of its name; the others are known to cross parts."""
    modules = {path.stem.removeprefix("test_") for path in Path(__file__).parent.rglob("test_*.py")}
    assert {*ORDER} - {part_of(module) for module in modules} == set(), "no tests of their own"
    assert {module for module in modules if part_of(module) is None} == {*CROSSING}


def test_the_reader_of_the_parts_of_tests():
    assert (part_of("data"), part_of("data_files"), part_of("reports_paper")) == (
        "data",
        "data",
        "reports",
    )
    assert part_of("database") is None and part_of("fuzz_files") is None


def test_no_test_module_imports_another():
    """What several of them use is in a module of its own: batteries, members, tiny_runs, ..."""
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("test_")], path.name
