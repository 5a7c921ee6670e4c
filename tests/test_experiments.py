"""Configurations, presets and run folders."""

import dataclasses
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from batteries import refuses
from tiny_runs import tiny

from dipa import experiments
from dipa.checks import InputError
from dipa.experiments import manifest, presets, results
from dipa.experiments.config import Config, build, shared_out


@pytest.mark.parametrize("name", experiments.names())
@pytest.mark.parametrize("profile", experiments.profiles())
def test_every_preset_resolves_and_survives_a_round_trip(name, profile):
    config = experiments.resolve(name, profile)
    assert build(Config, dataclasses.asdict(config)) == config
    assert config.run_name.startswith(f"{name}-{profile}-s0-")


def test_layers_apply_in_order():
    config = experiments.resolve(
        "idea", "small", overrides=["training.steps=7", "training.learning_rate=1e-4"]
    )
    assert config.data.name == "embedded"  # the preset's own profile over the profile
    # overrides over everything
    assert (config.training.steps, config.training.learning_rate) == (7, 1e-4)
    assert experiments.resolve("idea", "small").training.steps != 7


def test_every_value_changes_the_digest():
    config = tiny()
    changed = [
        tiny("l-dipa-distilled", "solver.stepsize=0.41"),
        tiny("l-dipa-distilled", "losses.gradient=2"),
        tiny(seed=1),
    ]
    assert len({c.digest for c in (config, *changed)}) == 4
    assert tiny().digest == config.digest


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training.stps=3"], ("training.stps", "did you mean steps")),
        (["training.steps=1.5"], ("training.steps", "1.5", "int")),
        (["training.steps=0"], ("budget.steps", "0")),
        (["task.ratio=1.5"], ("task.ratio", "1.5")),
        (["task.ordering=cake"], ("task.ordering", "cake_cutting")),
        (["solver=3"], ("solver", "mapping")),
        (["losses.supervised=-1"], ("losses.supervised", "-1")),
        (["data.name=mnits"], ("data.name", "mnist")),
        (["nonsense"], ("nonsense", "section.key=value")),
        (["solver.momentum=true"], ("solver.momentum", "'true'", "nesterov")),
    ],
)
def test_bad_overrides_are_refused_by_name(overrides, words):
    with pytest.raises(InputError) as error:
        tiny("l-dipa-supervised", *overrides)
    assert all(word in str(error.value) for word in words)


