"""What the papers claim, judged from recorded runs: a ledger (``ledger.yaml``), rules, verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ..checks import require, require_choice
from ..experiments import names
from ..experiments.results import Run
from ..files import read_yaml
from ..reports.markdown import table
from ..reports.runs import by_preset
from .rules import RULES, Claim, Verdict

__all__ = ["Claim", "Verdict", "judge", "ledger", "verdict_table"]


@cache
def ledger() -> tuple[Claim, ...]:
    """Every claim, in the order of the file.

    Raises:
        InputError: an entry without a known rule and known presets, or a name that is there twice.
    """
    claims = tuple(Claim(**entry) for entry in read_yaml(Path(__file__).parent / "ledger.yaml"))
    for claim in claims:
        require_choice(f"{claim.name}: rule", claim.rule.get("kind"), RULES)
        for preset in claim.presets:
            require_choice(f"{claim.name}: preset", preset, names())
    listed = [claim.name for claim in claims]
    require(len(set(listed)) == len(listed), "ledger", listed, "a name of its own for every claim")
    return claims


def judge(runs: Iterable[Run]) -> list[Verdict]:
    """The verdict on every claim of the ledger, from these runs and the papers' numbers alone."""
    groups = by_preset(runs)
    return [RULES[claim.rule["kind"]](claim, groups) for claim in ledger()]


def verdict_table(verdicts: Iterable[Verdict]) -> str:
    """One row a claim: statement, source, paper, ours, seeds, budget of ours over the paper's,
    verdict.
    """
    head = ("claim", "source", "paper", "ours", "seeds", "budget", "verdict")
    return table(head, [verdict.row() for verdict in verdicts])
