"""What this project set itself to reach, beside what was measured: how fast a training is, and how
good.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..experiments.results import Run
from .cost import Output
from .markdown import table
from .runs import by_preset, tested


@dataclass(frozen=True)
class Target:
    """A bound this project set itself: ``key`` of the benchmark ``name`` at most, or at least,
    ``bound``.
    """

    text: str
    name: str
    key: str
    bound: float
    most: bool = True

    def row(self, outputs: Mapping[str, Output]) -> tuple[str, str, str, str]:
        """Text, aim, measured, verdict; the last two empty where the benchmark has no output."""
        aim = f"{'at most' if self.most else 'at least'} {self.bound:g}"
        value = outputs.get(self.name, {}).get(self.key)
        if value is None:
            return self.text, aim, "", ""
        met = value <= self.bound if self.most else value >= self.bound
        return (
            self.text,
            aim,
            f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}",
            "met" if met else "**not met**",
        )


SPEED = (
    Target(
        "L-DIPA training step, times faster than the straightforward one",
        "training_l_dipa",
        "step_ratio",
        5,
        most=False,
    ),
    Target(
        "the same with the exact gradient", "training_l_dipa", "exact_step_ratio", 3.3, most=False
    ),
    Target(
        "PSNR it loses in a recorded training, against the exact gradient (dB)",
        "recorded",
        "psnr_lost",
        0.1,
    ),
    Target("N-DIPA training step, times faster", "training_n_dipa", "step_ratio", 5, most=False),
    Target(
        "peak memory beside plain automatic differentiation, 32 x 32, batch 16",
        "memory",
        "ratio_32",
        0.1,
    ),
    Target("time beside it, 32 x 32", "memory", "time_32", 1.35),
    Target("peak memory beside it, 128 x 128, batch 16 (extrapolated)", "memory", "ratio_128", 0.1),
    Target("time beside it, 128 x 128", "memory", "time_128", 1.35),
    Target(
        "peak memory of one more iteration, truncated (MiB; 16 images are 0.06)",
        "growth",
        "truncated",
        0.1,
    ),
    Target(
        "peak memory of one more iteration, Jacobian-free (MiB)", "growth", "jacobian_free", 0.1
    ),
    Target("N-DIPA step on one 512 x 512 image (MiB)", "memory_large", "n_dipa_512_mib", 6144),
    Target("L-DIPA step over K denoiser passes", "training_l_dipa", "floor_ratio", 1.05),
    Target("solve over K denoiser calls", "training_l_dipa", "solve_ratio", 1.03),
    Target("exponent of time over pixels, N-DIPA", "scaling", "time_n_dipa_side", 1.1),
)


QUALITY = (
    Target(
        "N-DIPA, single-pixel camera, at most the published number of parameters: batch MSE (dB)",
        "trained",
        "camera",
        34.55,
        most=False,
    ),
    Target(
        "the same, the small network that successive halving found",
        "trained",
        "camera_narrow",
        34.55,
        most=False,
    ),
    Target("L-DIPA, single-pixel camera: batch MSE (dB)", "trained", "l_dipa", 32.0, most=False),
    Target("N-DIPA, MRI: gain over the baseline, modulus (dB)", "trained", "mri", 3.62, most=False),
    Target(
        "N-DIPA, super-resolution: batch MSE (dB)", "trained", "super_resolution", 26.0, most=False
    ),
    Target(
        "image-steps through the whole solve of that N-DIPA of the camera",
        "trained",
        "whole_solve",
        100,
    ),
    Target(
        "N-DIPA, times sooner at the last gain that the straightforward loop reaches",
        "trained",
        "times_sooner",
        5,
        most=False,
    ),
    Target(
        "most that images of any other kind lose against the plain solver (dB)",
        "trained",
        "lost_elsewhere",
        0.3,
    ),
    Target("lost at 2 K or 4 K against K iterations (dB)", "trained", "lost_later", 0.3),
)


def targets_table(outputs: Mapping[str, Output], targets: Sequence[Target]) -> str:
    """Every target beside what was measured."""
    return table(("quantity", "aim", "measured", ""), [target.row(outputs) for target in targets])


def trained(runs: Iterable[Run], outputs: Mapping[str, Output]) -> dict[str, float]:
    """What :data:`QUALITY` asks for, from recorded runs of all tasks and the outputs of
    benchmarks/; what is not recorded is not there.
    """
    groups = by_preset(runs)
    quality = {
        "camera": ("n-dipa-decayed", "psnr_batch_mse"),
        "camera_narrow": ("n-dipa-decayed-narrow", "psnr_batch_mse"),
        "super_resolution": ("sr-n-dipa-composed", "psnr_batch_mse"),
    }
    found = {
        key: statistics.mean(tested(groups[preset], "student", metric))
        for key, (preset, metric) in quality.items()
        if preset in groups
    }
    linear = [
        statistics.mean(tested(group, "student", "psnr_batch_mse"))
        for name, group in groups.items()
        if name.startswith("l-dipa-")
    ]
    return found | ({"l_dipa": max(linear)} if linear else {}) | _others(groups, outputs)


def _others(groups: Mapping[str, list[Run]], outputs: Mapping[str, Output]) -> dict[str, float]:
    found = {}
    if "mri-n-dipa-composed" in groups and "mri-baseline" in groups:
        learned, plain = (
            statistics.mean(tested(groups[name], "student", "psnr_magnitude"))
            for name in ("mri-n-dipa-composed", "mri-baseline")
        )
        found["mri"] = learned - plain
    if "n-dipa-decayed" in groups:
        found["whole_solve"] = float(whole_solves(groups["n-dipa-decayed"][0]))
    if "quality_n_dipa" in outputs:
        found["times_sooner"] = times_sooner(outputs["quality_n_dipa"])
    if "other_images" in outputs:
        measured = outputs["other_images"]
        first, *later = measured["long"].values()
        found["lost_elsewhere"] = max(0.0, -measured["worst"])
        found["lost_later"] = max(0.0, first - min(later))
    return found


def whole_solves(run: Run) -> int:
    """Images that a training step saw at the end of more than one iteration."""
    config = run.config
    return sum(
        phase.budget.steps * phase.budget.batch_size
        for phase in config.plan
        if phase.length(config.solver.iterations) > 1
    )


def times_sooner(output: Output) -> float:
    """Seconds of the straightforward training to its best test over those of this package's to the
    same PSNR; 0 where that is not reached.
    """
    slow, ours = output["courses"]["straightforward"], output["courses"]["ours"]
    best = max(slow, key=lambda point: point[2])
    reached = [seconds for _, seconds, psnr in ours if psnr >= best[2]]
    return best[1] / max(reached[0], 1) if reached else 0.0
