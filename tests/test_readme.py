"""README and page "Use it": examples, run on smaller images, and what is said of recorded runs."""

import re
from pathlib import Path

import numpy as np
import pytest
import readme
from PIL import Image

from dipa import reports

README = Path(__file__).parents[1] / "README.md"
# what makes them small: in the text -> here; each must be there
SMALLER = {
    "(1, 48, 48)": "(1, 16, 16)",
    "size=48": "size=16",
    "dipa.compare(physics, train, test=test[:8])": "dipa.compare(physics, train[:9], "
    "test=test[:2], solver=few, methods=['1/L', 'combined steps'], progress=False)",
    "iterations=40": "iterations=2",
    "count=256": "count=24",
    "(1, 32, 32), ratio": "(1, 8, 8), ratio",
    'load("embedded", "train", count': 'load("embedded", "train", size=8, count',
    "iterations=10": "iterations=2",
    "steps=16": "steps=2",
    "(1, 32, 32), features=32": "(1, 8, 8), features=4",
}


@pytest.mark.filterwarnings("ignore:distill.*Do not train:UserWarning", "ignore:images.*fewer than")
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pages = README, README.parent / "book" / "use.md"
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for there, here in SMALLER.items():
        assert there in text, there
        text = text.replace(there, here)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    names: dict = {}
    exec("import dipa\nfew = dipa.FISTA(dipa.PnP(dipa.denoisers.load()), iterations=2)", names)
    for block in blocks:
        exec(compile(block, "README.md, use.md", "exec"), names)
    told = capsys.readouterr().out
    assert "recommended" in told and "combined steps" in told and "held-out images" in told
    assert (tmp_path / "my_operator.safetensors").is_file()
    inline = re.search(r"`(dipa\.NeuralPreconditioner\(.*?\))`", text)
    assert inline and eval(inline.group(1), names).parameter_count > 0


@pytest.fixture(scope="module")
def recorded():
    return readme.recorded()


def test_what_stands_there_is_what_the_runs_say(recorded):
    text = README.read_text(encoding="utf-8")
    assert readme.between(text, readme.lines(*recorded)) == text, "python scripts/readme.py"
    with Image.open(README.parent / readme.PICTURE) as picture:
        assert picture.info["Comment"] == readme.digest(reports.examples(recorded[0]))


def test_the_numbers_are_those_of_the_runs(recorded):
    runs, _ = recorded
    cells = [line.split(" | ") for line in reports.at_a_glance(runs).splitlines()[2:]]
    presets = ("mri-baseline", "mri-ridge-varied", "mri-n-dipa-composed")
    baseline, closed, network = (
        reports.run_of(runs["mri"], preset).metrics["student"] for preset in presets
    )
    assert cells[1][1] == f"{baseline['psnr']:.2f}" and cells[1][3] == f"{closed['psnr']:.2f}"
    assert cells[1][5] == f"{network['psnr_batch_mse']:.2f}"
    interpolated = reports.run_of(runs["super_resolution"], "sr-baseline-interpolated")
    assert cells[2][2] == f"{interpolated.metrics['student']['psnr']:.2f}"


def test_the_findings_add_up(recorded):
    gains, modulus, _, images, operators = reports.findings(*recorded)
    unlearned, closed, network = (
        reports.run_of(recorded[0]["single_pixel"], preset).metrics["student"]["psnr"]
        for preset in ("baseline", "ridge-full", "n-dipa-composed")
    )
    both = f"{closed - unlearned:+.1f} and then {network - closed:+.1f} dB"
    assert both in gains and gains.index(both) < gains.index("super-resolution")
    assert "half of the unknowns" in modulus
    kinds = recorded[1]["other_images"]["kinds"].values()
    assert f"worst is {max(kind['plain'] - kind['as it knows'] for kind in kinds):.1f} dB" in images
    eight = reports.comparisons(recorded[1]["eight_operators"]).values()
    assert operators.startswith(f"On {sum(one.first.fit > 0 for one in eight)} of 8")


def test_the_picture_has_the_example_of_the_median_gain(recorded):
    def psnr(run, index):
        truth, x = (reports.runs.plane(run.examples[k][index]) for k in ("truth", "student"))
        return -10 * np.log10(np.mean((x - truth) ** 2))

    runs = recorded[0]["super_resolution"]
    names = ("sr-baseline", "sr-n-dipa-composed")
    baseline, network = (reports.run_of(runs, name) for name in names)
    truth, plain = network.examples["truth"], baseline.examples["baseline"]
    errors = [np.mean((plain[n] - truth[n]) ** 2) for n in range(4)]
    gains = [psnr(network, n) + 10 * np.log10(errors[n]) for n in range(4)]
    shown = reports.examples(recorded[0])["super-resolution"]["truth"]
    (place,) = (n for n in range(4) if np.array_equal(truth[n, 0], shown))
    assert sorted(gains).index(gains[place]) == 2
