"""The worked examples of CONTRIBUTING.md, executed as they are printed: a preconditioner and a
task, from module to table.
"""

import __future__

import ast
import re
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

import dipa
from dipa import experiments, reports
from dipa.experiments import methods, presets, replay, tasks

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
FEW = {
    "data.train_count": 4,
    "data.ridge_count": 64,
    "data.test_count": 2,
    "training.batch_size": 2,
    "training.steps": 2,
    "solver.iterations": 3,
    "task.size": 16,
}


def blocks(heading: str, language: str) -> list[str]:
    """The code of a section, as printed."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.S)


def execute(code: str, place: types.ModuleType) -> None:
    """Run code as if it stood at the end of a module of the package."""
    exec(
        compile(
            code, "CONTRIBUTING.md", "exec", __future__.annotations.compiler_flag, dont_inherit=True
        ),
        vars(place),
    )


@pytest.fixture
def restored():
    """What the examples enter is taken out again."""
    before = {id(held): dict(held) for held in (methods.METHODS, tasks.TASKS, presets._table())}
    yield
    for held in (methods.METHODS, tasks.TASKS, presets._table()):
        held.clear()
        held.update(before[id(held)])


def run(name: str, tmp_path, **changes) -> experiments.Run:
    presets._table().update(changes)
    return experiments.run(
        experiments.resolve(name, "smoke", overrides=FEW), tmp_path, progress=False
    )


def test_add_a_preconditioner(restored, monkeypatch, tmp_path):
    module, record = blocks("Add a preconditioner", "python")
    (preset,) = blocks("Add a preconditioner", "yaml")
    new = types.ModuleType("dipa.preconditioners.per_frequency")
    monkeypatch.setitem(sys.modules, new.__name__, new)
    execute(module, new)
    execute(record, methods)
    made = run("per-frequency", tmp_path, **yaml.safe_load(preset))
    P, image = made.preconditioner(), torch.rand(1, 1, 16, 16)
    assert (
        type(P).__name__ == "PerFrequency"
        and made.manifest["counts"]["parameters"] == 16 * 9 == P.parameter_count
    )
    assert len(made.history) == 2 and not torch.equal(P(image, image, 1), image)
    assert dipa.load(made.path / "preconditioner.safetensors")[0].size == (16, 16)
    assert "| one learned number for each frequency |" in reports.measured(
        [made], ["per-frequency"]
    )


def test_add_a_task(restored, tmp_path):
    (task,) = blocks("Add a task", "python")
    (preset,) = blocks("Add a task", "yaml")
    execute(task, tasks)
    entry = yaml.safe_load(preset)["tomography-l-dipa"]
    assert (
        run("tomography-l-dipa", tmp_path, **{"tomography-l-dipa": entry}).config.task.views == 12
    )
    for method in methods.METHODS:
        name = f"tomography-{method}"
        made = run(name, tmp_path, **{name: entry | {"method": method, "about": name}})
        assert all(
            made.metrics[role]["status"] == "completed"
            for role in ("baseline", "student", "teacher")
        ), method
        assert f"| {name} |" in reports.measured([made], [name])
        replay.check(made)


def defined(path: Path) -> set[str]:
    """Functions, classes, their methods, and constants at the top of a module."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names |= {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()
        if isinstance(node, ast.ClassDef):
            methods_of = (part for part in node.body if isinstance(part, ast.FunctionDef))
            names |= {f"{node.name}.{part.name}" for part in methods_of}
        targets = node.targets if isinstance(node, ast.Assign) else []
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def test_what_is_asked_for_is_where_the_table_says():
    section = TEXT.split("\n## Where is it?\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| [^|]+ \| `([\w.]+)` in `(dipa/[\w/]+\.py)`", section, re.M)
    assert len(rows) == section.count("\n|") - 2 >= 10
    for name, file in rows:
        assert name in defined(Path(__file__).parents[1] / file), (name, file)
