"""Tables of recorded comparisons, and that what is recorded holds together."""

from dataclasses import replace

import pytest

from dipa import experiments, reports
from dipa.comparison import Comparison, Row


def row(method: str, family: str, psnr: float, to_target: float | None, **more) -> Row:
    plain = Row(
        *(method, family, "", "none", 3, psnr, psnr, 2.5, 0.0, 0.0, 0),
        to_target=to_target,
        to_limit=None,
        curve=[(0.0, 10.0), (2.5, psnr)],
    )
    return replace(plain, **more)


def found(*rows: Row) -> Comparison:
    return Comparison("Blur", (1, 8, 8), {"to fit": 4}, rows, {})


FITTED = found(
    row("combined steps", "closed form", 30.0, 0.5, fit=7.2),
    row("1/L", "untrained", 28.0, None, prior="TV 0.01"),
    row("Hessian", "untrained", 27.0, None),
)
FREE = found(
    row("Hessian", "untrained", 30.0, 0.2), row("combined steps", "closed form", 29.0, None)
)


def test_a_row_is_the_first_beside_the_best_without_learning():
    text = reports.by_operator({"hole": FITTED, "blur": FREE}).splitlines()
    assert (
        text[2] == "| hole | **combined steps** | 0.50 | 7 | 30.00 | 1/L, TV 0.01 | 2.50 | 28.00 |"
    )
    assert text[3] == "| blur | Hessian | 0.20 |  | 30.00 | Hessian | 2.50 | 30.00 |"
    assert reports.learned_first({"hole": FITTED, "blur": FREE}) == 1
    assert len(reports.whole(FITTED, 2).splitlines()) == 4


def test_what_training_adds_stands_beside_the_best_of_each_family():
    trained = (
        row("N-DIPA", "trained", 30.5, 0.4, fit=132.0),
        row("L-DIPA", "trained", 25.0, None, fit=30.0),
    )
    both = found(*FITTED.rows, row("learned scalars", "closed form", 29.0, None), *trained)
    one = found(*FREE.rows, trained[0])
    text = reports.what_training_adds({"hole": both, "blur": one}).splitlines()
    assert text[0].count("|") == 8 and "L-DIPA (dB) | L-DIPA (min) | N-DIPA (dB)" in text[0]
    assert text[2] == "| hole | 28.00 | 30.00 | 25.00 | 0.5 | 30.50 | 2.2 |"
    assert text[3] == "| blur | 30.00 | 29.00 |  |  | 30.50 | 2.2 |"


def test_what_is_recorded_is_read_back():
    output = reports.cost.read(experiments.results_folder("benchmarks"))["eight_operators"]
    recorded = reports.comparisons(output)
    assert len(recorded) == 8
    for name, comparison in recorded.items():
        plain = output["operators"][name]
        assert comparison.advice == plain["advice"]
        assert comparison.target == pytest.approx(plain["target"])
        assert comparison.first.to_target is not None and comparison.counts["to test"] == 8
