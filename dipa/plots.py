"""Figures from tables and histories: no computing, no training, one style.

Images are shown on the fixed grey scale [0, 1], errors on [0, ``ERROR_MAX``], so that two figures can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

ROLES = ("baseline", "student", "teacher")
COLOURS = {"baseline": "#c4472b", "student": "#1f6fb4", "teacher": "#3b8f52", "truth": "#555555"}
PALETTE = (  # none of the roles' colours
    *("#e69f00", "#56b4e9", "#8c6d31", "#cc79a7", "#0072b2", "#7b4ab8"),
    *("#555555", "#00a6a0", "#b8c400", "#000000", "#a0a0a0"),
)
DASHES = ("-", "--", "-.", ":")
ERROR_MAX = 0.4
STYLE = {
    "figure.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "font.size": 10,
    "figure.dpi": 110,
    "svg.hashsalt": "dipa",
}


def psnr_text(x: np.ndarray, truth: np.ndarray) -> str:
    """PSNR of one image as a label, data range 1."""
    return f"{-10 * np.log10(max(np.mean((x - truth) ** 2), 1e-8)):.1f} dB"


def reconstructions(examples: Mapping[str, np.ndarray], index: int = 0) -> Figure:
    """Truth and the three reconstructions of test image ``index`` above, their absolute errors below."""
    truth = examples["truth"][index, 0]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 4, figsize=(8.4, 4.5), layout="constrained")
        _image(axes[0, 0], truth, "truth")
        axes[1, 0].axis("off")
        for column, role in enumerate(ROLES, start=1):
            x = examples[role][index, 0]
            _image(axes[0, column], x, f"{role}\n{psnr_text(x, truth)}")
            shown = axes[1, column].imshow(np.abs(x - truth), cmap="magma", vmin=0, vmax=ERROR_MAX)
            _bare(axes[1, column], f"error of the {role}")
        figure.colorbar(shown, ax=axes[1, :], shrink=0.9, label="absolute error")
    return figure


def gallery(examples: Mapping[str, np.ndarray], count: int = 8) -> Figure:
    """Truth, baseline, student and teacher (rows) of the first ``count`` test images (columns), PSNR below each."""
    rows = ("truth", *ROLES)
    count = min(count, len(examples["truth"]))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(4, count, figsize=(1.15 * count, 5.4), layout="constrained", squeeze=False)
        for row, role in enumerate(rows):
            for column in range(count):
                x, truth = examples[role][column, 0], examples["truth"][column, 0]
                _image(axes[row, column], x, "")
                if role != "truth":
                    axes[row, column].set_xlabel(psnr_text(x, truth), fontsize=8)
            axes[row, 0].set_ylabel(role)
    return figure


def curves(metrics: Mapping[str, Mapping], quantity: str = "psnr", label: str = "PSNR (dB)", log: bool = False) -> Figure:
    """One recorded quantity over iterations for baseline, student and teacher."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
        for role in ROLES:
            values = metrics[role]["curve"][quantity]
            axis.plot(range(len(values)), values, marker="o", markersize=3, color=COLOURS[role], label=role)
        axis.set(xlabel="iteration k", ylabel=label, yscale="log" if log else "linear")
        axis.legend(frameon=False)
    return figure


def compare(
    lines: Mapping[str, Sequence[float]],
    label: str = "PSNR (dB)",
    log: bool = False,
    *,
    xlabel: str = "iteration k",
    order: Sequence[str] = (),
) -> Figure:
    """Named curves over iterations in one frame; neighbours differ in colour and dash.

    ``order`` lists the names of several figures, so that a name looks the same in all of them.
    """
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.6, 3.8), layout="constrained")
        _lines(axis, lines, order)
        axis.set(xlabel=xlabel, ylabel=label, yscale="log" if log else "linear")
        _legend(figure, axis)
    return figure


