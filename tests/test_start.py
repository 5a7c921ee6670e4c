"""What answers before torch is imported: every command that computes nothing, and every error
that needs no torch to be seen.
"""

import pytest
from batteries import printed

SLOW = ("torch", "deepinv", "torchvision", "matplotlib", "skimage", "nibabel")
# runs a command, then prints which slow packages it has imported
COMMAND = f"""
import contextlib, io, json, sys
from dipa import cli
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    status = cli.main(sys.argv[1:])
print(json.dumps([status, [name for name in {SLOW} if name in sys.modules]]))
"""


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
        (["inspect", "ideo"], 2),
        (["inspect", "idea", "--role", "boss"], 2),
        (["inspect", "a b:c"], 2),
        (["run", "idea", "--profile", "tiny"], 2),
        (["run", "idea", "--set", "training.steps=none"], 2),
        (["run", "idea", "--set", "solver.denoiser=bm3d"], 2),
        (["data", "imagenet"], 2),
        (["verify", "lost"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_that_compute_nothing_import_nothing_slow(arguments, status):
    assert printed(COMMAND, *arguments) == [status, []]


def test_the_reader_of_slow_imports():
    assert printed(COMMAND, "data", "embedded") == [0, ["torch", "skimage"]]


@pytest.mark.parametrize(
    "module",
    ["", ".experiments.config", ".experiments.presets", ".experiments.results", ".reports"],
)
def test_modules_that_import_nothing_slow(module):
    program = (
        f"import json, sys, dipa{module}; print(json.dumps([name for name in {SLOW} if name in "
        f"sys.modules]))"
    )
    assert printed(program) == []


def test_configurations_are_made_without_torch():
    program = f"""
import json, sys
from dipa import Budget, LossWeights, experiments
config = experiments.resolve("l-dipa-truncated-5", "smoke")
found = [config.run_name, Budget() == config.training, LossWeights(supervised=1) == config.losses]
print(json.dumps([*found, [name for name in {SLOW} if name in sys.modules]]))
"""
    name, *rest = printed(program)
    assert name.startswith("l-dipa-truncated-5-smoke-s0-") and rest == [False, True, []]
