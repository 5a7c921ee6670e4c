"""Lines: quantities over iterations, training steps or a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from .style import COLOURS, ROLES, draw, figure_of, legend, numbered


@figure_of
def curves(
    metrics: Mapping[str, Mapping],
    quantity: str = "psnr",
    label: str = "PSNR (dB)",
    log: bool = False,
) -> Figure:
    """One recorded quantity over iterations for baseline, student and teacher."""
    figure, axis = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    for role in ROLES:
        values = metrics[role]["curve"][quantity]
        axis.plot(
            range(len(values)), values, marker="o", markersize=3, color=COLOURS[role], label=role
        )
    axis.set(xlabel="iteration k", ylabel=label, yscale="log" if log else "linear")
    axis.legend(frameon=False)
    return figure


@figure_of
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
    figure, axis = plt.subplots(figsize=(7.6, 3.8), layout="constrained")
    draw(axis, lines, order)
    axis.set(xlabel=xlabel, ylabel=label, yscale="log" if log else "linear")
    legend(figure, axis)
    return figure


@figure_of
def iterations(
    curves: Mapping[str, Mapping[str, Sequence[float]]], order: Sequence[str] = ()
) -> Figure:
    """PSNR (left) and residual (right, logarithmic) of each iteration, a line per recorded
    curve; ``order`` as in compare.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    draw(left, {name: curve["psnr"] for name, curve in curves.items()}, order)
    draw(right, {name: curve["residual"] for name, curve in curves.items()}, order)
    left.set(xlabel="iteration k", ylabel="PSNR (dB)")
    right.set(xlabel="iteration k", ylabel="residual", yscale="log")
    legend(figure, left)
    return figure


@figure_of
def beside(
    frames: Mapping[str, Mapping[str, Sequence[float]]],
    label: str = "PSNR (dB)",
    log: bool = False,
    *,
    xlabel: str = "iteration k",
) -> Figure:
    """Named curves over iterations in named frames side by side, on one vertical scale; a name
    looks the same in every frame.
    """
    names = dict.fromkeys(name for lines in frames.values() for name in lines)
    size = (4.1 * len(frames) + 1.4, 3.6)
    figure, axes = plt.subplots(
        1, len(frames), figsize=size, layout="constrained", sharey=True, squeeze=False
    )
    for axis, (title, lines) in zip(axes[0], frames.items(), strict=True):
        draw(axis, {name: lines.get(name, ()) for name in names})
        axis.set(title=title, xlabel=xlabel, yscale="log" if log else "linear")
    axes[0, 0].set_ylabel(label)
    legend(figure, axes[0, 0])
    return figure


@figure_of
def long_runs(curves: Mapping[str, Mapping[str, Sequence[float]]], trained: int) -> Figure:
    """PSNR and data fidelity of each iteration from the first on, over logarithmic k; a line
    marks the ``trained`` K.
    """
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), layout="constrained")
    for axis, quantity, label in zip(
        axes, ("psnr", "fidelity"), ("PSNR (dB)", "data fidelity $g$"), strict=True
    ):
        draw(axis, {name: curve[quantity] for name, curve in curves.items()})
        axis.set(xlabel="iteration k", ylabel=label, xscale="log", xlim=(1, None))
        axis.axvline(trained, color=COLOURS["truth"], linewidth=0.8, linestyle=":")
    axes[1].set_yscale("log")
    legend(figure, axes[0])
    return figure


@figure_of
def against(
    x: Sequence[float], lines: Mapping[str, Sequence[float]], xlabel: str, ylabel: str
) -> Figure:
    """Named lines over the positive numbers ``x``, both axes logarithmic."""
    figure, axis = plt.subplots(figsize=(7.6, 3.4), layout="constrained")
    for number, (name, values) in enumerate(lines.items()):
        axis.loglog(x, values, label=name, marker="o", markersize=4, **numbered(number))
    axis.set(xlabel=xlabel, ylabel=ylabel)
    legend(figure, axis)
    return figure


@figure_of
def against_seconds(
    runs: Mapping[str, Sequence[tuple[float, float]]], target: float | None = None
) -> Figure:
    """PSNR over seconds, logarithmic, of named runs as (seconds, PSNR) pairs; a dotted line is the
    ``target``.
    """
    figure, axis = plt.subplots(figsize=(7.6, 3.8), layout="constrained")
    for number, (name, points) in enumerate(runs.items()):
        seconds, psnr = zip(*((at, value) for at, value in points if at > 0), strict=True)
        axis.semilogx(seconds, psnr, label=name, marker="o", markersize=3, **numbered(number))
    if target is not None:
        axis.axhline(target, color=COLOURS["truth"], linewidth=0.8, linestyle=":")
    axis.set(xlabel="seconds", ylabel="PSNR (dB)")
    legend(figure, axis)
    return figure


@figure_of
def training(history: Sequence[Mapping[str, float]]) -> Figure:
    """Loss and batch PSNR over training steps."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.0), layout="constrained")
    steps = [record["step"] for record in history]
    left.plot(steps, [record["loss"] for record in history], color=COLOURS["student"])
    left.set(xlabel="training step", ylabel="loss", yscale="log")
    right.plot(steps, [record["psnr"] for record in history], color=COLOURS["student"])
    right.set(xlabel="training step", ylabel="PSNR of the batch (dB)")
    return figure


@figure_of
def denoiser_training(points: Sequence[Sequence[float]]) -> Figure:
    """Running training PSNR of the packaged denoiser over steps, from (step, PSNR) pairs."""
    figure, axis = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
    axis.plot([step for step, _ in points], [psnr for _, psnr in points], color=COLOURS["student"])
    axis.set(xlabel="training step", ylabel="training PSNR (dB)")
    return figure
