"""The slices of scripts/gpu.py, with the processor as the device: what is done stays done, what
is stopped goes on.
"""

import json
import os
import signal
import threading
import time
from pathlib import Path

import gpu
import pytest
import torch
import yaml
from deepinv.models import DnCNN

from dipa import experiments
from dipa.experiments.problem import Problem
from dipa.training import differentiate

ROOT = Path(__file__).parents[1]
GOOD = "Path(sys.argv[sys.argv.index('--json') + 1]).write_text('{}'); note('good')"
BAD = "note('bad'); sys.exit('no such card')"
SLOW = "note('slow'); time.sleep(60)"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN); note('deaf'); time.sleep(60)"
RUN = (
    "l-dipa-supervised --profile smoke --set task.size=8 --set solver.iterations=2 --set "
    "training.checkpoint_every=1"
)


@pytest.fixture
def call(tmp_path, monkeypatch):
    """``call(stages, ...)``: one slice of a list; a script is the text of a benchmark, run as a
    process of its own.

    Returns its exit status and which scripts began, in turn.
    """
    monkeypatch.setattr(gpu, "LEAST", 0.1)
    monkeypatch.setattr(gpu, "GRACE", 0.5)
    notes, head = tmp_path / "notes", "import signal, sys, time\nfrom pathlib import Path\n"

    def made(stages: dict, *options: str, seconds: float = 60) -> tuple[int, list[str]]:
        listed = {}
        for name, stage in stages.items():
            script = tmp_path / f"{name}.py"
            script.write_text(
                f"{head}note = lambda text: open({str(notes)!r}, 'a').write({name!r} + "
                f"'\\n')\n{stage}\n"
            )
            listed[name] = (
                stage
                if isinstance(stage, dict)
                else {"benchmark": os.path.relpath(script, ROOT / "benchmarks")}
            )
        (tmp_path / "list.yaml").write_text(yaml.safe_dump(listed, sort_keys=False))
        notes.write_text("")
        where = [
            "--out",
            str(tmp_path / "out"),
            "--list",
            str(tmp_path / "list.yaml"),
            "--device",
            "cpu",
        ]
        return gpu.main([*where, "--seconds", str(seconds), *options]), notes.read_text().split()

    return made


def test_what_is_done_is_not_repeated_and_what_failed_comes_last(call, capsys):
    assert call({"a": BAD, "b": GOOD}) == (1, ["a", "b"])
    said = capsys.readouterr().out
    assert (
        "a: failed" in said
        and "no such card" in said
        and "b: done" in said
        and "1 of 2 stages done" in said
    )
    assert call({"a": GOOD, "b": GOOD, "c": GOOD}) == (0, ["c", "a"])
    assert call({"a": GOOD, "b": GOOD, "c": GOOD}) == (0, [])


def test_a_stage_that_is_asked_for_in_other_words_is_done_again(call, tmp_path):
    assert call({"a": GOOD})[0] == 0
    log = tmp_path / "out" / "a.log"
    log.write_text(log.read_text().replace("benchmark: ", "benchmark: --repeats 9 ", 1))
    assert call({"a": GOOD}) == (0, ["a"])


@pytest.mark.parametrize("script", [SLOW, DEAF])
def test_a_slice_ends_in_time_and_what_needs_more_than_one_fails(script, call, capsys):
    began = time.monotonic()
    assert call({"a": GOOD, "b": script, "c": GOOD}, seconds=2) == (gpu.LEFT, ["a", "b"])
    assert "b: stopped" in capsys.readouterr().out
    assert call({"a": GOOD, "b": script, "c": GOOD}, seconds=1) == (1, ["b"])
    assert "b: failed" in capsys.readouterr().out
    assert time.monotonic() - began < 20
    assert call({"a": GOOD, "b": script, "c": GOOD}, "--only", "a", "c") == (0, ["c"])


def test_a_run_that_is_stopped_goes_on_from_its_checkpoint(call, tmp_path, monkeypatch, capsys):
    stages = {"long": {"run": f"{RUN} --set training.steps=100"}}
    root = tmp_path / "out" / "runs"

    def stop_later():
        while not list(root.glob(".*.working/checkpoint.pt")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    watch = threading.Thread(target=stop_later, daemon=True)
    watch.start()
    assert call(stages)[0] == 143
    watch.join()
    assert "stopped (SIGTERM)" in (tmp_path / "out" / "long.partial").read_text()
    assert call(stages)[0] == 0
    (run,) = experiments.find_runs(root)
    assert run.manifest["attempts"] == 2 and len(run.history) == 100
    results = tmp_path / "results"
    monkeypatch.setattr(gpu, "RESULTS", results)
    (results / "benchmarks").mkdir(parents=True)
    assert call(stages | {"b": GOOD})[0] == 0 and call(stages | {"b": GOOD}, "--publish")[0] == 0
    (published,) = experiments.find_runs(results / "gpu")
    assert published.path.name == run.path.name
    assert json.loads((results / "benchmarks" / "gpu_b.json").read_text()) == {}


def test_without_the_device_one_line_says_so(call, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert call({"a": GOOD}, "--device", "cuda") == (2, [])
    assert "no GPU" in capsys.readouterr().err
    assert call({"a": GOOD}, "--only", "x") == (2, [])


@pytest.mark.parametrize("way", ["unrolled", "truncated", "straight_through"])
def test_network_passes_are_those_of_a_training(way, monkeypatch, tmp_path):
    changes = {
        "differentiation.way": way,
        "differentiation.tail": 2,
        "task.size": 8,
        "data.train_count": 5,
    }
    config = experiments.resolve(
        "l-dipa-imitation", "smoke", overrides=changes | {"training.batch_size": 2}
    )
    found = {"forward": 0, "backward": 0}

    def count(module, given, made):
        if isinstance(module, DnCNN):
            found["forward"] += len(made)
            if made.requires_grad:
                made.register_hook(
                    lambda gradient: found.update(backward=found["backward"] + len(gradient))
                )

    monkeypatch.setattr(differentiate, "low_memory", lambda denoiser: denoiser)
    counting = torch.nn.modules.module.register_module_forward_hook(count)
    try:
        config.recipe.fit(Problem.build(config), tmp_path / "checkpoint.pt", progress=False)
    finally:
        counting.remove()
    counted = gpu.passes(config)
    assert found == {
        "forward": 2 + counted["forward"] + counted["teacher"],  # one image twice, at the door
        "backward": counted["backward"],
    }


def test_the_list_asks_for_what_there_is():
    stages = gpu.read(ROOT / "scripts" / "gpu.yaml")
    assert len({stage.config().run_name for stage in stages if stage.kind == "run"}) >= 10
    files = [ROOT / "benchmarks" / stage.words[0] for stage in stages if stage.kind == "benchmark"]
    files += [ROOT / stage.words[0] for stage in stages if stage.kind == "test"]
    assert [file.name for file in files if not file.exists()] == []
    assert {stage.kind for stage in stages} == {"test", "benchmark", "run"}
