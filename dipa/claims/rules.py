"""How a claim is judged: one function a kind of rule, from recorded runs and printed numbers."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..experiments import Config
from ..experiments.results import Run
from ..reports.paper import paper_config, published_value
from ..reports.runs import tested

TOLERANCE = 0.5  # dB between our difference and the paper's
SCALE = 0.1  # share of the paper's image-steps below which a claim is not refuted
NOTHING = 0.05  # dB: a difference below it has no sign
REPRODUCED, TREND, FAILED = "reproduced", "same trend", "not reproduced"
UNTESTED, TOO_SMALL, UNSTATED = "not tested", "not tested at this scale", "not stated"
Groups = Mapping[str, Sequence[Run]]


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper: its name, source, statement in our words, and the rule it is
    judged by.
    """

    name: str
    source: str
    statement: str
    rule: dict[str, Any]

    @property
    def presets(self) -> list[str]:
        """The presets whose runs decide."""
        return [value for part, value in self.rule.items() if part in ("better", "than", "preset")]


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a claim.

    Attributes:
        claim: what was judged.
        verdict: ``reproduced``, ``same trend``, ``not reproduced``, ``not tested at this scale``
            (it would be ``not reproduced``, after less than SCALE = 0.1 of the paper's
            image-steps), ``not tested`` (a run is not recorded) or ``not stated`` (the paper prints
            no such number).
        paper: the paper's number; None where it prints none.
        ours: the same of the runs; None where one is not recorded.
        seeds: of the preset with the fewest.
        budget: image-steps of training over the paper's, of the preset with the smallest share;
            None where nothing is trained.
        runs: names of the run folders that decided.
    """

    claim: Claim
    verdict: str
    paper: float | None
    ours: float | None
    seeds: int
    budget: float | None
    runs: tuple[str, ...]

    def row(self) -> tuple[str, ...]:
        """The verdict as cells of a table."""
        numbers = ["" if value is None else f"{value:+.2f}" for value in (self.paper, self.ours)]
        budget = "" if self.budget is None else f"{self.budget:.2g}"
        return (
            self.claim.statement,
            self.claim.source,
            *numbers,
            f"{self.seeds}",
            budget,
            self.verdict,
        )

    def plain(self) -> dict[str, Any]:
        """The verdict as plain values."""
        outcome = {name: value for name, value in vars(self).items() if name != "claim"}
        return vars(self.claim) | outcome | {"runs": list(self.runs)}


def difference(claim: Claim, groups: Groups) -> Verdict:
    r"""By how many dB one preset is better than another, beside the same of the paper.

    ``reproduced`` where ours is within TOLERANCE = 0.5 dB of the paper's and of its sign, ``same
    trend`` where it has the sign alone; means over seeds, PSNR averaged over images.
    """
    presets = claim.presets
    better, than = (published_value(preset, "student", claim.source) for preset in presets)
    measured = [tested(groups.get(preset, ()), "student", "psnr") for preset in presets]
    paper = None if better is None or than is None else better - than
    ours = statistics.mean(measured[0]) - statistics.mean(measured[1]) if all(measured) else None
    return _verdict(claim, groups, _compared(paper, ours), paper, ours)


def _compared(paper: float | None, ours: float | None) -> str:
    if paper is None or ours is None:
        return UNSTATED if paper is None else UNTESTED
    if abs(ours) < NOTHING or (ours > 0) != (paper > 0):
        return FAILED
    return REPRODUCED if abs(ours - paper) <= TOLERANCE else TREND


def falsification(claim: Claim, groups: Groups) -> Verdict:
    """The share of a preset's runs that pass the falsification test: all is ``reproduced``, none
    ``not reproduced``.
    """
    (preset,) = claim.presets
    passed = [
        bool(run.metrics["student"]["falsification"]["passed"])
        for run in groups.get(preset, ())
        if "falsification" in run.metrics["student"]
    ]
    if not passed:
        return _verdict(claim, groups, UNTESTED, None, None)
    share = sum(passed) / len(passed)
    word = {1.0: REPRODUCED, 0.0: FAILED}.get(share, TREND)
    return _verdict(claim, groups, word, None, share)


RULES: dict[str, Callable[[Claim, Groups], Verdict]] = {
    "difference": difference,
    "falsification": falsification,
}


def _verdict(
    claim: Claim, groups: Groups, word: str, paper: float | None, ours: float | None
) -> Verdict:
    runs = [run for preset in claim.presets for run in groups.get(preset, ())]
    seeds = min(len(groups.get(preset, ())) for preset in claim.presets)
    shares = [share for run in runs if (share := _share(run.config)) is not None]
    budget, decided = min(shares, default=None), tuple(run.path.name for run in runs)
    if word == FAILED and budget is not None and budget < SCALE:
        word = TOO_SMALL
    return Verdict(claim, word, paper, ours, seeds, budget, decided)


def _share(config: Config) -> float | None:
    """Image-steps of a training over those of the papers; None where nothing is trained."""
    if not config.trained:
        return None
    return config.image_steps / paper_config(config.preset).image_steps
