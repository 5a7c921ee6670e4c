"""Step lengths from networks: recorded tests (``benchmarks/learned_steps.py``) beside the numbers
of the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..files import read_yaml
from .markdown import table

# iteration that a table compares, and the method's name in words
ROWS = {
    "FISTA": (100, "FISTA, 100 iterations"),
    "direct": (0, "U-Net that gives the image at once"),
    "step": (20, "learned step, 20 iterations"),
    "diagonal": (20, "learned diagonal, 20 iterations"),
    "fitted step": (20, "fitted step, 20 iterations"),
    "fitted diagonal": (20, "fitted diagonal, 20 iterations"),
}
Curve = Mapping[str, Sequence[float]]


@cache
def _published() -> Mapping[str, Any]:
    return read_yaml(Path(__file__).parent / "step_values.yaml")


def errors_table(output: Mapping[str, Any]) -> str:
    """NMSE of every method on the tests whose numbers the source prints: ours, mean and sd over
    the images, and in brackets the source's, where it has them.
    """
    task = output["settings"]["task"]
    source, printed = next(
        (source, values) for source, values in _published().items() if values["task"] == task
    )
    tests = list(printed["FISTA"])
    rows = [
        (name, *(_cell(curves[test], k, printed.get(method, {}).get(test)) for test in tests))
        for method, k, name, curves in _methods(output)
    ]
    return table((f"NMSE (dB), ours ({source})", *tests), rows)


def _methods(output: Mapping[str, Any]) -> Iterator[tuple[str, int, str, Mapping[str, Curve]]]:
    """The recorded methods of the tables: key, iteration, name, and curve on every test."""
    for method, (k, name) in ROWS.items():
        curves = {test: found[method] for test, found in output["tests"].items() if method in found}
        if curves:
            yield method, k, name, curves


def _cell(curve: Curve, k: int, printed: Sequence[float] | None) -> str:
    ours = f"{curve['nmse'][k]:.2f} ± {curve['sd'][k]:.2f}"
    return ours if printed is None else f"{ours} ({printed[0]:.2f} ± {printed[1]:.2f})"


def others_table(output: Mapping[str, Any]) -> str:
    """NMSE on the tests of which the source prints no numbers, ours alone."""
    task = output["settings"]["task"]
    printed = [values["FISTA"] for values in _published().values() if values["task"] == task]
    tests = [name for name in output["tests"] if name not in (*printed, {})[0]]
    rows = [
        (name, *(f"{curves[test]['nmse'][k]:.2f}" for test in tests))
        for _, k, name, curves in _methods(output)
    ]
    return table(("NMSE (dB)", *tests), rows)


def effort_table(output: Mapping[str, Any], test: str) -> str:
    """Iterations, applications of the operator or its adjoint, and seconds of all test images
    together, until the NMSE of FISTA after 100 iterations is reached, and how long training took.
    """
    curves = output["tests"][test]
    target, training = curves["FISTA"]["nmse"][100], output["training"]
    rows = []
    shown = ("ISTA", "FISTA", "step", "diagonal", "fitted step", "fitted diagonal")
    for name in [name for name in shown if name in curves]:
        curve, minutes = curves[name], ""
        k = next((k for k, error in enumerate(curve["nmse"]) if error <= target), None)
        if name in training:
            minutes = f"{training[name]['seconds'] / 60:.0f}"
        cells = ("never", "", "") if k is None else _effort(curve, k)
        rows.append((name, f"{curve['nmse'][-1]:.2f}", *cells, minutes))
    head = ("end (dB)", "iterations", "operator calls", "seconds", "training (min)")
    return table((f"to {target:.2f} dB", *head), rows)


def _effort(curve: Curve, k: int) -> tuple[str, str, str]:
    return str(k), f"{curve['calls'][k]:.0f}", f"{curve['seconds'][k]:.2f}"


def asked(output: Mapping[str, Any], test: str, method: str) -> dict[int, float]:
    """For what share of the test images the network was still asked, by iteration."""
    shares = output["tests"][test][method]["proposed"]
    return {k: shares[k] for k in (1, 5, 10, 20) if k < len(shares)}
