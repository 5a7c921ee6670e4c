"""The explorer: every picture of the static table is the one that was solved, and a changed
control solves again.
"""

import base64
import io
import json
import re

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from dipa import plots
from dipa.plots import explore

TRUTH = np.full((4, 5), 0.5, dtype="float32")
SETTINGS = {
    "run": ("left", "right"),
    "iterations": (0, 2, 4),
    "step_size": (0.1, 0.5),
    "weight": (0.1, 10.0),
}
FIRST = {"run": "right", "iterations": 2, "step_size": 0.1, "weight": 10.0}


def solve(run, iterations, step_size, weight):
    grey = (0.4 if run == "right" else 0.0) + iterations / 20 + step_size / 5 + weight / 100
    return np.full(TRUTH.shape, grey, dtype="float32")


def grey(address: str) -> float:
    """The middle panel of a picture: the reconstruction."""
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    assert picture.shape == (4, 15)
    return float(picture[:, 5:10].mean()) / 255


def test_the_table_holds_every_combination_in_the_order_of_the_sliders():
    page = explore.table(solve, TRUTH, SETTINGS, FIRST)
    made = json.loads(re.search(r"made = (\{.*?\});\n", page)[1])
    assert len(made["frames"]) == 24 and made["values"][1] == ["0", "2", "4"]
    number = 0
    for place, values in zip((1, 2, 0, 1), made["values"], strict=True):  # as the script counts
        number = number * len(values) + place
    assert grey(made["frames"][number][0]) == pytest.approx(0.4 + 4 / 20 + 0.02 + 0.1, abs=3e-3)
    shown = re.search(r'<img .*?src="(.*?)"', page)[1]
    assert grey(shown) == pytest.approx(float(solve(**FIRST)[0, 0]), abs=3e-3)
    assert page.count("<input") == 4 and "step size" in page


def test_psnr_error_and_what_is_no_number():
    address, text = explore.frame(np.full(TRUTH.shape, 0.6), TRUTH)
    assert text == "20.0 dB"
    panels = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))
    assert panels[0, -1] == int(0.1 / plots.ERROR_MAX * 255)
    assert grey(explore.frame(np.full(TRUTH.shape, np.nan), TRUTH)[0]) == 0


def test_a_changed_control_changes_the_picture():
    box = explore._live(solve, TRUTH, SETTINGS, FIRST)
    run, iterations, step_size, weight, picture, output = box.children
    seen = [picture.value]
    for control, value in ((run, "left"), (iterations, 3), (step_size, 0.25), (weight, 1.0)):
        control.value = value
        seen.append(picture.value)
    assert len(set(seen)) == 5 and output.outputs == ()
    shown = re.search(r'src="(.*?)"', seen[-1])[1]
    # values between those of the table
    assert grey(shown) == pytest.approx(3 / 20 + 0.05 + 0.01, abs=3e-3)
    assert step_size.step == pytest.approx(0.01) and iterations.step == 1
    kinds = [
        ipywidgets.ToggleButtons,
        ipywidgets.IntSlider,
        ipywidgets.FloatSlider,
        ipywidgets.FloatLogSlider,
    ]
    assert [type(control) for control in box.children[:4]] == kinds


def test_what_is_shown_is_a_widget_with_a_static_twin(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda content, raw: shown.append(content))
    plots.explorer(solve, TRUTH, SETTINGS, FIRST)
    monkeypatch.setattr(explore, "_live", lambda *settings: None)  # ipywidgets is not installed
    plots.explorer(solve, TRUTH, SETTINGS, FIRST)
    assert shown[0].keys() - shown[1].keys() == {explore.WIDGET}
    assert shown[0]["text/html"] == shown[1]["text/html"]
