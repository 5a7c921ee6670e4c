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


def compare(lines: Mapping[str, Sequence[float]], label: str = "PSNR (dB)") -> Figure:
    """Named curves over iterations in one frame."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(6.8, 3.8), layout="constrained")
        colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(lines)))
        for colour, (name, values) in zip(colours, lines.items(), strict=True):
            axis.plot(range(len(values)), values, color=colour, label=name)
        axis.set(xlabel="iteration k", ylabel=label)
        axis.legend(frameon=False, fontsize=8, ncol=2)
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
