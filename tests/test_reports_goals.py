"""What was aimed at beside what was measured, from runs and outputs written by hand."""

import pytest
from fake_runs import fake_run, parse

from dipa import experiments
from dipa.reports import goals
from dipa.reports.goals import Target

OTHERS = {"worst": -0.2, "long": {"20": 35.0, "40": 34.9, "80": 34.6}}
COURSES = {
    "straightforward": [[16, 10, 26.0], [32, 20, 28.0], [48, 30, 27.0]],
    "ours": [[0, 1, 27.9], [16, 4, 28.5], [32, 8, 30.0]],
}


def test_a_target_is_met_or_not_or_not_measured():
    most, least = Target("a", "one", "x", 1.0), Target("b", "one", "y", 5, most=False)
    found = parse(
        goals.targets_table(
            {"one": {"x": 1.0, "y": 4.9}}, [most, least, Target("c", "two", "x", 1)]
        )
    )[1]
    large = Target("d", "one", "z", 6144).row({"one": {"z": 5692.4}})
    assert large == ("d", "at most 6144", "5692", "met")
    assert found == [
        ["a", "at most 1", "1", "met"],
        ["b", "at least 5", "4.9", "**not met**"],
        ["c", "at most 1", "", ""],
    ]


def test_every_target_is_of_a_known_benchmark():
    """Those whose output the pages read, and the recorded runs."""
    known = {
        "training_l_dipa",
        "training_n_dipa",
        "memory",
        "memory_large",
        "scaling",
        "recorded",
        "growth",
        "trained",
    }
    targets = goals.SPEED + goals.QUALITY
    assert {target.name for target in targets} <= known
    assert len({(target.name, target.key) for target in targets}) == len(targets)


def test_what_trainings_reached_by_hand():
    """Means over seeds; batch MSE 1 dB below the mean, the modulus 3 dB below both channels."""
    runs = [
        fake_run("n-dipa-decayed", 36.0),
        fake_run("n-dipa-decayed", 37.0, seed=1),
        fake_run("n-dipa-decayed-narrow", 35.0),
        fake_run("l-dipa-supervised", 31.0),
        fake_run("l-dipa-imitation", 33.0),
        fake_run("mri-n-dipa-composed", 35.0, magnitude=True),
        fake_run("mri-baseline", 30.5, magnitude=True),
        fake_run("sr-n-dipa-composed", 28.0),
    ]
    outputs = {"other_images": OTHERS, "quality_n_dipa": {"courses": COURSES}}
    assert goals.trained(runs, outputs) == pytest.approx(
        {
            "camera": 35.5,
            "camera_narrow": 34.0,
            "l_dipa": 32.0,
            "mri": 4.5,
            "super_resolution": 27.0,
            "whole_solve": 0.0,
            "times_sooner": 5.0,
            "lost_elsewhere": 0.2,
            "lost_later": 0.4,
        }
    )
    assert goals.trained([], {}) == {}
    assert {target.key for target in goals.QUALITY} == set(goals.trained(runs, outputs))


def test_images_through_the_whole_solve_are_those_of_the_later_phases():
    """Profile small: 6,800 steps, of which a share of 0.04 goes through all iterations, 8 images
    a step.
    """
    run = fake_run("n-dipa-composed")
    run.config = experiments.resolve("n-dipa-composed", "small")
    assert goals.whole_solves(run) == 272 * 8


def test_how_much_sooner_counts_from_the_best_test_of_the_straightforward_loop():
    assert goals.times_sooner({"courses": COURSES}) == 20 / 4
    never = COURSES | {"ours": [[0, 1, 20.0]]}
    assert goals.times_sooner({"courses": never}) == 0
