"""What training costs: the outputs of the scripts of benchmarks/, read and put into tables for
the pages that quote them.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checks import InputError
from ..experiments.results import Run
from .markdown import commit_text, mean_sd, setting_text, table
from .runs import by_preset, first_seeds, tested

Output = Mapping[str, Any]


class Outputs(dict[str, Output]):
    """Outputs by name. One that is asked for and not there is named in one sentence
    (:class:`InputError`).
    """

    def __missing__(self, name: str) -> Output:
        """Refuse ``name``."""
        raise InputError(
            f"{name}: no such output is here; it comes with the repository, whose "
            f"benchmarks/ has the scripts"
        )


def read(folder: str | Path) -> Outputs:
    """Every benchmark output of a folder by the stem of its file.

    Raises:
        InputError: a damaged file, by name.
    """
    outputs = Outputs()
    for path in sorted(Path(folder).glob("*.json")):
        try:
            outputs[path.stem] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: damaged ({error}); run the benchmark again") from error
    return outputs


def measured_on(output: Output) -> str:
    """Machine, threads and commit of an output, as a sentence."""
    manifest = output["manifest"]
    machine = (
        f"{manifest['device']}, {manifest['threads']} threads, torch "
        f"{manifest['versions']['torch']}"
    )
    return f"Measured on {machine}, commit {commit_text(manifest, 'unknown')}."


def psnr_lost(runs: Iterable[Run], exact: str, fast: str) -> Output:
    """What recorded runs add to the outputs: the PSNR that ``fast`` loses against ``exact``,
    first seeds; empty without both.
    """
    first = first_seeds(runs, [exact, fast])
    if len(first) < 2:
        return {}
    exact_psnr, fast_psnr = (first[preset].metrics["student"]["psnr"] for preset in (exact, fast))
    return {"psnr_lost": exact_psnr - fast_psnr}


def growth(output: Output) -> Output:
    """MiB that one more iteration adds to the peak of each way: the slope of the least-squares
    line through the peaks.
    """
    slopes = {}
    for way, peaks in output["growth"].items():
        iterations = [float(k) for k in peaks]
        slopes[way] = statistics.linear_regression(iterations, list(peaks.values())).slope
    return slopes


def ways_table(output: Output, runs: Iterable[Run], presets: Mapping[str, str]) -> str:
    """One row per way to differentiate: cosine, time and memory measured, PSNR of the recorded
    run ``presets`` names.
    """
    groups = by_preset(runs)
    trained = output.get("cosine_trained", {})
    head = ("way", "cosine at the start", "cosine after training", "time", "memory", "PSNR (dB)")
    rows = []
    for way, cosine in output["cosine_start"]["bf16"].items():
        recorded = groups.get(presets.get(way, ""), [])
        later = f"{trained[way]:.4f}" if way in trained else ""
        measured = (f"{output['time'][way]:.2f}", f"{output['memory'][way]:.3f}")
        rows.append(
            (
                f"`{way}`",
                f"{cosine:.4f}",
                later,
                *measured,
                mean_sd(tested(recorded, "student", "psnr")),
            )
        )
    return table(head, rows)


def fitted_table(runs: Mapping[str, Sequence[Run]]) -> str:
    """Recorded steps in closed form, presets ``...-fitted``, beside the same ones trained: mean
    PSNR and minutes of each, for those of which both are there.
    """
    pairs = [(name.removesuffix("-fitted"), name) for name in runs if name.endswith("-fitted")]
    rows = [
        (
            f"`{name}`",
            f"{runs[name][0].metrics['baseline']['psnr']:.2f}",
            *_quality_and_minutes(runs[name][0]),
            *_quality_and_minutes(runs[fitted][0]),
        )
        for name, fitted in pairs
        if name in runs
    ]
    head = ("baseline (dB)", "trained (dB)", "minutes", "fitted (dB)", "minutes")
    return table(("preset", *head), rows)


def _quality_and_minutes(run: Run) -> tuple[str, str]:
    minutes = run.manifest["training_seconds"] / 60
    return f"{run.metrics['student']['psnr']:.2f}", f"{minutes:.0f}"


def seconds_table(output: Output, names: Mapping[str, str]) -> str:
    """Raw interleaved times: median, least and most seconds of each piece of work."""
    rows = []
    for key, text in names.items():
        times = output["seconds"][key]
        rows.append(
            (
                text,
                f"{statistics.median(times):.3f}",
                f"{min(times):.3f}",
                f"{max(times):.3f}",
                str(len(times)),
            )
        )
    return table(("work", "median s", "least", "most", "repetitions"), rows)


def scaling_table(output: Output, names: Mapping[str, str]) -> str:
    """The fitted exponents of time and memory of each series, with the sizes they were fitted
    on.
    """
    rows = []
    for key, text in names.items():
        sizes = ", ".join(str(point["size"]) for point in output["series"][key])
        rows.append((text, sizes, f"{output[f'time_{key}']:.2f}", f"{output[f'memory_{key}']:.2f}"))
    return table(("what grows", "sizes", "exponent of time", "exponent of memory"), rows)


def reached_table(output: Output, names: Mapping[str, str]) -> str:
    """Image-steps and seconds until each gain, for every course; empty where it was not reached."""
    gains = next(iter(output["reached"].values()))
    head = (
        "gain (dB)",
        *(f"{text}: {unit}" for text in names.values() for unit in ("image-steps", "seconds")),
    )
    rows = []
    for gain in gains:
        cells = [output["reached"][key][gain] or ("", "") for key in names]
        rows.append((gain, *(setting_text(value) for cell in cells for value in cell)))
    return table(head, rows)


def trials_table(output: Output) -> str:
    """The recipes of a successive halving: parameters, and steps and PSNR of each round that they
    came to; the one that was left is the first.
    """
    recipes: dict[str, list[Mapping[str, Any]]] = {}
    for trial in output["trials"]:
        recipes.setdefault(trial["name"], []).append(trial)
    order = sorted(recipes.values(), key=lambda found: (-len(found), -found[-1]["psnr"]))
    rounds = max(len(found) for found in order)
    rows = [
        (
            found[0]["name"],
            f"{found[0]['parameters']:,}",
            *(f"{trial['psnr']:.2f} ({trial['steps']:,})" for trial in found),
            *[""] * (rounds - len(found)),
        )
        for found in order
    ]
    head = (f"round {number + 1}: dB (steps)" for number in range(rounds))
    return table(("recipe", "parameters", *head), rows)
