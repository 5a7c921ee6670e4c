"""The README's examples, run one after the other on smaller images."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
# what makes them small: in the text -> here; each must be there
SMALLER = {
    "(1, 48, 48)": "(1, 16, 16)",
    "size=48": "size=16",
    "dipa.compare(physics, train, test=test[:8])": "dipa.compare(physics, train[:9], "
    "test=test[:2], solver=few, methods=['1/L', 'combined steps'], progress=False)",
    "iterations=20": "iterations=2",
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
    text = README.read_text(encoding="utf-8")
    for there, here in SMALLER.items():
        assert there in text, there
        text = text.replace(there, here)
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 4
    names: dict = {}
    exec("import dipa\nfew = dipa.FISTA(dipa.PnP(dipa.denoisers.load()), iterations=2)", names)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    told = capsys.readouterr().out
    assert "recommended" in told and "combined steps" in told and "held-out images" in told
    assert (tmp_path / "my_operator.safetensors").is_file()
    inline = re.search(r"`(dipa\.NeuralPreconditioner\(.*?\))`", text)
    assert inline and eval(inline.group(1), names).parameter_count > 0
