"""Claims: the ledger is sound, and each verdict follows from runs and printed numbers."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from dipa import claims, cli, experiments
from dipa.claims.rules import RULES, Claim
from dipa.reports.paper import paper_config, published_value

TABLE = "D2GP Table I"
CLAIM = Claim("c", TABLE, "better", {"kind": "difference", "better": "n-dipa", "than": "baseline"})
STAYS = Claim("s", "a review", "stays", {"kind": "falsification", "preset": "n-dipa"})


def run(preset: str, psnr: float, profile: str = "paper", passed: bool | None = None):
    student = {"psnr": psnr} | ({} if passed is None else {"falsification": {"passed": passed}})
    return SimpleNamespace(
        config=experiments.resolve(preset, profile),
        metrics={"student": student},
        path=Path(f"{preset}-{psnr}"),
    )


def judged(claim: Claim, *runs):
    groups = {name: [r for r in runs if r.config.preset == name] for name in claim.presets}
    return RULES[claim.rule["kind"]](claim, groups)


def test_every_claim_compares_what_its_source_prints():
    differences = [claim for claim in claims.ledger() if claim.rule["kind"] == "difference"]
    assert len(differences) >= 10
    for claim in differences:
        assert len(claim.presets) == 2 and claim.statement.endswith(".")
        for preset in claim.presets:
            assert published_value(preset, "student", claim.source) is not None, claim.name


PRINTED = published_value("n-dipa", "student", TABLE) - published_value(
    "baseline", "student", TABLE
)


@pytest.mark.parametrize(
    ("ours", "profile", "verdict"),
    [
        (PRINTED, "paper", "reproduced"),
        (PRINTED + 0.49, "paper", "reproduced"),
        (PRINTED - 0.51, "paper", "same trend"),
        (0.06, "paper", "same trend"),
        (0.04, "paper", "not reproduced"),
        (-PRINTED, "paper", "not reproduced"),
        (-PRINTED, "smoke", "not tested at this scale"),
        (PRINTED, "smoke", "reproduced"),
    ],
)
def test_a_difference(ours, profile, verdict):
    found = judged(CLAIM, run("n-dipa", 20 + ours, profile), run("baseline", 20.0, profile))
    assert found.verdict == verdict and found.paper == pytest.approx(PRINTED)
    assert found.ours == pytest.approx(ours) and found.seeds == 1 and len(found.runs) == 2


def test_a_difference_of_means_over_seeds_with_the_budget_of_training():
    runs = [run("n-dipa", psnr, "smoke") for psnr in (30.0, 32.0)] + [run("baseline", 21.0)]
    found = judged(CLAIM, *runs)
    assert found.ours == pytest.approx(10) and found.seeds == 1
    small, paper = runs[0].config.training, paper_config("n-dipa").training
    steps = small.steps * small.batch_size, paper.steps * paper.batch_size
    assert found.budget == pytest.approx(steps[0] / steps[1])


def test_what_is_not_recorded_or_not_printed_is_no_verdict():
    assert judged(CLAIM, run("n-dipa", 30.0)).verdict == "not tested"
    assert judged(CLAIM).ours is None
    other = Claim("c", "DIPA Table 2", "better", CLAIM.rule)
    both = run("n-dipa", 30.0), run("baseline", 20.0)
    assert judged(other, *both).verdict == "not stated"


def test_falsification_asks_every_run():
    passing, failing = (run("n-dipa", 30.0, passed=passed) for passed in (True, False))
    assert judged(STAYS, passing, passing).verdict == "reproduced"
    assert judged(STAYS, passing, failing).verdict == "same trend"
    assert judged(STAYS, failing).verdict == "not reproduced"
    assert judged(STAYS, run("n-dipa", 30.0)).verdict == "not tested"


def test_the_command_prints_a_verdict_for_every_claim(capsys):
    assert cli.main(["claims", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [claim.name for claim in claims.ledger()]
    assert cli.main(["claims"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:24].strip() for line in lines] == [row["verdict"] for row in rows]


def test_the_command_judges_another_folder(tmp_path, capsys):
    assert cli.main(["claims", "--runs", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["verdict"] for row in rows} == {"not tested"}
    assert cli.main(["claims", "--runs", str(tmp_path / "nowhere")]) == 2
    assert "--runs" in capsys.readouterr().err


def test_the_table_has_a_row_for_every_verdict():
    verdicts = [judged(CLAIM, run("n-dipa", 30.0), run("baseline", 20.0))]
    head, _, row = claims.verdict_table(verdicts).splitlines()
    assert head.count("|") == row.count("|") == 8 and "+10.00" in row and "same trend" in row
