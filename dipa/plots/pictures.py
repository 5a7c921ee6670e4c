"""Images: reconstructions beside the truth, signed images, an iteration player; one grey scale
[0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

from .style import ERROR_MAX, ROLES, bare, figure_of, show


def psnr_text(x: np.ndarray, truth: np.ndarray) -> str:
    """PSNR of one image as a label, data range 1."""
    return f"{-10 * np.log10(max(np.mean((x - truth) ** 2), 1e-8)):.1f} dB"


@figure_of
def reconstructions(examples: Mapping[str, np.ndarray], index: int = 0) -> Figure:
    """Truth and the three reconstructions of test image ``index`` above, their absolute errors
    below.
    """
    truth = examples["truth"][index, 0]
    figure, axes = plt.subplots(2, 4, figsize=(8.4, 4.5), layout="constrained")
    show(axes[0, 0], truth, "truth")
    axes[1, 0].axis("off")
    for column, role in enumerate(ROLES, start=1):
        x = examples[role][index, 0]
        show(axes[0, column], x, f"{role}\n{psnr_text(x, truth)}")
        shown = axes[1, column].imshow(np.abs(x - truth), cmap="magma", vmin=0, vmax=ERROR_MAX)
        bare(axes[1, column], f"error of the {role}")
    figure.colorbar(shown, ax=axes[1, :], shrink=0.9, label="absolute error")
    return figure


@figure_of
def gallery(examples: Mapping[str, np.ndarray], count: int = 8) -> Figure:
    """Truth, baseline, student and teacher (rows) of the first ``count`` test images (columns),
    PSNR below each.
    """
    rows = ("truth", *ROLES)
    count = min(count, len(examples["truth"]))
    figure, axes = plt.subplots(
        4, count, figsize=(1.15 * count, 5.4), layout="constrained", squeeze=False
    )
    for row, role in enumerate(rows):
        for column in range(count):
            x, truth = examples[role][column, 0], examples["truth"][column, 0]
            show(axes[row, column], x, "")
            if role != "truth":
                axes[row, column].set_xlabel(psnr_text(x, truth), fontsize=8)
        axes[row, 0].set_ylabel(role)
    return figure


@figure_of
def methods(planes: Mapping[str, np.ndarray], columns: int = 6) -> Figure:
    """One test image by each method, (H, W) by name; ``truth`` among them is what the PSNR
    below the others refers to.
    """
    rows = max(-(-len(planes) // columns), 1)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.6 * columns, 2.05 * rows), layout="constrained", squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, plane) in zip(axes.flat, planes.items(), strict=False):
        axis.axis("on")
        show(axis, plane, "")
        axis.set_title(name, fontsize=8)
        if name != "truth":
            axis.set_xlabel(psnr_text(plane, planes["truth"]), fontsize=8)
    return figure


@figure_of
def beside_the_truth(rows: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Images (H, W) by row and by method, on the grey scale [0, 1]; ``truth`` among those of a row
    is what the PSNR below its others refers to.
    """
    columns = len(next(iter(rows.values())))
    size = (1.75 * columns, 2.05 * len(rows))
    figure, axes = plt.subplots(
        len(rows), columns, figsize=size, layout="constrained", squeeze=False
    )
    for line, (row, planes) in zip(axes, rows.items(), strict=True):
        for axis, (name, plane) in zip(line, planes.items(), strict=True):
            show(axis, plane, name if axis in axes[0] else "")
            if name != "truth":
                axis.set_xlabel(psnr_text(plane, planes["truth"]), fontsize=9)
        line[0].set_ylabel(row, fontsize=9)
    return figure


@figure_of
def player(examples: Mapping[str, np.ndarray]) -> str:
    """An iteration player (HTML, no kernel needed): baseline, student and teacher side by side, k =
    0 to K.

    Needs the ``{role}_iterates`` arrays (K + 1, 1, C, H, W) of the first test image.
    """
    truth = examples["truth"][0, 0]
    stacks = {role: examples[f"{role}_iterates"][:, 0, 0] for role in ROLES}
    frames = min(len(stack) for stack in stacks.values())
    with plt.rc_context(
        {"animation.frame_format": "jpeg", "figure.dpi": 80, "animation.embed_limit": 20}
    ):
        figure, axes = plt.subplots(1, 4, figsize=(8.4, 2.7), layout="constrained")
        show(axes[0], truth, "truth\n")
        shown = [
            show(axis, stacks[role][0], f"{role}\n")
            for axis, role in zip(axes[1:], ROLES, strict=True)
        ]

        def draw(k: int):
            for image, axis, role in zip(shown, axes[1:], ROLES, strict=True):
                image.set_data(stacks[role][k])
                axis.set_title(f"{role}\n{psnr_text(stacks[role][k], truth)}", fontsize=9)
            axes[0].set_title(f"truth\niteration {k}", fontsize=9)
            return shown

        html = FuncAnimation(figure, draw, frames=frames, interval=350).to_jshtml(
            default_mode="once"
        )
    plt.close(figure)
    return html


@figure_of
def tiles(rows: Mapping[str, np.ndarray]) -> Figure:
    """Small signed images (count, H, W) by name: a name is a row, blue to red on a symmetric
    scale of its own.
    """
    count = max(len(images) for images in rows.values())
    size = (1.15 * count + 1.2, 1.2 * len(rows))
    figure, axes = plt.subplots(len(rows), count, figsize=size, layout="constrained", squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        limit = float(np.abs(images).max()) or 1.0
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
            bare(axis, "")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    return figure


@figure_of
def panels(
    rows: Mapping[str, Mapping[str, np.ndarray]],
    signed: Sequence[str] = (),
    limit: float = ERROR_MAX,
) -> Figure:
    """Images (H, W) by row and column name on the grey scale [0, 1]; columns in ``signed`` in
    blue and red on +-``limit``.
    """
    columns = list(dict.fromkeys(name for images in rows.values() for name in images))
    grey, diverging = (
        {"cmap": "gray", "vmin": 0, "vmax": 1},
        {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit},
    )
    size = (1.55 * len(columns) + 1.3, 1.7 * len(rows) + 0.3)
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=size, layout="constrained", squeeze=False
    )
    for line, (row, images) in zip(axes, rows.items(), strict=True):
        for axis, name in zip(line, columns, strict=True):
            bare(axis, name if axis in axes[0] else "")
            if name in images:
                axis.imshow(
                    images[name], interpolation="nearest", **(diverging if name in signed else grey)
                )
                # a frame: measured columns are white as the page
                axis.patch.set(edgecolor="#999999", linewidth=1.2)
        line[0].set_ylabel(row, rotation=0, ha="right", va="center", fontsize=9)
    return figure
