"""Every preset, run in profile ``smoke`` from nothing, on fewer and smaller images. Apart from the
unit tests: ``make presets``.

Nothing but sizes differs from the profile: every method, loss, prior, shift and way to
differentiate of every preset runs.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dipa import experiments
from dipa.experiments.problem import Problem

pytestmark = pytest.mark.presets
FEWER = {"data.train_count": 4, "data.test_count": 2, "training.batch_size": 2}
# 18: no multiple of the factor 4, as 110
SIZES = {"single_pixel": 16, "mri": 16, "super_resolution": 18}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder of runs and one cache for all presets and workers: baselines and teachers are
    computed once.
    """
    # each worker has a folder of its own in the one of them all
    beside = "PYTEST_XDIST_WORKER" in os.environ
    base = tmp_path_factory.getbasetemp().parent if beside else tmp_path_factory.getbasetemp()
    return base / "runs", base / "shared cache"


@pytest.fixture
def run(request, folders, monkeypatch):
    root, cache = folders
    monkeypatch.setenv("DIPA_CACHE", str(cache))
    kind = experiments.resolve(request.param, "smoke").task.kind
    config = experiments.resolve(
        request.param, "smoke", overrides=FEWER | {"task.size": SIZES[kind]}
    )
    return experiments.run(config, root, progress=False)


@pytest.mark.parametrize("run", experiments.names(), indirect=True)
def test_preset_runs(run):
    config, numbers = run.config, run.metrics
    fitted = config.recipe.train is not None and not config.trained
    steps = config.training.steps if config.trained else 0
    assert len(run.history) == steps or (fitted and run.history[-1]["loss"] > 0)
    assert all(math.isfinite(numbers[role]["psnr"]) for role in ("baseline", "student", "teacher"))
    assert all(
        numbers[role]["status"] == "completed" for role in ("baseline", "student", "teacher")
    )
    assert set(numbers.get("shifts", {})) == set(config.shifts)
    trained = run.manifest.get("trained", {})
    assert bool(trained) == (config.trained or fitted or config.method == "ridge")
    assert not trained or (Path(run.path) / trained["file"]).stat().st_size == trained["bytes"]
    assert (run.manifest["counts"]["parameters"] > 0) == bool(trained)
    if config.recipe.network:
        assert (
            sum(p.numel() for p in run.network().parameters())
            == run.manifest["counts"]["parameters"]
        )
    elif trained:
        assert run.preconditioner().parameter_count == run.manifest["counts"]["parameters"]
        assert set(numbers["student"]["falsification"]["checks"]) == {
            "stable",
            "consistent",
            "no_drift",
        }


# a processor that does not multiply bf16
CAPPED = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
RUN_AND_SHOW = """
import json, sys
from dipa import experiments
def shown(preset, precision):
    overrides = json.loads(sys.argv[1]) | {"solver.precision": precision}
    config = experiments.resolve(preset, "smoke", overrides=overrides)
    run = experiments.run(config, sys.argv[2], progress=False)
    return run.manifest["precision"]["training"], [record["loss"] for record in run.history]
both = ("auto", "float32")
presets = sys.argv[3:]
print(json.dumps({preset: [shown(preset, precision) for precision in both] for preset in presets}))
"""


def test_without_bf16_a_preset_costs_what_float32_costs(tmp_path):
    """``auto`` is float32 there, to the bit: the same operations, so the same seconds
    (benchmarks/capped.py measures them).
    """
    command = [sys.executable, "-c", RUN_AND_SHOW, json.dumps(FEWER), str(tmp_path)]
    presets = ["l-dipa-distilled", "mri-n-dipa", "sr-full-linear"]
    done = subprocess.run(
        command + presets, env=os.environ | CAPPED, capture_output=True, text=True, check=True
    )
    for preset, (auto, float32) in json.loads(done.stdout).items():
        assert auto == float32, preset
        assert auto[0] == "float32" and len(auto[1]) > 0


def test_there_are_images_and_operators_of_the_sizes_that_the_profile_says():
    configs = [experiments.resolve(name, "smoke") for name in experiments.names()]
    for config in {(config.task, config.data): config for config in configs}.values():
        problem, shape = (
            Problem.build(config),
            (config.task.channels, config.task.size, config.task.size),
        )
        assert problem.test.images.shape == (config.data.test_count, *shape), config.preset
        assert len(problem.train.images) >= config.data.train_count, config.preset
        assert (
            problem.student.A_adjoint(problem.student.A(problem.test.images)).shape
            == problem.test.images.shape
        )
