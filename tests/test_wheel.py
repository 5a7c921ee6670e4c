"""What a freshly built wheel brings for the notebooks: a slim copy of the recorded runs that
verifies, and says what it lacks.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import alone
import numpy as np
import pytest
import slim
import yaml

from dipa import experiments, reports
from dipa.checks import InputError
from dipa.reports import cost

ROOT = Path(__file__).parents[1]
FULL = ROOT / "book" / "results"
WANTED = yaml.safe_load((FULL / "packaged.yaml").read_text())
MOST = 5_000_000  # bytes


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The wheel of this checkout, unpacked in an empty folder."""
    folder = tmp_path_factory.mktemp("wheel")
    return alone.unpack(alone.build_wheel(folder), folder / "package")


@pytest.fixture(scope="module")
def copies(package):
    """The slim runs by topic and name."""
    folder = package / "dipa" / "recorded"
    return {
        (topic, run.path.name): run
        for topic in WANTED
        for run in experiments.find_runs(folder / topic)
    }


def outside(package: Path, code: str) -> subprocess.CompletedProcess:
    """Run ``code`` with the unpacked package, away from this checkout."""
    environment = os.environ | {"PYTHONPATH": str(package), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=package.parent,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_the_results_of_the_wheel_are_small_and_verify(package):
    sizes = [
        path.stat().st_size for path in (package / "dipa" / "recorded").rglob("*") if path.is_file()
    ]
    assert 1_000_000 < sum(sizes) <= MOST
    code = (
        "import sys; from dipa import cli, experiments; sys.argv[1:] = ['verify', "
        "str(experiments.results_folder())]"
    )
    done = outside(package, f"{code}; sys.exit(cli.main())")
    assert done.returncode == 0 and "runs verified" in done.stdout, done.stdout + done.stderr


def test_the_installed_package_finds_its_own_copy_and_says_where_it_works(package):
    code = (
        "from dipa import experiments; print(experiments.results_folder('mri')); "
        "experiments.notebook.where()"
    )
    found, said = outside(package, code).stdout.splitlines()
    assert Path(found) == package / "dipa" / "recorded" / "mri"
    assert (
        said.startswith("dipa ")
        and "networks of precision auto in " in said
        and str(experiments.runs_directory().resolve().name) in said
    )


def test_a_checkout_finds_its_own_results_and_says_nothing(capsys):
    assert experiments.results_folder("mri") == FULL / "mri"
    experiments.notebook.where()
    assert capsys.readouterr().out == ""


def test_the_numbers_are_those_of_the_checkout(copies):
    full = {
        (topic, run.path.name): run
        for topic in WANTED
        for run in experiments.find_runs(FULL / topic)
    }
    assert copies.keys() == full.keys() and len(copies) > 50
    for key, run in copies.items():
        assert run.metrics == full[key].metrics and run.config == full[key].config
        whole = full[key].history
        every = -(-len(whole) // 40) or 1
        assert run.history == whole[::-every][::-1] and run.history[-1:] == whole[-1:]


def test_other_results_are_whole(package):
    for topic in ("benchmarks", "denoiser"):
        for path in (FULL / topic).iterdir():
            copy = package / "dipa" / "recorded" / topic / path.name
            if path.suffix == ".json":
                assert json.loads(copy.read_text()) == json.loads(path.read_text())
            else:
                assert copy.read_bytes() == path.read_bytes()
    assert slim.NOTE in (package / "dipa" / "recorded" / "NOTICE.md").read_text()


@pytest.mark.parametrize("topic", WANTED)
def test_what_is_wanted_is_there(copies, topic):
    first = reports.first_seeds(
        [run for (folder, _), run in copies.items() if folder == topic], experiments.names()
    )
    for preset, count in WANTED[topic]["pictures"].items():
        there = first[preset].examples
        full = experiments.Run(FULL / topic / first[preset].path.name).examples
        assert all(
            len(images) == count and np.abs(images - full[role][:count]).max() < 1e-3
            for role, images in there.items()
        )
        assert {"truth", "teacher"} < set(there) and not any(
            role.endswith("_iterates") for role in there
        )
    for preset in WANTED[topic]["trained"]:
        assert first[preset].preconditioner().parameter_count > 0


def test_the_best_l_dipa_of_the_pages_is_among_what_is_wanted(copies):
    runs = [run for (topic, _), run in copies.items() if topic == "single_pixel"]
    presets = [run.config.preset for run in runs if run.config.method == "l-dipa"]
    assert reports.best_run(runs, presets).config.preset in WANTED["single_pixel"]["trained"]


def test_what_is_left_out_is_named_in_one_sentence(copies):
    (run,) = (run for run in copies.values() if run.config.preset == "mri-n-dipa")
    with pytest.raises(InputError, match="left out of this copy of the run") as error:
        run.preconditioner()
    assert error.value._render_traceback_() == [f"InputError: {error.value}"] and "\n" not in str(
        error.value
    )
    with pytest.raises(InputError, match="dipa run mri-ridge --profile small makes it"):
        reports.run_of([run], "mri-ridge")
    assert reports.run_of([run], "mri-n-dipa") is run


def test_a_changed_picture_of_the_copy_is_noticed(copies, tmp_path):
    (run,) = (run for run in copies.values() if run.config.preset == "mri-ridge")
    wanted = WANTED["mri"] | {"pictures": {"mri-ridge": 1}}
    slim.copy_run(FULL / "mri" / run.path.name, tmp_path / "slim", wanted)
    experiments.Run(tmp_path / "slim").verify(sealed=True)
    manifest = json.loads((tmp_path / "slim" / "manifest.json").read_text())
    before = json.loads((FULL / "mri" / run.path.name / "manifest.json").read_text())["files"][
        "examples.npz"
    ]
    assert manifest["slim"] == {"examples.npz": {"before": before}} and manifest["left_out"] == [
        "preconditioner.safetensors",
        "replay.npz",
    ]
    (tmp_path / "slim" / "examples.npz").write_bytes(b"other")
    with pytest.raises(InputError, match="SHA-256"):
        experiments.Run(tmp_path / "slim").verify()


def test_a_notebook_that_fails_alone_is_named(tmp_path, monkeypatch, capfd, package):
    import nbformat

    cells = [
        nbformat.v4.new_code_cell(code)
        for code in ("import dipa; print(dipa.__file__)", "open('beside.txt')")
    ]
    bad = tmp_path / "needs_more.ipynb"
    (tmp_path / "beside.txt").touch()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), bad)
    monkeypatch.setattr(alone, "build_wheel", lambda folder: folder)
    monkeypatch.setattr(alone, "unpack", lambda wheel, folder: package)
    assert alone.main([str(bad)]) == 1
    assert "needs_more.ipynb" in capfd.readouterr().out


def test_an_output_that_is_not_there_is_named_in_one_sentence(package, tmp_path):
    found = cost.read(package / "dipa" / "recorded" / "benchmarks")
    assert found["memory"] == cost.read(FULL / "benchmarks")["memory"]
    with pytest.raises(InputError, match="memory: no such output is here"):
        cost.read(tmp_path)["memory"]
    assert cost.read(tmp_path).get("memory") is None
