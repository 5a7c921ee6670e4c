"""Tables of recorded step lengths beside the printed numbers, and what is recorded."""

import pytest
from fake_runs import parse

from dipa import experiments, reports
from dipa.reports import step_lengths


def curve(start: float, slope: float, length: int = 101) -> dict:
    """An error that falls on a line, two calls and a quarter of a second an iteration."""
    steps = range(length)
    return {
        "nmse": [start - slope * k for k in steps],
        "sd": [0.5] * length,
        "calls": [2 * k for k in steps],
        "seconds": [k / 4 for k in steps],
        "proposed": [1 - k / 100 for k in steps],
    }


def output(task: str = "inpainting") -> dict:
    lines = {"ISTA": curve(0, 0.05), "FISTA": curve(0, 0.1), "direct": curve(-7.0, 0, 1)}
    lines |= {"step": curve(0, 0.75, 41), "diagonal": curve(0, 0.125, 41)}
    tests = dict.fromkeys(("30 %", "50 %", "70 %", "50 %, noise", "twice lambda"), lines)
    training = {"step": {"seconds": 90.0}, "diagonal": {"seconds": 150.0}}
    return {"settings": {"task": task}, "tests": tests, "training": training}


def test_ours_stands_before_what_is_printed():
    head, rows = parse(step_lengths.errors_table(output()))
    assert head == ["NMSE (dB), ours (Table 1)", "30 %", "50 %", "70 %"]
    assert [row[2] for row in rows] == [
        "-10.00 ± 0.50 (-10.74 ± 2.29)",
        "-7.00 ± 0.50 (-19.40 ± 2.91)",
        "-15.00 ± 0.50 (-17.73 ± 3.01)",
        "-2.50 ± 0.50 (-17.50 ± 2.97)",
    ]
    head, rows = parse(step_lengths.errors_table(output("fourier")))
    assert head[0].endswith("(Tables 2 and 3)") and head[-1] == "50 %, noise"
    assert rows[3][4] == "-2.50 ± 0.50 (-23.18 ± 2.76)"


def test_what_was_fitted_has_nothing_printed_beside_it():
    found = output()
    fitted = {"fitted diagonal": curve(0, 0.5, 41)}
    found["tests"] = {name: lines | fitted for name, lines in found["tests"].items()}
    assert parse(step_lengths.errors_table(found))[1][-1][1:] == ["-10.00 ± 0.50"] * 3
    assert parse(step_lengths.others_table(found))[1][-1][1:] == ["-10.00"] * 2
    row = parse(step_lengths.effort_table(found, "50 %"))[1][-1]
    assert row == ["fitted diagonal", "-20.00", "20", "40", "5.00", ""]


def test_what_is_not_printed_is_ours_alone():
    head, rows = parse(step_lengths.others_table(output()))
    assert head[1:] == ["50 %, noise", "twice lambda"]
    assert [row[2] for row in rows] == ["-10.00", "-7.00", "-15.00", "-2.50"]
    assert parse(step_lengths.others_table(output("deblurring")))[0][1:] == [*output()["tests"]]


def test_the_effort_to_what_the_plain_method_reaches():
    _, rows = parse(step_lengths.effort_table(output(), "50 %"))
    assert rows == [
        ["ISTA", "-5.00", "never", "", "", ""],
        ["FISTA", "-10.00", "100", "200", "25.00", ""],
        ["step", "-30.00", "14", "28", "3.50", "2"],
        ["diagonal", "-5.00", "never", "", "", "2"],
    ]
    assert step_lengths.asked(output(), "50 %", "step") == pytest.approx(
        {1: 0.99, 5: 0.95, 10: 0.9, 20: 0.8}
    )


@pytest.mark.parametrize("task", ["inpainting", "fourier"])
def test_what_is_recorded_starts_and_ends_where_it_must(task):
    found = reports.cost.read(experiments.results_folder("benchmarks"))[f"learned_steps_{task}"]
    trained = found["tests"]["50 %"]
    for name in ("step", "diagonal"):
        assert trained[name]["nmse"][0] == pytest.approx(trained["FISTA"]["nmse"][0], abs=1e-3)
        assert len(trained[name]["nmse"]) == 41 and trained[name]["proposed"][0] == 1.0
        assert trained[name]["calls"] == sorted(trained[name]["calls"])
    assert parse(step_lengths.errors_table(found))[1]
