"""Imports point one way: a layer may use those above it in this list, and only the ones it is
allowed to know.
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
    "seeding",
    "linalg",
    "physics",
    "storage",
    "identity",
    "cache",
    "metrics",
    "data",
    "operators",
    "denoisers",
    "priors",
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
    "experiments",
    "reports",
    "claims",
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


def test_no_test_module_imports_another():
    """What several of them use is in a module of its own: batteries, members, tiny_runs, ..."""
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("test_")], path.name
