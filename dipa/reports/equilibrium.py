"""Tables of learning at equilibrium, from the output of ``benchmarks/equilibrium.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .markdown import table

TAILS = (1, 2, 4, 8, 16, 32, 64)  # lengths that are recorded


def bias_table(output: Mapping[str, Any]) -> str:
    """The relative error of the gradient of each tail, by the contraction q of the operator; in
    brackets its bound.
    """
    tails = list(next(iter(output["bias"].values()))["errors"])
    rows = [
        (
            f"{found['q']:.3f}",
            *(f"{found['errors'][tail]:.1e} ({found['bounds'][tail]:.1e})" for tail in tails),
        )
        for found in output["bias"].values()
    ]
    return table(("q", *(f"tail {tail}" for tail in tails)), rows)


def bounded(output: Mapping[str, Any]) -> bool:
    """Whether every error is within its bound, and that of the longest tail smaller than
    that of the shortest.
    """
    tails = list(next(iter(output["bias"].values()))["errors"])
    return all(
        all(found["errors"][tail] <= found["bounds"][tail] for tail in tails)
        and found["errors"][tails[-1]] < found["errors"][tails[0]]
        for found in output["bias"].values()
    )


def ways_table(output: Mapping[str, Any]) -> str:
    """What each way of training reaches after some and after many iterations, what it took, and
    how many applications of T a training step needed to find its equilibrium.
    """
    ends = list(next(iter(output["ways"].values()))["psnr"])
    rows = [
        (
            name,
            *(f"{way['psnr'][k]:.2f}" for k in ends),
            f"{way['seconds']:.0f}" if way["seconds"] else "-",
            f"{way['iterations']:.0f}" if "iterations" in way else "-",
        )
        for name, way in output["ways"].items()
    ]
    return table(("training", *(f"K = {k} (dB)" for k in ends), "seconds", "applications"), rows)


def in_words(output: Mapping[str, Any]) -> str:
    """How far the trainings at equilibrium are apart after the most iterations, and the unrolled
    one from the exact gradient; what that costs over one application, and what a restart saves.
    """
    ways = output["ways"]
    exact, one, cold = (
        ways[name] for name in ("exact, restart", "tail 1, restart", "tail 1, from the start")
    )
    k = list(exact["psnr"])[-1]
    psnr = {name: way["psnr"][k] for name, way in ways.items() if "iterations" in way}
    (unrolled,) = (way["psnr"][k] for name, way in ways.items() if name.startswith("unrolled"))
    apart, times = max(psnr.values()) - min(psnr.values()), exact["seconds"] / one["seconds"]
    return (
        f"After {k} iterations the trainings at equilibrium are within {apart:.2f} dB of one "
        f"another; unrolling ends {unrolled - exact['psnr'][k]:+.2f} dB from the exact gradient, "
        f"which takes {times:.0f} times as long as one application. Without restarts that takes "
        f"{cold['iterations'] / one['iterations']:.1f} times as many applications of T."
    )
