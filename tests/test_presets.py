"""Every preset, run in profile ``smoke`` from nothing. Minutes in all, so apart from the unit tests: ``make presets``."""

import math
from pathlib import Path

import pytest

from dipa import experiments
from dipa.experiments.config import END_TO_END, LEARNED

pytestmark = pytest.mark.presets


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder of runs and one cache for all presets: baselines and teachers are computed once."""
    return tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("shared cache")


@pytest.fixture
def run(request, folders, monkeypatch):
    root, cache = folders
    monkeypatch.setenv("DIPA_CACHE", str(cache))
    config = experiments.resolve(request.param, "smoke")
    return experiments.run(config, root, progress=False)


@pytest.mark.parametrize("run", experiments.names(), indirect=True)
def test_preset_runs(run):
    config, numbers = run.config, run.metrics
    assert len(run.history) == (config.training.steps if config.trained else 0)
    assert all(math.isfinite(numbers[role]["psnr"]) for role in ("baseline", "student", "teacher"))
    assert all(numbers[role]["status"] == "completed" for role in ("baseline", "student", "teacher"))
    assert set(numbers.get("shifts", {})) == set(config.shifts)
    trained = run.manifest.get("trained", {})
    assert bool(trained) == (config.method in (*LEARNED, *END_TO_END, "ridge"))
    assert not trained or (Path(run.path) / trained["file"]).stat().st_size == trained["bytes"]
    assert (run.manifest["counts"]["parameters"] > 0) == bool(trained)
    if config.method in END_TO_END:
        assert sum(p.numel() for p in run.network().parameters()) == run.manifest["counts"]["parameters"]
    elif trained:
        assert run.preconditioner().parameter_count == run.manifest["counts"]["parameters"]
        assert set(numbers["student"]["falsification"]["checks"]) == {"stable", "consistent", "no_drift"}
