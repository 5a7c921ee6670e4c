"""Settings to turn and the image they give: solved anew where a kernel runs, precomputed in the
book.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from .pictures import psnr_text
from .style import ERROR_MAX, arrays

Solve = Callable[..., np.ndarray]  # a value by name for each setting -> an image (H, W)
WIDGET = "application/vnd.jupyter.widget-view+json"
IMAGE = (
    '<img alt="truth, reconstruction, error" style="width: 100%; max-width: 46em; '
    'image-rendering: pixelated" src="{src}">'
)
CAPTION = "<p>Truth, reconstruction, absolute error. PSNR: <b>{text}</b></p>"
# A table of pictures; each slider is one digit of the number of the shown one.
SCRIPT = """<script>
(() => {
  const box = document.getElementById("NAME"), made = MADE;
  const sliders = [...box.querySelectorAll("input")];
  const show = () => {
    let number = 0;
    sliders.forEach((slider, place) => {
      number = number * made.values[place].length + Number(slider.value);
      slider.nextElementSibling.textContent = made.values[place][slider.value];
    });
    box.querySelector("img").src = made.frames[number][0];
    box.querySelector("b").textContent = made.frames[number][1];
  };
  sliders.forEach((slider) => slider.addEventListener("input", show));
})();
</script>"""


def explorer(
    solve: Solve, truth: np.ndarray, settings: Mapping[str, Sequence], first: Mapping[str, Any]
) -> None:
    """Show ``solve(**values)`` beside ``truth`` (H, W), with a control for each of the
    ``settings``.

    In a live session a changed control solves again, for every number between the least and the
    largest of a setting. What is stored, and what the book shows, is a table of pictures: ``solve``
    is called for every combination of the values listed.

    Args:
        solve: gives an image (H, W) for a value of each setting, by name.
        truth: the image that error and PSNR refer to.
        settings: values by name, text or increasing numbers; those of the static version.
        first: the values shown at first, each among those of its setting.
    """
    from IPython.display import display  # of a notebook; the package does not need it

    content: dict[str, Any] = {
        "text/plain": "explorer: " + ", ".join(settings),
        "text/html": table(solve, truth, settings, first),
    }
    box = _live(solve, truth, settings, first)
    if box is not None:
        content[WIDGET] = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    display(content, raw=True)


def table(
    solve: Solve, truth: np.ndarray, settings: Mapping[str, Sequence], first: Mapping[str, Any]
) -> str:
    """The static version (HTML, no kernel needed): sliders over precomputed pictures."""
    combinations = list(itertools.product(*settings.values()))
    frames = [
        frame(solve(**dict(zip(settings, values, strict=True))), truth) for values in combinations
    ]
    shown = frames[combinations.index(tuple(first[name] for name in settings))]
    pictures = {
        "values": [[_text(value) for value in values] for values in settings.values()],
        "frames": frames,
    }
    content = json.dumps(pictures)
    name = "explorer-" + hashlib.sha256(content.encode()).hexdigest()[:12]
    rows = "".join(_row(setting, values, first[setting]) for setting, values in settings.items())
    script = SCRIPT.replace("NAME", name).replace("MADE", content)
    return f'<div id="{name}">{rows}{_picture(shown)}{script}</div>'


def frame(image: np.ndarray, truth: np.ndarray) -> tuple[str, str]:
    """Truth, ``image`` and absolute error side by side as the address of a PNG, and the PSNR as
    text.
    """
    image, truth = np.nan_to_num(arrays(image), nan=0.0), arrays(truth)
    panels = np.concatenate([truth, image, np.abs(image - truth) / ERROR_MAX], axis=1)
    content = io.BytesIO()
    Image.fromarray(np.uint8(np.clip(panels, 0, 1) * 255)).save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode(), psnr_text(
        image, truth
    )


def _picture(shown: tuple[str, str]) -> str:
    return IMAGE.format(src=shown[0]) + CAPTION.format(text=shown[1])


def _row(name: str, values: Sequence, value: Any) -> str:
    """A named slider over the places of ``values``, and the value it stands at."""
    index = list(values).index(value)
    slider = (
        f'<input type="range" min="0" max="{len(values) - 1}" value="{index}" style="width: '
        f'16em; vertical-align: middle">'
    )
    label = f'<span style="display: inline-block; width: 9em">{html.escape(_label(name))}</span>'
    return f"<label>{label}{slider} <span>{html.escape(_text(value))}</span></label><br>"


def _label(name: str) -> str:
    return name.replace("_", " ")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _live(
    solve: Solve, truth: np.ndarray, settings: Mapping[str, Sequence], first: Mapping[str, Any]
):
    """Controls and the picture they give, as one widget; None where ipywidgets is not installed."""
    try:
        import ipywidgets
    except ImportError:
        return None
    controls = {
        name: _control(ipywidgets, name, values, first[name]) for name, values in settings.items()
    }
    picture = ipywidgets.HTML()

    def show(**values: Any) -> None:
        picture.value = _picture(frame(solve(**values), truth))

    output = ipywidgets.interactive_output(show, controls)  # holds what solve prints or raises
    return ipywidgets.VBox([*controls.values(), picture, output])


def _control(ipywidgets: Any, name: str, values: Sequence, value: Any) -> Any:
    """A choice of texts, or a slider from the least to the largest number; one that follows
    ratios where they are equal.
    """
    options = {
        "description": _label(name),
        "value": value,
        "style": {"description_width": "9em"},
        "continuous_update": False,
    }
    if isinstance(value, str):
        return ipywidgets.ToggleButtons(options=list(values), description=_label(name), value=value)
    if all(isinstance(number, int) for number in values):
        return ipywidgets.IntSlider(min=values[0], max=values[-1], **options)
    if values[0] > 0 and values[-1] / values[0] >= 10:
        least, most = math.log10(values[0]), math.log10(values[-1])
        return ipywidgets.FloatLogSlider(
            min=least, max=most, step=(most - least) / 40, readout_format=".2g", **options
        )
    return ipywidgets.FloatSlider(
        min=values[0], max=values[-1], step=(values[-1] - values[0]) / 40, **options
    )
