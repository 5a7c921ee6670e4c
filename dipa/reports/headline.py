"""What the recorded runs say in one table, one picture and a few sentences: for the README and the
first page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..experiments.results import Run
from .cost import Output
from .markdown import table
from .operators import comparisons, learned_first
from .paper import published_value
from .runs import reconstructions, run_of


@dataclass(frozen=True)
class Story:
    """The presets that tell of one task: those that have learned nothing (the papers' baseline
    first), the closed form, the network behind it, and the row of D2GP it stands beside.
    """

    name: str
    unlearned: tuple[str, ...]
    closed_form: str
    network: str
    published: str

    def psnr(self, runs: Iterable[Run], preset: str, metric: str = "psnr") -> float:
        """Of the student on the test images, in dB."""
        return run_of(runs, preset).metrics["student"][metric]

    def best(self, runs: list[Run]) -> str:
        """The best of those that have learned nothing."""
        return max(self.unlearned, key=lambda preset: self.psnr(runs, preset))


STORIES = {
    "single_pixel": Story(
        "single-pixel camera",
        ("baseline", "baseline-adjoint", "hessian", "polynomial"),
        "ridge-full",
        "n-dipa-composed",
        "n-dipa",
    ),
    "mri": Story(
        "single-coil MRI",
        ("mri-baseline", "mri-hessian", "mri-polynomial"),
        "mri-ridge-varied",
        "mri-n-dipa-composed",
        "mri-n-dipa",
    ),
    "super_resolution": Story(
        "super-resolution",
        ("sr-baseline", "sr-baseline-interpolated", "sr-hessian", "sr-polynomial"),
        "sr-ridge-varied",
        "sr-n-dipa-composed",
        "sr-n-dipa",
    ),
}
HEAD = (
    "PSNR (dB)",
    "papers' baseline",
    "best without learning",
    "closed form",
    "network behind it",
    "the same, as D2GP counts",
    "N-DIPA in D2GP",
)
COLUMNS = ("truth", *HEAD[1:5], "teacher")
Runs = Mapping[str, list[Run]]


def at_a_glance(runs: Runs) -> str:
    """A row for each task: mean PSNR over the test images, but for the last two columns, which are
    from the mean squared error of a batch.
    """
    return table(HEAD, [_row(story, runs[task]) for task, story in STORIES.items()])


def _row(story: Story, runs: list[Run]) -> tuple[str, ...]:
    values = (
        story.psnr(runs, story.unlearned[0]),
        story.psnr(runs, story.best(runs)),
        story.psnr(runs, story.closed_form),
        story.psnr(runs, story.network),
        story.psnr(runs, story.network, "psnr_batch_mse"),
    )
    printed = published_value(story.published, "student", "D2GP Table I")
    printed_text = "" if printed is None else f"{printed:.2f}"
    return (story.name, *(f"{value:.2f}" for value in values), printed_text)


def findings(runs: Runs, benchmarks: Mapping[str, Output]) -> list[str]:
    """What the book found, a sentence each, with its numbers."""
    return [
        _where_the_gain_is(runs),
        _the_modulus(runs["mri"]),
        _the_teacher(runs["single_pixel"]),
        _other_images(benchmarks["other_images"]),
        _other_operators(benchmarks["eight_operators"]),
    ]


def _where_the_gain_is(runs: Runs) -> str:
    parts = []
    for task, story in STORIES.items():
        presets = story.best(runs[task]), story.closed_form, story.network
        best, closed, network = (story.psnr(runs[task], preset) for preset in presets)
        parts.append(f"{closed - best:+.1f} and then {network - closed:+.1f} dB ({story.name})")
    text = ", ".join(parts)
    return (
        "A linear predictor in closed form, fitted to clean images without any training loop, and "
        f"a network behind it: {text}, on top of the best that has learned nothing."
    )


def _the_modulus(runs: list[Run]) -> str:
    story = STORIES["mri"]
    baseline, network = (
        story.psnr(runs, preset, "psnr_magnitude") for preset in (story.unlearned[0], story.network)
    )
    return (
        "The MRI slices are magnitudes, so that half of the unknowns are zeros, which is learned "
        f"too, and need not hold elsewhere. Of the modulus the baseline has {baseline:.1f} dB, the "
        f"network {network:.1f}."
    )


def _the_teacher(runs: list[Run]) -> str:
    psnr = [
        run_of(runs, preset).metrics["student"]["psnr"]
        for preset in ("n-dipa", "n-dipa-supervised")
    ]
    return (
        f"Trained at equal budget with a teacher and without, N-DIPA reaches {psnr[0]:.2f} and "
        f"{psnr[1]:.2f} dB on the camera (one seed): what the teacher itself adds is still open."
    )


def _other_images(output: Output) -> str:
    kinds = output["kinds"].values()
    worst = min(kind["as it knows"] - kind["plain"] for kind in kinds)
    unguarded = min(kind["always"] - kind["plain"] for kind in kinds)
    return (
        "What is learned from one kind of images harms another: up to "
        f"{-unguarded:.1f} dB below the plain solver on {len(kinds)} kinds tried. Asked whether "
        f"the measurements are like those it knows, the preconditioner steps aside, and the worst "
        f"is {-worst:.1f} dB."
    )


def _other_operators(output: Output) -> str:
    found = comparisons(output)
    return (
        f"On {learned_first(found)} of {len(found)} other operators (blur, tomography, MRI, "
        "compressed sensing and more) a preconditioner learned from images is the first to come "
        "within 0.1 dB of the best of all methods; on the others the tool says: do not train."
    )


def examples(runs: Runs) -> dict[str, dict[str, np.ndarray]]:
    """One test image of each task by each method, planes (H, W): the one whose gain is the median
    of those that are kept.
    """
    return {story.name: _example(story, runs[task]) for task, story in STORIES.items()}


def _example(story: Story, runs: list[Run]) -> dict[str, np.ndarray]:
    presets = [story.closed_form, story.network]
    presets = [*dict.fromkeys([story.unlearned[0], story.best(runs)]), *presets]
    count = min(len(run_of(runs, preset).examples["truth"]) for preset in presets)
    seen = [reconstructions(runs, presets, index) for index in range(count)]
    gains = [_error(planes, presets[0]) - _error(planes, presets[-1]) for planes in seen]
    planes = seen[int(np.argsort(gains)[count // 2])]
    shown = (story.unlearned[0], story.best(runs), story.closed_form, story.network)
    return dict(zip(COLUMNS, (planes[name] for name in ("truth", *shown, "teacher")), strict=True))


def _error(planes: Mapping[str, np.ndarray], preset: str) -> float:
    """In dB."""
    return float(10 * np.log10(np.mean((planes[preset] - planes["truth"]) ** 2)))