def iterations(curves: Mapping[str, Mapping[str, Sequence[float]]], order: Sequence[str] = ()) -> Figure:
    """PSNR (left) and residual (right, logarithmic) of each iteration, a line per recorded curve; ``order`` as in compare."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
        _lines(left, {name: curve["psnr"] for name, curve in curves.items()}, order)
        _lines(right, {name: curve["residual"] for name, curve in curves.items()}, order)
        left.set(xlabel="iteration k", ylabel="PSNR (dB)")
        right.set(xlabel="iteration k", ylabel="residual", yscale="log")
        _legend(figure, left)
    return figure


def _lines(axis, lines: Mapping[str, Sequence[float]], order: Sequence[str] = ()) -> None:
    places = {name: number for number, name in enumerate(dict.fromkeys([*order, *lines]))}
    for name, values in lines.items():
        number = places[name]
        role = next((role for role in ROLES if name == role or name.endswith(f"-{role}")), None)
        colour = COLOURS[role] if role else PALETTE[number % len(PALETTE)]
        dash = "-" if role else DASHES[number % len(DASHES)]
        axis.plot(range(len(values)), values, label=name, color=colour, linestyle=dash, linewidth=2.2 if role else 1.5)
    axis.locator_params(axis="x", integer=True)


def _legend(figure: Figure, axis) -> None:
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)


def methods(planes: Mapping[str, np.ndarray], columns: int = 6) -> Figure:
    """One test image by each method, (H, W) by name; ``truth`` among them is what the PSNR below the others refers to."""
    rows = max(-(-len(planes) // columns), 1)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(1.6 * columns, 2.05 * rows), layout="constrained", squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for axis, (name, plane) in zip(axes.flat, planes.items(), strict=False):
            axis.axis("on")
            _image(axis, plane, "")
            axis.set_title(name, fontsize=8)
            if name != "truth":
                axis.set_xlabel(psnr_text(plane, planes["truth"]), fontsize=8)
    return figure


def training(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and batch PSNR over training steps."""
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.0), layout="constrained")
        steps = [record["step"] for record in history]
        left.plot(steps, [record["loss"] for record in history], color=COLOURS["student"])
        left.set(xlabel="training step", ylabel="loss", yscale="log")
        right.plot(steps, [record["psnr"] for record in history], color=COLOURS["student"])
        right.set(xlabel="training step", ylabel="PSNR of the batch (dB)")
    return figure


def matrix(values: np.ndarray, title: str, zoom: int = 128) -> Figure:
    """The upper left ``zoom`` x ``zoom`` corner of a matrix beside its magnitude, on a symmetric scale."""
    corner = values[:zoom, :zoom]
    limit = float(np.percentile(np.abs(corner), 99.5)) or 1.0
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(4.6, 4.0), layout="constrained")
        shown = axis.imshow(corner, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set(title=title, xlabel="pixel j", ylabel="pixel i")
        figure.colorbar(shown, ax=axis, shrink=0.9)
    return figure


def player(examples: Mapping[str, np.ndarray]) -> str:
    """An iteration player (HTML, no kernel needed): baseline, student and teacher side by side, k = 0 to K.

    Needs the ``{role}_iterates`` arrays (K + 1, 1, C, H, W) of the first test image.
    """
    truth = examples["truth"][0, 0]
    stacks = {role: examples[f"{role}_iterates"][:, 0, 0] for role in ROLES}
    frames = min(len(stack) for stack in stacks.values())
    with plt.rc_context(STYLE | {"animation.frame_format": "jpeg", "figure.dpi": 80, "animation.embed_limit": 20}):
        figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.7), layout="constrained")
        _image(axes[0], truth, "truth\n")
        shown = [_image(axis, stacks[role][0], f"{role}\n") for axis, role in zip(axes[1:], ROLES, strict=True)]

        def draw(k: int):
            for image, axis, role in zip(shown, axes[1:], ROLES, strict=True):
                image.set_data(stacks[role][k])
                axis.set_title(f"{role}\n{psnr_text(stacks[role][k], truth)}", fontsize=9)
            axes[0].set_title(f"truth\niteration {k}", fontsize=9)
            return shown

        html = FuncAnimation(figure, draw, frames=frames, interval=350).to_jshtml(default_mode="once")
    plt.close(figure)
    return html


def _image(axis, values: np.ndarray, title: str):
    shown = axis.imshow(values, cmap="gray", vmin=0, vmax=1)
    _bare(axis, title)
    return shown


def _bare(axis, title: str) -> None:
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)
    for spine in axis.spines.values():
        spine.set_visible(False)


