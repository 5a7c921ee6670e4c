"""The one style of all figures: colours, scales, axes of images, lines told apart by colour and
dash.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

ROLES = ("baseline", "student", "teacher")
COLOURS = {"baseline": "#c4472b", "student": "#1f6fb4", "teacher": "#3b8f52", "truth": "#555555"}
PALETTE = (  # none of the roles' colours
    *("#e69f00", "#56b4e9", "#8c6d31", "#cc79a7", "#0072b2", "#7b4ab8"),
    *("#555555", "#00a6a0", "#b8c400", "#000000", "#a0a0a0"),
)
DASHES = ("-", "--", "-.", ":")
ERROR_MAX = 0.4
STYLE: dict[Any, Any] = {  # matplotlib's annotation lists every key there is
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 10,
    "figure.dpi": 110,
    "svg.hashsalt": "dipa",
}


Drawn = TypeVar("Drawn")
Values = ParamSpec("Values")


def figure_of(draw: Callable[Values, Drawn]) -> Callable[Values, Drawn]:
    """``draw`` in the style of all figures, given tensors of any device as arrays."""

    @functools.wraps(draw)
    def styled(*values: Values.args, **options: Values.kwargs) -> Drawn:
        with plt.rc_context(STYLE):
            return draw(*arrays(values), **arrays(options))

    return styled


def arrays(values: Any) -> Any:
    """``values`` with each tensor in it, also inside dicts, lists and tuples (which become
    lists), as an array.
    """
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy()
    if isinstance(values, Mapping):
        return {name: arrays(value) for name, value in values.items()}
    return [arrays(value) for value in values] if isinstance(values, (list, tuple)) else values


def show(axis: Axes, values: np.ndarray, title: str) -> AxesImage:
    """An image (H, W) on the grey scale [0, 1], without ticks."""
    shown = axis.imshow(values, cmap="gray", vmin=0, vmax=1)
    bare(axis, title)
    return shown


def bare(axis: Axes, title: str) -> None:
    """A frame for an image: a title, and neither ticks nor grid nor spines."""
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def numbered(number: int) -> dict[str, Any]:
    """Colour and dash of the line of this number; neighbours differ in both."""
    return {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number % len(DASHES)]}


def draw(axis: Axes, lines: Mapping[str, Sequence[float]], order: Sequence[str] = ()) -> None:
    """Named lines over 0, 1, 2, ...; roles in their own colours, others by their place in
    ``order`` and among the lines.
    """
    places = {name: number for number, name in enumerate(dict.fromkeys([*order, *lines]))}
    for name, values in lines.items():
        role = next((role for role in ROLES if name == role or name.endswith(f"-{role}")), None)
        style = (
            {"color": COLOURS[role], "linewidth": 2.2}
            if role
            else {"linewidth": 1.5} | numbered(places[name])
        )
        axis.plot(range(len(values)), values, label=name, **style)
    axis.locator_params(axis="x", integer=True)


def legend(figure: Figure, axis: Axes) -> None:
    """The names of the lines of ``axis``, at the right of the figure."""
    figure.legend(
        *axis.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8
    )
