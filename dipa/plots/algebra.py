"""Linear algebra to look at: matrices, iteration codes, eigenvalues and what a step does to
them.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from .style import COLOURS, figure_of, legend, numbered


@figure_of
def matrix(values: np.ndarray, title: str, zoom: int = 128) -> Figure:
    """The upper left ``zoom`` x ``zoom`` corner of a matrix beside its magnitude, on a
    symmetric scale.
    """
    corner = values[:zoom, :zoom]
    limit = float(np.percentile(np.abs(corner), 99.5)) or 1.0
    with plt.rc_context({"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(4.6, 4.0), layout="constrained")
        shown = axis.imshow(corner, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set(title=title, xlabel="pixel j", ylabel="pixel i")
        figure.colorbar(shown, ax=axis, shrink=0.9)
    return figure


@figure_of
def matrices(maps: Mapping[str, np.ndarray], first: int = 0, label: str = "pixel") -> Figure:
    """Matrices by name in squares side by side, each on a symmetric scale of its own; rows and
    columns count from ``first``.
    """
    with plt.rc_context({"axes.grid": False}):
        figure, axes = plt.subplots(
            1, len(maps), figsize=(2.9 * len(maps), 2.7), layout="constrained", squeeze=False
        )
        for axis, (name, values) in zip(axes[0], maps.items(), strict=True):
            limit = float(np.percentile(np.abs(values[values != 0]), 99.5)) if values.any() else 1.0
            height, width = values.shape
            extent = (first - 0.5, first + width - 0.5, first + height - 0.5, first - 0.5)
            shown = axis.imshow(
                values, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=extent, aspect="auto"
            )
            axis.set_title(name, fontsize=10)
            axis.set_xlabel(f"{label} j")
            figure.colorbar(shown, ax=axis, shrink=0.8)
        axes[0, 0].set_ylabel(f"{label} i")
    return figure


@figure_of
def codes(tables: Mapping[str, np.ndarray]) -> Figure:
    """Iteration codes (K, d) by name, side by side: row k is what the network is told at
    iteration k, from 1 to K.
    """
    with plt.rc_context({"axes.grid": False}):
        figure, axes = plt.subplots(
            1, len(tables), figsize=(4.4 * len(tables), 3.0), layout="constrained", squeeze=False
        )
        for axis, (name, table) in zip(axes[0], tables.items(), strict=True):
            limit = float(np.abs(table).max()) or 1.0
            extent = (-0.5, table.shape[1] - 0.5, len(table) + 0.5, 0.5)
            shown = axis.imshow(
                table,
                cmap="RdBu_r",
                vmin=-limit,
                vmax=limit,
                aspect="auto",
                extent=extent,
                interpolation="none",
            )
            axis.set(title=name, xlabel="number of the code", ylabel="iteration k")
            axis.yaxis.get_major_locator().set_params(integer=True)
            figure.colorbar(shown, ax=axis, shrink=0.9)
    return figure


@figure_of
def spectrum(
    s: np.ndarray, lines: Mapping[str, np.ndarray], eigenvalues: Mapping[str, np.ndarray]
) -> Figure:
    """What a step leaves of the error at each eigenvalue s (above), and where the eigenvalues of
    operators lie (below).

    Both over eigenvalues in units of the largest: ``lines`` on the grid ``s``, one mark for each of
    ``eigenvalues``.
    """
    ratios = {"height_ratios": [3, 0.3 + 0.3 * len(eigenvalues)]}
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(7.6, 4.6), layout="constrained", sharex=True, gridspec_kw=ratios
    )
    for number, (name, values) in enumerate(lines.items()):
        top.plot(s, values, label=name, **numbered(number))
    top.set(ylabel="$1-s\\,p(s)$")
    legend(figure, top)
    for row, values in enumerate(eigenvalues.values()):
        bottom.plot(values, np.full(len(values), row), "|", color=COLOURS["truth"], markersize=9)
    bottom.set(
        xlabel="eigenvalue s / largest eigenvalue",
        yticks=range(len(eigenvalues)),
        yticklabels=list(eigenvalues),
    )
    bottom.set(ylim=(len(eigenvalues) - 0.4, -0.6))
    return figure


@figure_of
def eigenvalues(lines: Mapping[str, np.ndarray], floor: float = 1e-8) -> Figure:
    """Eigenvalues over the largest, in falling order, against the share of all n; a line ends
    where they fall below ``floor``.
    """
    figure, axis = plt.subplots(figsize=(7.6, 3.8), layout="constrained")
    for number, (name, values) in enumerate(lines.items()):
        ordered = np.sort(values)[::-1] / np.max(values)
        kept, share = ordered[ordered >= floor], np.arange(1, len(ordered) + 1) / len(ordered)
        axis.plot(
            share[: len(kept)],
            kept,
            label=name,
            marker="o",
            markersize=4,
            markevery=[len(kept) - 1],
            **numbered(number),
        )
    axis.set(
        xlabel="share of the n dimensions of the image",
        ylabel="eigenvalue / largest",
        yscale="log",
        xlim=(0, 1.02),
    )
    legend(figure, axis)
    return figure
