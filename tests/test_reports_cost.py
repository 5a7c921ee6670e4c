"""Tables of the cost page, from benchmark outputs written by hand."""

import json

import pytest
from batteries import refuses
from fake_runs import fake_run, parse

from dipa.reports import cost

MADE = {
    "device": "a machine",
    "threads": 2,
    "commit": "0123456789abcdef",
    "dirty": False,
    "versions": {"torch": "2.9"},
}


def test_outputs_are_read_by_name_and_a_damaged_one_is_named(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"x": 1}))
    assert cost.read(tmp_path) == {"a": {"x": 1}}
    (tmp_path / "b.json").write_text('{"x": ')
    refuses(lambda: cost.read(tmp_path), "b.json", "damaged")


def test_raw_times_by_hand():
    table = cost.seconds_table({"seconds": {"a": [3.0, 1.0, 2.0], "b": [9.0]}}, {"a": "work"})
    assert parse(table)[1] == [["work", "2.000", "1.000", "3.000", "3"]]


def test_ways_beside_recorded_runs():
    output = {
        "cosine_start": {"bf16": {"unrolled": 1.0, "truncated(5)": 0.5}},
        "cosine_trained": {"truncated(5)": 0.25},
        "time": {"unrolled": 1.0, "truncated(5)": 0.6},
        "memory": {"unrolled": 1.0, "truncated(5)": 0.02},
    }
    found = parse(
        cost.ways_table(
            output, [fake_run("l-dipa-truncated-5", 31.25)], {"truncated(5)": "l-dipa-truncated-5"}
        )
    )[1]
    assert found[0] == ["`unrolled`", "1.0000", "", "1.00", "1.000", ""]
    assert found[1] == ["`truncated(5)`", "0.5000", "0.2500", "0.60", "0.020", "31.25"]


def test_growth_is_a_slope():
    peaks = {"a": {"20": 10.0, "40": 50.0, "80": 130.0}, "b": {"20": 3.0, "40": 3.0, "80": 3.0}}
    assert cost.growth({"growth": peaks}) == {"a": pytest.approx(2), "b": pytest.approx(0)}


def test_what_recorded_runs_lose():
    runs = [fake_run("l-dipa-supervised", 31.5), fake_run("l-dipa-truncated-5", 31.25)]
    assert cost.psnr_lost(runs, "l-dipa-supervised", "l-dipa-truncated-5") == {"psnr_lost": 0.25}
    assert cost.psnr_lost(runs, "l-dipa-supervised", "l-dipa-restart-5") == {}


def test_exponents_and_gains():
    scaling = {"series": {"s": [{"size": 32}, {"size": 64}]}, "time_s": 1.02, "memory_s": 0.5}
    assert parse(cost.scaling_table(scaling, {"s": "side"}))[1] == [
        ["side", "32, 64", "1.02", "0.50"]
    ]
    quality = {"reached": {"a": {"2.0": [32, 5], "9.9": None}, "b": {"2.0": None, "9.9": None}}}
    assert parse(cost.reached_table(quality, {"a": "A", "b": "B"}))[1] == [
        ["2.0", "32", "5", "", ""],
        ["9.9", "", "", "", ""],
    ]


@pytest.mark.parametrize(
    ("dirty", "words"), [(False, "commit 0123456789."), (True, "commit 0123456789 (modified).")]
)
def test_where_it_was_measured(dirty, words):
    assert cost.measured_on({"manifest": MADE | {"dirty": dirty}}).endswith(words)


def test_fits_stand_beside_the_same_steps_trained():
    """Those of which both are there, each with its own minutes."""
    runs = {name: [fake_run(name, psnr)] for name, psnr in (("scalar", 26.0), ("pointwise", 9.0))}
    runs |= {"scalar-fitted": [fake_run("scalar-fitted", 25.0)]}
    runs |= {"convolutional-fitted": [fake_run("convolutional-fitted", 1.0)]}
    runs["scalar"][0].manifest["training_seconds"] = 600.0
    runs["scalar-fitted"][0].manifest["training_seconds"] = 120.0
    plain = f"{runs['scalar'][0].metrics['baseline']['psnr']:.2f}"
    head, rows = parse(cost.fitted_table(runs))
    assert rows == [["`scalar`", plain, "26.00", "10", "25.00", "2"]] and len(head) == 6


def test_trials_of_a_halving_are_rounds_side_by_side():
    def trial(name, number, psnr, steps):
        return {"name": name, "round": number, "psnr": psnr, "steps": steps, "parameters": 1200}

    trials = [trial("a", 1, 30.0, 10), trial("b", 1, 29.0, 1000), trial("c", 1, 28.0, 10)]
    trials += [trial("b", 2, 31.0, 2000)]
    head, rows = parse(cost.trials_table({"trials": trials}))
    assert head[2:] == ["round 1: dB (steps)", "round 2: dB (steps)"]
    assert rows == [
        ["b", "1,200", "29.00 (1,000)", "31.00 (2,000)"],
        ["a", "1,200", "30.00 (10)", ""],
        ["c", "1,200", "28.00 (10)", ""],
    ]
