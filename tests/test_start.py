"""What answers before torch is imported: every command that computes nothing, and every error
that needs no torch to be seen.
"""

import json
import subprocess
import sys

import pytest

from dipa import choices, data, networks, solvers
from dipa.experiments import results
from dipa.lazy import lazy
from dipa.operators.single_pixel import MASKS

SLOW = ("torch", "deepinv", "torchvision", "matplotlib", "skimage", "nibabel")
# runs a command, then prints which slow packages it has imported
COMMAND = f"""
import contextlib, io, json, sys
from dipa import cli
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    status = cli.main(sys.argv[1:])
print(json.dumps([status, [name for name in {SLOW} if name in sys.modules]]))
"""


def run(program: str, *arguments: str):
    """What a program of its own prints, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["list"], 0),
        (["list", "--json"], 0),
        (["show", "mri-n-dipa", "--profile", "smoke", "--set", "training.steps=3"], 0),
        (["--version"], 0),
        (["--help"], 0),
        (["run", "--help"], 0),
        ([], 2),
        (["lost"], 2),
        (["show", "ideo"], 2),
        (["run", "ideo"], 2),
        (["run", "idea", "--profile", "tiny"], 2),
        (["run", "idea", "--set", "training.steps=none"], 2),
        (["run", "idea", "--set", "solver.denoiser=bm3d"], 2),
        (["data", "imagenet"], 2),
        (["verify", "lost"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_that_compute_nothing_import_nothing_slow(arguments, status):
    assert run(COMMAND, *arguments) == [status, []]


def test_the_reader_of_slow_imports():
    assert run(COMMAND, "data", "embedded") == [0, ["torch", "skimage"]]


@pytest.mark.parametrize(
    "module",
    ["", ".experiments.config", ".experiments.presets", ".experiments.results", ".reports"],
)
def test_modules_that_import_nothing_slow(module):
    program = (
        f"import json, sys, dipa{module}; print(json.dumps([name for name in {SLOW} if name in "
        f"sys.modules]))"
    )
    assert run(program) == []


def test_configurations_are_made_without_torch():
    program = f"""
import json, sys
from dipa import Budget, LossWeights, experiments
config = experiments.resolve("l-dipa-truncated-5", "smoke")
found = [config.run_name, Budget() == config.training, LossWeights(supervised=1) == config.losses]
print(json.dumps([*found, [name for name in {SLOW} if name in sys.modules]]))
"""
    name, *rest = run(program)
    assert name.startswith("l-dipa-truncated-5-smoke-s0-") and rest == [False, True, []]


# --- what is known before is what is there --------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "registry"),
    [
        (choices.DATASETS, data.SOURCES),
        (choices.ORDERINGS, MASKS),
        (choices.MOMENTA, solvers.MOMENTA),
        (choices.STARTS, solvers.STARTS),
        (choices.BACKBONES, networks.BACKBONES),
    ],
    ids=["data sets", "orderings", "momenta", "starts", "backbones"],
)
def test_every_choice_is_implemented_and_nothing_else(names, registry):
    assert names == tuple(registry)


# --- packages whose parts are imported when they are first used -----------------------------------


def test_a_lazy_package_lists_what_it_has_and_refuses_the_rest():
    find, listed = lazy("dipa.experiments", ("results",), {"results": ("REQUIRED",)})
    assert find("results") is results and find("REQUIRED") is results.REQUIRED
    assert {"results", "REQUIRED", "Config"} <= {*listed()}
    with pytest.raises(AttributeError, match=r"module 'dipa\.experiments' has no attribute 'runs'"):
        find("runs")


@pytest.mark.parametrize("package", ["dipa", "dipa.experiments", "dipa.reports"])
def test_no_lazy_name_is_that_of_a_module(package):
    """Importing a module puts it under its name into the package, in the place of what the name
    would find.
    """
    program = f"""
import json, pkgutil, {package} as package
modules = {{found.name for found in pkgutil.iter_modules(package.__path__)}}
print(json.dumps(sorted(modules & {{name for names in package.HOMES.values() for name in names}})))
"""
    assert run(program) == []