def test_a_preset_reads_at_one_glance():
    """It completes at most one other preset, which completes none, on lines that need no
    scrolling.
    """
    folder = Path(experiments.__file__).parent
    entries = {
        name: entry
        for topic in presets.TOPICS
        for name, entry in presets._read(f"presets_{topic}").items()
    }
    assert [
        name for name, entry in entries.items() if "like" in entries.get(entry.get("like"), {})
    ] == []
    lines = [
        line
        for file in folder.glob("pr*.yaml")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    assert len(lines) > 1000 and max(map(len, lines)) <= 120


def test_unknown_preset_and_profile_name_the_nearest():
    with pytest.raises(InputError, match="did you mean baseline"):
        experiments.resolve("basline")
    with pytest.raises(InputError, match="smoke, small, paper"):
        experiments.resolve("baseline", "huge")


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny().seed = 3


def test_a_run_folder_is_whole_and_says_what_made_it(tmp_path):
    run = experiments.run(tiny(), tmp_path, progress=False)
    assert sorted(path.name for path in run.path.iterdir()) == [
        "config.yaml",
        "examples.npz",
        "history.jsonl",
        "manifest.json",
        "metrics.json",
        "preconditioner.safetensors",
        "replay.npz",
    ]
    assert run.config == tiny()
    assert run.path.name == tiny().run_name
    assert [record["step"] for record in run.history] == [1, 2, 3]
    assert {
        "commit",
        "dirty",
        "versions",
        "device",
        "threads",
        "seconds",
        "peak_memory_mib",
        "sha256",
    } <= set(run.manifest)
    assert set(run.manifest["sha256"]) == {"train", "test", "masks", "denoiser"}
    assert [path.name for path in tmp_path.iterdir()] == [run.path.name]  # no leftovers


def test_metrics_agree_with_the_stored_examples(tmp_path):
    """All three test images are stored, so PSNR can be recomputed from the folder with plain
    numpy.
    """
    run = experiments.run(tiny("l-dipa-supervised"), tmp_path, progress=False)
    truth = run.examples["truth"]
    for role in ("baseline", "student", "teacher"):
        mse = ((run.examples[role] - truth) ** 2).mean(axis=(1, 2, 3))
        assert run.metrics[role]["psnr"] == pytest.approx((-10 * np.log10(mse)).mean(), abs=1e-3)
        assert run.metrics[role]["psnr_batch_mse"] == pytest.approx(
            -10 * np.log10(mse.mean()), abs=1e-3
        )
        assert run.metrics[role]["curve"]["psnr"][-1] == pytest.approx(
            run.metrics[role]["psnr"], abs=1e-3
        )
        assert len(run.metrics[role]["curve"]["psnr"]) == run.config.solver.iterations + 1


def test_a_finished_folder_is_read_not_touched(tmp_path):
    first = experiments.run(tiny("ridge"), tmp_path, progress=False)
    before = {path: path.stat().st_mtime_ns for path in first.path.iterdir()}
    again = experiments.run(tiny("ridge"), tmp_path, progress=False)
    assert again.path == first.path
    assert {path: path.stat().st_mtime_ns for path in first.path.iterdir()} == before
    assert again.history == []


def test_an_interrupted_run_ends_in_the_same_tensors(tmp_path):
    whole = experiments.run(tiny(), tmp_path / "whole", progress=False)

    def stop(record):
        if record["step"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        experiments.run(tiny(), tmp_path / "resumed", progress=False, report=stop)
    assert experiments.find_runs(tmp_path / "resumed") == []
    resumed = experiments.run(tiny(), tmp_path / "resumed", progress=False)
    assert torch.equal(resumed.preconditioner().matrix, whole.preconditioner().matrix)
    assert resumed.history == whole.history
    assert resumed.metrics == whole.metrics


def test_seed_changes_the_order_of_images_only(tmp_path):
    one, two = (experiments.run(tiny(seed=seed), tmp_path, progress=False) for seed in (0, 1))
    assert one.manifest["sha256"] == two.manifest["sha256"]
    assert one.metrics["baseline"] == two.metrics["baseline"]
    assert not torch.equal(one.preconditioner().matrix, two.preconditioner().matrix)


def test_without_a_preconditioner_the_student_is_the_baseline(tmp_path):
    run = experiments.run(tiny("baseline"), tmp_path, progress=False)
    assert run.metrics["student"] == run.metrics["baseline"]
    assert not (run.path / "preconditioner.safetensors").exists()


@pytest.mark.parametrize("name", results.REQUIRED)
def test_an_incomplete_folder_is_refused_by_name(tmp_path, name):
    run = experiments.run(tiny("baseline"), tmp_path, progress=False)
    broken = shutil.copytree(run.path, tmp_path / "broken")
    (broken / name).unlink()
    with pytest.raises(InputError, match=name):
        experiments.Run(broken)


def test_a_damaged_file_is_named(tmp_path):
    run = experiments.run(tiny("baseline"), tmp_path, progress=False)
    (run.path / "metrics.json").write_text('{"student": ')
    with pytest.raises(InputError, match="metrics.json"):
        _ = experiments.Run(run.path).metrics


def test_a_configuration_of_another_version_is_named(tmp_path):
    """Its folder is whole: every hash is right."""
    run = experiments.run(tiny("baseline"), tmp_path, progress=False)
    with open(run.path / "config.yaml", "a") as config:
        config.write("future: 1\n")
    made = manifest.sealed(run.manifest, manifest.hashes(run.path))
    (run.path / "manifest.json").write_text(json.dumps(made))
    text = refuses(
        lambda: experiments.Run(run.path).config,
        "config.yaml",
        "another version",
        "move the folder away",
    )
    assert "future" in text


def test_a_folder_that_holds_another_run_is_refused(tmp_path):
    one, other = tiny("baseline"), tiny("baseline", seed=1)
    run = experiments.run(one, tmp_path, progress=False)
    kept = (run.path / "metrics.json").read_bytes()
    run.path.rename(tmp_path / other.run_name)
    refuses(
        lambda: experiments.run(other, tmp_path, progress=False),
        "run folder",
        other.run_name,
        "move it away",
    )
    assert (tmp_path / other.run_name / "metrics.json").read_bytes() == kept


def test_a_failed_write_leaves_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(
        results.files,
        "write_json",
        lambda *a: (_ for _ in ()).throw(OSError("no space left on device")),
    )
    with pytest.raises(OSError, match="no space"):
        experiments.run(tiny("baseline"), tmp_path, progress=False)
    assert experiments.find_runs(tmp_path) == []


# --- descriptions and overrides -------------------------------------------------------------------


def test_describe_has_the_promised_fields():
    for name in experiments.names():
        row = experiments.describe(name)
        assert {"name", "paper", "table", "task", "method", "prior", "loss"} <= set(row)
        json.dumps(row)


def test_numbers_of_numpy_in_overrides_are_those_of_python():
    """To the same digest, and to what YAML and JSON can write."""
    numpy = {
        "task.ratio": np.float32(0.25),
        "training.steps": np.int64(7),
        "solver.stepsize": np.array(0.5),
        "data.name": np.str_("mnist"),
    }
    numpy |= {"shifts": {"noisy": {"task": {"noise_sigma": np.float64(0.5)}}}}
    plain = {"task.ratio": 0.25, "training.steps": 7, "solver.stepsize": 0.5, "data.name": "mnist"}
    plain |= {"shifts": {"noisy": {"task": {"noise_sigma": 0.5}}}}
    made, expected = (
        experiments.resolve("baseline", seed=seed, overrides=values)
        for seed, values in ((np.int8(1), numpy), (1, plain))
    )
    assert made == expected and made.run_name == expected.run_name
    assert yaml.safe_load(yaml.safe_dump(asdict(made))) == asdict(expected)
    json.dumps(asdict(made))
    refuses(
        lambda: experiments.resolve("baseline", overrides={"training.steps": np.True_}),
        "training.steps",
    )


PHASES = [
    {"share": 0.7, "iterations": 1, "before_prior": True, "training": {"learning_rate": 0.5}},
    {"share": 0.3, "stretch": 2, "losses": {"imitation": 1.0}},
]


def phased(phases, **more):
    told = {"training.steps": 10, "training.batch_size": 6, "phases": phases} | more
    return experiments.resolve("n-dipa-supervised", overrides=told)


def test_phases_are_shares_of_the_steps_with_what_changes_in_them():
    config = phased(PHASES)
    first, second = config.plan
    assert (first.budget.steps, second.budget.steps) == (7, 3) and config.image_steps == 60
    assert (first.budget.learning_rate, first.budget.batch_size) == (0.5, 6)
    assert second.budget.learning_rate == config.training.learning_rate
    assert (first.iterations, first.before_prior, first.stretch) == (1, True, 0)
    assert (second.losses.supervised, second.losses.imitation, second.stretch) == (1.0, 1.0, 2)
    assert first.losses == config.losses
    least = phased([{"share": 1e-9}, {"share": 1 - 1e-9}])
    assert [phase.budget.steps for phase in least.plan] == [1, 9]


@pytest.mark.parametrize(
    ("steps", "shares", "wanted"),
    [
        (10, (0.7, 0.3), [7, 3]),
        (6800, (0.96, 0.04), [6528, 272]),
        (2, (0.96, 0.04), [1, 1]),
        (3, (0.01, 0.01, 0.98), [1, 1, 1]),
        (7, (0.5, 0.25, 0.25), [4, 1, 2]),
        (1, (0.5, 0.5), [1, 1]),
        (5, (1.0,), [5]),
    ],
)
def test_steps_are_shared_out_whole(steps, shares, wanted):
    assert shared_out(steps, shares) == wanted


def test_without_phases_the_sections_are_the_one_phase_and_the_digest_stays():
    config = experiments.resolve("n-dipa-supervised")
    (phase,) = config.plan
    assert phase.budget == config.training and phase.losses == config.losses
    assert phase.differentiation == config.differentiation and not phase.along
    assert (
        config.digest
        == phased(
            [],
            **{
                "training.steps": config.training.steps,
                "training.batch_size": config.training.batch_size,
            },
        ).digest
    )
    assert phased(PHASES).digest != phased(PHASES[::-1]).digest, "their order counts"


@pytest.mark.parametrize(
    ("phases", "words"),
    [
        ([3], ("phases[0]", "3", "mapping")),
        ([{"share": 0.5}, {"shear": 0.5}], ("phases[1].shear", "share")),
        ([{"share": 0.0}], ("phases[0].share", "0")),
        ([{"share": 1.5}], ("phases[0].share", "1.5")),
        ([{"share": 0.5}], ("phases", "0.5", "add up to 1")),
        ([{"training": {"steps": 3}}], ("phases[0].training.steps", "share")),
        ([{"training": {"batch": 3}}], ("training.batch", "batch_size")),
        ([{"losses": 3}], ("phases[0].losses", "3", "mapping")),
        ([{"iterations": 21}], ("phase.iterations", "21", "20")),
        ([{"stretch": 3}], ("phase.stretch", "3", "20")),
        ([{"stretch": 1, "differentiation": {"way": "truncated"}}], ("way", "truncated")),
        ({"one": {}}, ("phases", "list")),
    ],
)
def test_phases_that_cannot_be_are_refused_by_name(phases, words):
    refuses(lambda: phased(phases), *words)


def test_a_composed_run_puts_the_network_behind_the_closed_form(tmp_path):
    overrides = ["task.size=16", "data.ridge_count=100", "solver.iterations=2"]
    config = experiments.resolve("n-dipa-composed", "smoke", overrides=overrides)
    run = experiments.run(config, tmp_path)
    P = run.preconditioner()
    assert type(P.first).__name__ == "LinearPreconditioner" and P.second.name == "unet"
    assert P.second.precision == "float32"
    assert run.manifest["counts"]["parameters"] == sum(p.numel() for p in P.second.parameters())
    assert [record["phase"] for record in run.history] == [1, 2]
