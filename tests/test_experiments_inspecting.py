"""``dipa inspect`` and ``dipa compare``, in process: of a preset, of a function of the user's,
and what is neither.
"""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from dipa import cli, experiments


def call(capsys, *arguments):
    """Exit status, standard output and standard error of one command."""
    status = cli.main(list(arguments))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


OWN = """
from deepinv import physics as dp
import torch

def mask(share):
    return dp.Inpainting((1, 8, 8), mask=(torch.arange(64) < share).float().reshape(1, 8, 8))

def single():
    return mask(16)

def pair():
    return mask(16), mask(48)

def nameless():
    return dp.Denoising()

def three():
    return mask(1), mask(2), mask(3)

def fails():
    raise ValueError("no way")

def number():
    return 3
"""


@pytest.fixture
def own_operators(tmp_path, monkeypatch):
    """A module of the user's in the working directory; its name."""
    (tmp_path / "own_operators.py").write_text(OWN, encoding="utf-8")
    (tmp_path / "own_broken.py").write_text("def f(:", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "own_operators"
    sys.modules.pop("own_operators", None)


def test_inspect_looks_at_the_operator_of_a_preset(capsys):
    found = {}
    for role in ("student", "teacher"):
        status, out, _ = call(
            capsys, "inspect", "idea", "--profile", "smoke", "--role", role, "--json"
        )
        assert status == 0
        found[role] = json.loads(out)
    assert found["student"]["operator"] == "SinglePixel"
    task = experiments.resolve("idea", "smoke").task
    assert found["student"]["img_size"] == [task.channels, task.size, task.size]
    assert found["student"]["spectrum"]["rank"] < found["teacher"]["spectrum"]["rank"]
    status, out, _ = call(capsys, "inspect", "idea", "--profile", "smoke", "--set", "task.size=8")
    assert status == 0 and "images (1, 8, 8)" in out and "recommended         low rank" in out


def test_inspect_looks_at_what_a_function_returns(capsys, own_operators):
    ranks = {}
    for words in (("single",), ("pair",), ("pair", "--role", "teacher")):
        status, out, _ = call(
            capsys, "inspect", f"{own_operators}:{words[0]}", *words[1:], "--json"
        )
        assert status == 0
        ranks[" ".join(words)] = json.loads(out)["spectrum"]["rank"]
    assert ranks == {"single": 16, "pair": 16, "pair --role teacher": 48}
    status, out, _ = call(capsys, "inspect", f"{own_operators}:nameless", "--size", "1", "4", "6")
    assert status == 0 and "images (1, 4, 6)" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["own_operators:nameless"], "img_size"),
        (["own_operators:fails"], "no way"),
        (["own_operators:number"], "a deepinv LinearPhysics"),
        (["own_operators:three"], "one operator, or student and teacher"),
        (["own_operators:lost"], "a function that the module own_operators defines"),
        (["own_operators:single", "--role", "teacher"], "--role"),
        (["own_operators:single", "--set", "a=1"], "--set"),
        (["own_operators:single", "--profile", "smoke"], "--profile"),
        (["own_operators:single", "--size", "1", "0", "2"], "img_size"),
        (["own_broken:f"], "SyntaxError"),
        (["own_lost:f"], "No module named"),
        (["own operators:f"], "a preset's name, or module:function"),
    ],
)
def test_inspect_says_in_one_line_what_is_no_operator(capsys, own_operators, arguments, words):
    status, out, err = call(capsys, "inspect", *arguments)
    assert (status, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert words in err


FEW = ["--quiet", "--methods", "CG-Tikhonov", "--count", "8", "--json"]


def test_compare_runs_on_an_operator_of_one_s_own(capsys, own_operators, tmp_path):
    """On the embedded photographs, and on a folder of pictures, of which some are held back."""
    draw = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    for name in range(9):
        values = draw.integers(0, 256, (12, 12), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / "mine" / f"{name}.png")
    counts = {}
    for images in ([], ["--images", str(tmp_path / "mine")]):
        status, out, err = call(capsys, "compare", f"{own_operators}:single", *FEW, *images)
        assert status == 0, err
        told = json.loads(out)
        assert told["operator"] == "Inpainting" and told["rows"][0]["method"] == "CG-Tikhonov"
        counts[len(images)] = told["counts"]
    assert counts[0] == {"to fit": 7, "to choose": 1, "to test": 8}
    assert counts[2] == {"to fit": 5, "to choose": 1, "to test": 2}


def test_compare_takes_the_images_of_a_preset(capsys):
    smaller = ["--set", "task.size=8", "--set", "data.name=embedded"]
    status, out, err = call(capsys, "compare", "idea", "--profile", "smoke", *smaller, *FEW)
    assert status == 0, err
    assert json.loads(out)["img_size"] == [1, 8, 8]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "7"], "--count"),
        (["--steps", "-1"], "--steps"),
        (["--images", "lost"], "a folder of pictures"),
        (["--methods", "Newton"], "CG-Tikhonov"),
        (["--size", "1", "8", "9"], "square images"),
    ],
)
def test_compare_says_in_one_line_what_is_wrong(capsys, own_operators, arguments, words):
    target = f"{own_operators}:{'nameless' if '--size' in arguments else 'single'}"
    status, out, err = call(capsys, "compare", target, *arguments)
    assert (status, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert words in err