def denoiser_training(points: Sequence[Sequence[float]]) -> Figure:
    """Running training PSNR of the packaged denoiser over steps, from (step, PSNR) pairs."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
        axis.plot([step for step, _ in points], [psnr for _, psnr in points], color=COLOURS["student"])
        axis.set(xlabel="training step", ylabel="training PSNR (dB)")
    return figure


def tiles(rows: Mapping[str, np.ndarray]) -> Figure:
    """Small signed images (count, H, W) by name: a name is a row, blue to red on a symmetric scale of its own."""
    count = max(len(images) for images in rows.values())
    with plt.rc_context(STYLE):
        size = (1.15 * count + 1.2, 1.2 * len(rows))
        figure, axes = plt.subplots(len(rows), count, figsize=size, layout="constrained", squeeze=False)
        for line, (name, images) in zip(axes, rows.items(), strict=True):
            limit = float(np.abs(images).max()) or 1.0
            for axis, image in zip(line, images, strict=True):
                axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
                _bare(axis, "")
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def codes(tables: Mapping[str, np.ndarray]) -> Figure:
    """Iteration codes (K, d) by name, side by side: row k is what the network is told at iteration k, from 1 to K."""
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(1, len(tables), figsize=(4.4 * len(tables), 3.0), layout="constrained", squeeze=False)
        for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
            limit = float(np.abs(table).max()) or 1.0
            extent = (-0.5, table.shape[1] - 0.5, len(table) + 0.5, 0.5)
            shown = axis.imshow(table, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", extent=extent, interpolation="none")
            axis.set(title=name, xlabel="number of the code", ylabel="iteration k")
            axis.yaxis.get_major_locator().set_params(integer=True)
            figure.colorbar(shown, ax=axis, shrink=0.9)
    return figure


def spectrum(s: np.ndarray, lines: Mapping[str, np.ndarray], eigenvalues: Mapping[str, np.ndarray]) -> Figure:
    """What a step leaves of the error at each eigenvalue s (above), and where the eigenvalues of operators lie (below).

    Both over eigenvalues in units of the largest: ``lines`` on the grid ``s``, one mark for each of ``eigenvalues``.
    """
    with plt.rc_context(STYLE):
        ratios = {"height_ratios": [3, 0.3 + 0.3 * len(eigenvalues)]}
        figure, (top, bottom) = plt.subplots(2, 1, figsize=(7.6, 4.6), layout="constrained", sharex=True, gridspec_kw=ratios)
        for number, (name, values) in enumerate(lines.items()):
            colour, dash = PALETTE[number % len(PALETTE)], DASHES[number % len(DASHES)]
            top.plot(s, values, color=colour, linestyle=dash, label=name)
        top.set(ylabel="$1-s\\,p(s)$")
        _legend(figure, top)
        for row, values in enumerate(eigenvalues.values()):
            bottom.plot(values, np.full(len(values), row), "|", color=COLOURS["truth"], markersize=9)
        bottom.set(xlabel="eigenvalue s / largest eigenvalue", yticks=range(len(eigenvalues)), yticklabels=list(eigenvalues))
        bottom.set(ylim=(len(eigenvalues) - 0.4, -0.6))
    return figure


def beside(
    frames: Mapping[str, Mapping[str, Sequence[float]]],
    label: str = "PSNR (dB)",
    log: bool = False,
    *,
    xlabel: str = "iteration k",
) -> Figure:
    """Named curves over iterations in named frames side by side, on one vertical scale; a name looks the same in every frame."""
    names = dict.fromkeys(name for lines in frames.values() for name in lines)
    with plt.rc_context(STYLE):
        size = (4.1 * len(frames) + 1.4, 3.6)
        figure, axes = plt.subplots(1, len(frames), figsize=size, layout="constrained", sharey=True, squeeze=False)
        for axis, (title, lines) in zip(axes[0], frames.items(), strict=True):
            _lines(axis, {name: lines.get(name, ()) for name in names})
            axis.set(title=title, xlabel=xlabel, yscale="log" if log else "linear")
        axes[0, 0].set_ylabel(label)
        _legend(figure, axes[0, 0])
    return figure


def panels(rows: Mapping[str, Mapping[str, np.ndarray]], signed: Sequence[str] = (), limit: float = ERROR_MAX) -> Figure:
    """Images (H, W) by row and column name on the grey scale [0, 1]; columns in ``signed`` in blue and red on +-``limit``."""
    columns = list(dict.fromkeys(name for images in rows.values() for name in images))
    grey, diverging = {"cmap": "gray", "vmin": 0, "vmax": 1}, {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    with plt.rc_context(STYLE):
        size = (1.55 * len(columns) + 1.3, 1.7 * len(rows) + 0.3)
        figure, axes = plt.subplots(len(rows), len(columns), figsize=size, layout="constrained", squeeze=False)
        for line, (row, images) in zip(axes, rows.items(), strict=True):
            for axis, name in zip(line, columns, strict=True):
                _bare(axis, name if axis in axes[0] else "")
                if name in images:
                    axis.imshow(images[name], interpolation="nearest", **(diverging if name in signed else grey))
                    axis.patch.set(edgecolor="#999999", linewidth=1.2)  # a frame: measured columns are white as the page
            line[0].set_ylabel(row, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def eigenvalues(lines: Mapping[str, np.ndarray], floor: float = 1e-8) -> Figure:
    """Eigenvalues over the largest, in falling order, against the share of all n; a line ends where they fall below ``floor``."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.6, 3.8), layout="constrained")
        for number, (name, values) in enumerate(lines.items()):
            ordered = np.sort(values)[::-1] / np.max(values)
            kept, share = ordered[ordered >= floor], np.arange(1, len(ordered) + 1) / len(ordered)
            style = {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number % len(DASHES)]}
            axis.plot(share[: len(kept)], kept, label=name, marker="o", markersize=4, markevery=[len(kept) - 1], **style)
        axis.set(xlabel="share of the n dimensions of the image", ylabel="eigenvalue / largest", yscale="log", xlim=(0, 1.02))
        _legend(figure, axis)
    return figure


