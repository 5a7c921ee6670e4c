"""Tables of the cost page, from benchmark outputs written by hand."""

import json

import pytest
from batteries import refuses
from fake_runs import fake_run, parse

from dipa.reports import cost
from dipa.reports.cost import Target

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


def test_a_target_is_met_or_not_or_not_measured():
    most, least = Target("a", "one", "x", 1.0), Target("b", "one", "y", 5, most=False)
    found = parse(
        cost.targets_table({"one": {"x": 1.0, "y": 4.9}}, [most, least, Target("c", "two", "x", 1)])
    )[1]
    large = Target("d", "one", "z", 6144).row({"one": {"z": 5692.4}})
    assert large == ("d", "at most 6144", "5692", "met")
    assert found == [
        ["a", "at most 1", "1", "met"],
        ["b", "at least 5", "4.9", "**not met**"],
        ["c", "at most 1", "", ""],
    ]


def test_every_target_is_of_a_known_benchmark():
    """Those whose output the page reads, and the recorded runs."""
    known = {
        "training_l_dipa",
        "training_n_dipa",
        "memory",
        "memory_large",
        "scaling",
        "recorded",
        "growth",
    }
    assert {target.name for target in cost.TARGETS} <= known
    assert len({(target.name, target.key) for target in cost.TARGETS}) == len(cost.TARGETS)


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
