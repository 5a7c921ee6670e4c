"""The training notebook's parameters: checked by name, typed as papermill hands them on."""

import numpy as np
import papermill.cli
import pytest
import torch
from batteries import refuses
from tiny_runs import TINY

from dipa import device, experiments
from dipa.checks import InputError


def test_notebook_parameters_are_those_set_after_the_imports():
    known = {"display", "plots"}
    assert experiments.notebook.parameters(
        {"display": 1, "plots": 2, "method": "ridge", "_hidden": 3}, known
    ) == {"method": "ridge"}


def test_a_misspelt_notebook_parameter_is_refused_with_the_valid_names():
    with pytest.raises(InputError, match="did you mean method") as error:
        experiments.notebook.parameters({"methd": "ridge"}, set())
    assert all(
        name in str(error.value)
        for name in ("method", "loss", "regulariser", "profile", "seed", "settings", "out")
    )


def papermill_value(text: str):
    """What ``papermill -p NAME text`` injects, by papermill's own reading of its command line."""
    return papermill.cli._resolve_type(text)


@pytest.fixture
def started(monkeypatch):
    """The configurations and folders of the runs that the notebook would start."""
    found = []
    monkeypatch.setattr(
        experiments.notebook,
        "run_config",
        lambda config, out, device, progress: found.append((config, out)),
    )
    return found


@pytest.mark.parametrize(
    ("text", "switch"),
    [
        ("True", True),
        ("true", True),
        ("yes", True),
        ("on", True),
        ("False", False),
        ("false", False),
        ("no", False),
        ("off", False),
    ],
)
def test_the_regulariser_is_on_or_off_as_papermill_is_told(text, switch, started):
    experiments.notebook.train(regulariser=papermill_value(text))
    assert (started[0][0].losses.convergence > 0) is switch


@pytest.mark.parametrize("seed", [3, "3", "03", np.int64(3), papermill_value("3")])
def test_seeds_may_be_text(seed, started):
    experiments.notebook.train(seed=seed)
    assert started[0][0].seed == 3 and type(started[0][0].seed) is int


def test_settings_are_split_as_by_a_shell(started, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = """solver.momentum=deepinv data.file="/a b/ü 1.npz" """
    settings += """'shifts={"AF 8": {task: {ratio: 0.1}}}'"""
    experiments.notebook.train(settings=settings, out="~/runs of ü")
    config, out = started[0]
    assert (config.solver.momentum, config.data.file) == ("deepinv", "/a b/ü 1.npz")
    assert config.shifts == {"AF 8": {"task": {"ratio": 0.1}}} and out == tmp_path / "runs of ü"


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"method": "ldipa"}, "l-dipa"),
        ({"loss": "kd"}, "loss"),
        ({"profile": "tiny"}, "profile"),
        ({"settings": 3}, "settings"),
        ({"settings": "data.file='a b"}, "No closing quotation"),
        ({"preset": papermill_value("7")}, "preset"),
        ({"out": papermill_value("7")}, "out"),
        ({"out": "a\0b"}, "out"),
        ({"regulariser": "maybe"}, "true or false"),
        ({"regulariser": papermill_value("1")}, "true or false"),
        ({"regulariser": papermill_value("None")}, "true or false"),
        ({"seed": papermill_value("1.5")}, "seed"),
        ({"seed": papermill_value("True")}, "seed"),
        ({"seed": "one"}, "seed"),
        ({"seed": "9" * 5000}, "seed"),
    ],
)
def test_bad_notebook_values_are_refused(bad, word, tmp_path, started):
    refuses(
        lambda: experiments.notebook.train(**{"out": str(tmp_path), "progress": False} | bad), word
    )
    assert not started


def test_the_notebook_reaches_every_variant(tmp_path):
    for loss, preset in experiments.notebook.LOSSES.items():
        for regulariser in (False, True):
            name = preset + ("-r" if regulariser else "")
            assert name in experiments.names()
            losses = experiments.resolve(name).losses
            assert (losses.convergence > 0) is regulariser
            assert (losses.supervised > 0) is ("supervised" in loss)
            assert (losses.imitation > 0) is ("imitation" in loss)
            assert (losses.gradient > 0) is ("gradient" in loss)
    run = experiments.notebook.train(
        method="ridge", settings=" ".join(TINY), out=str(tmp_path), progress=False
    )
    assert run.config.method == "ridge"


@pytest.mark.parametrize("gpu, profile", [(True, "small"), (False, "smoke")])
def test_without_a_profile_a_gpu_trains_the_reduced_size(gpu, profile, started, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(gpu))
    experiments.notebook.train()
    experiments.notebook.train(profile="smoke")
    assert [config.profile for config, _ in started] == [profile, "smoke"]


def test_a_page_says_where_it_computes_and_in_what_numbers(capsys, monkeypatch):
    monkeypatch.setattr(
        experiments.notebook.devices,
        "precision",
        lambda asked, chosen: f"{asked} numbers of {chosen.type}",
    )
    assert experiments.notebook.place("cpu") == torch.device("cpu")
    said = capsys.readouterr().out
    assert (
        said == f"This page: computed on {device.processor()}, networks of precision auto in auto "
        f"numbers of cpu.\n"
    )
    refuses(lambda: experiments.notebook.place("gpu"), "device", "gpu")
