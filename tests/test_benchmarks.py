"""The benchmarks' own arithmetic, and that the straightforward way trains what this package trains."""

import sys
from pathlib import Path

import pytest
import torch

import dipa

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
common, reference = (pytest.importorskip(name) for name in ("common", "reference"))


@pytest.fixture(scope="module")
def setting():
    return common.Setting.make(common.parser("x").parse_args(["--device", "cpu"]), size=16, count=4, test=2)


def test_the_reference_computes_the_losses_of_this_package(setting):
    """deepinv's FISTA with autograd through all iterations beside ``distill`` with deepinv's momentum and start."""
    plain = reference.Reference(setting, reference.Matrix(256), iterations=4, learning_rate=1e-3)
    P = dipa.LinearPreconditioner.identity(setting.student, (1, 16, 16), form="dense")
    fit = dipa.distill(
        dipa.FISTA(dipa.PnP(setting.denoiser), 4, start="adjoint", momentum="deepinv"),
        P,
        setting.student,
        setting.teacher,
        setting.images,
        losses=dipa.LossWeights(supervised=1.0, imitation=1.0, gradient=1.0),
        budget=dipa.Budget(steps=3, batch_size=4, learning_rate=1e-3, schedule="constant", clip=0.0),
        progress=False,
    )
    assert [plain.step(setting.images) for _ in range(3)] == pytest.approx([record["loss"] for record in fit.history], rel=1e-5)


def test_ratios_are_medians_of_pairs():
    assert common.ratio({"a": [2.0, 9.0, 8.0], "b": [1.0, 3.0, 1.0]}, "a", "b") == 3.0


def test_works_are_interleaved():
    calls = []
    times = common.interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, 2)
    assert calls == list("ab" * 3) and {name: len(found) for name, found in times.items()} == {"a": 2, "b": 2}


def test_exponents_of_powers():
    assert common.exponent([1, 2, 4, 8], [3, 12, 48, 192]) == pytest.approx(2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_sees_what_was_held_for_a_moment():
    def hold(mib):
        torch.zeros(mib * 2**18).add_(1)

    hold(10)
    assert common.peak_mib(lambda: hold(200)) == pytest.approx(200, abs=16)
    assert common.peak_mib(lambda: hold(50)) == pytest.approx(50, abs=16), "the high-water mark was set back"