def matrices(maps: Mapping[str, np.ndarray], first: int = 0, label: str = "pixel") -> Figure:
    """Matrices by name in squares side by side, each on a symmetric scale of its own; rows and columns count from ``first``."""
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(1, len(maps), figsize=(2.9 * len(maps), 2.7), layout="constrained", squeeze=False)
        for axis, (name, values) in zip(axes[0], maps.items(), strict=True):
            limit = float(np.percentile(np.abs(values[values != 0]), 99.5)) if values.any() else 1.0
            height, width = values.shape
            extent = (first - 0.5, first + width - 0.5, first + height - 0.5, first - 0.5)
            shown = axis.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=extent, aspect="auto")
            axis.set_title(name, fontsize=10)
            axis.set_xlabel(f"{label} j")
            figure.colorbar(shown, ax=axis, shrink=0.8)
        axes[0, 0].set_ylabel(f"{label} i")
    return figure


def against(x: Sequence[float], lines: Mapping[str, Sequence[float]], xlabel: str, ylabel: str) -> Figure:
    """Named lines over the positive numbers ``x``, both axes logarithmic."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7.6, 3.4), layout="constrained")
        for number, (name, values) in enumerate(lines.items()):
            style = {"color": PALETTE[number % len(PALETTE)], "linestyle": DASHES[number % len(DASHES)]}
            axis.loglog(x, values, label=name, marker="o", markersize=4, **style)
        axis.set(xlabel=xlabel, ylabel=ylabel)
        _legend(figure, axis)
    return figure


def long_runs(curves: Mapping[str, Mapping[str, Sequence[float]]], trained: int) -> Figure:
    """PSNR and data fidelity of each iteration from the first on, over logarithmic k; a line marks the ``trained`` K."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
        for axis, quantity, label in zip(axes, ("psnr", "fidelity"), ("PSNR (dB)", "data fidelity $g$"), strict=True):
            _lines(axis, {name: curve[quantity] for name, curve in curves.items()})
            axis.set(xlabel="iteration k", ylabel=label, xscale="log", xlim=(1, None))
            axis.axvline(trained, color=COLOURS["truth"], linewidth=0.8, linestyle=":")
        axes[1].set_yscale("log")
        _legend(figure, axes[0])
    return figure
