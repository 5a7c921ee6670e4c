"""The papers' numbers as kept, and their tables read against each other."""

import math
from collections import Counter

import pytest
from fake_runs import parse

from dipa import InputError, experiments, reports
from dipa.reports import paper
from dipa.reports.paper import paper_config

VALUES = reports.paper_values()
FIELDS = {"preset", "quantity", "value", "source", "shift", "reading", "note"}
QUANTITIES = ("student", "teacher", "parameters", "parameter_ratio")
# how many numbers the text of each table states: nothing left out, nothing filled in
STATED = {
    "D2GP Table I": 81,
    "DIPA Table 1": 15,
    "DIPA Table 2": 26,
    "DIPA Table 3": 26,
    "DIPA Table 4": 12,
    "DIPA Table 5": 25,
    "DIPA Table 6": 50,
    "DIPA Table 7": 18,
    "DIPA Table 8": 8,
}


def value(preset, source, quantity="student", shift=None):
    (row,) = reports.published(preset, quantity, source, shift)
    return row["value"]


def of(source, quantity="student", prefix=""):
    return [
        row
        for row in VALUES
        if (row["source"], row["quantity"]) == (source, quantity)
        and row["preset"].startswith(prefix)
    ]


# --- the values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", STATED)
def test_a_value_is_a_finite_number_with_a_preset_a_quantity_and_a_source(source):
    for row in [row for row in VALUES if row["source"] == source]:
        assert {"preset", "quantity", "value", "source"} <= set(row) <= FIELDS
        assert row["preset"] in experiments.names()
        assert row["quantity"] in QUANTITIES
        assert type(row["value"]) is float and math.isfinite(row["value"]) and row["value"] >= 0
        assert all(
            isinstance(row[key], str) and row[key]
            for key in ("shift", "reading", "note")
            if key in row
        )
        assert "shift" not in row or row["shift"] in paper_config(row["preset"]).shifts


def test_no_value_twice():
    keys = Counter(
        (row["preset"], row["quantity"], row["source"], row.get("shift")) for row in VALUES
    )
    assert max(keys.values()) == 1


def test_as_many_values_as_the_text_states():
    assert Counter(row["source"] for row in VALUES) == STATED


def test_psnr_is_in_the_range_of_a_psnr():
    assert all(5 < row["value"] < 60 for row in VALUES if row["quantity"] in ("student", "teacher"))


@pytest.mark.parametrize("source", [f"DIPA Table {number}" for number in range(2, 7)])
def test_the_presets_have_the_losses_of_their_rows(source):
    rows = [row for row in of(source) if "baseline" not in row["preset"]]
    assert rows
    for row in rows:
        losses = paper_config(row["preset"]).losses
        assert (losses.supervised > 0, losses.imitation > 0) == (
            "L_S" in row["reading"],
            "L_I" in row["reading"],
        )
        assert (losses.convergence > 0) == ("with R" in row["reading"])


@pytest.mark.parametrize(
    ("source", "kinds", "sizes", "priors"),
    [
        ("D2GP Table I", {"single_pixel", "mri", "super_resolution"}, {32, 50, 110}, {"pnp"}),
        ("DIPA Table 1", {"single_pixel", "mri", "super_resolution"}, {32, 50, 110}, {"pnp"}),
        ("DIPA Table 2", {"single_pixel", "mri"}, {32, 50}, {"pnp"}),
        ("DIPA Table 3", {"single_pixel", "mri"}, {32, 50}, {"red"}),
        ("DIPA Table 4", {"single_pixel"}, {128}, {"pnp", "red"}),
        ("DIPA Table 5", {"single_pixel"}, {128}, {"pnp"}),
        ("DIPA Table 6", {"super_resolution"}, {110}, {"pnp", "red"}),
        ("DIPA Table 7", {"single_pixel", "mri", "super_resolution"}, {32, 50, 110}, {"pnp"}),
        ("DIPA Table 8", {"mri"}, {50}, {"pnp", "red"}),
    ],
)
def test_the_presets_of_a_table_are_of_its_task_size_and_prior(source, kinds, sizes, priors):
    configs = [paper_config(preset) for preset in reports.presets_of(source)]
    assert {config.task.kind for config in configs} == kinds
    assert {config.task.size for config in configs} == sizes
    assert {config.solver.prior for config in configs} == priors


def teachers(source):
    """The teacher's values of a table by what the teacher depends on: task (teacher's setting
    with it) and prior.
    """
    found = {}
    for row in of(source, "teacher"):
        config = paper_config(row["preset"])
        strength = {
            "single_pixel": "teacher_ratio",
            "mri": "teacher_acceleration",
            "super_resolution": "teacher_factor",
        }
        setting = getattr(config.task, strength[config.task.kind])
        better = setting if config.task.kind == "single_pixel" else 1 / setting
        found.setdefault((config.task.kind, config.solver.prior), {}).setdefault(better, []).append(
            row["value"]
        )
    return found


@pytest.mark.parametrize("source", ["DIPA Table 2", "DIPA Table 3", "DIPA Table 5", "DIPA Table 6"])
def test_teachers_improve_with_their_operator_and_repeat_between_rows(source):
    # a column that should be constant, and is not in Table 6
    spread = 0.27 if source == "DIPA Table 6" else 0.0
    assert teachers(source)
    for by_setting in teachers(source).values():
        assert len(by_setting) == 3
        means = [sum(values) / len(values) for _, values in sorted(by_setting.items())]
        assert means == sorted(means)
        assert max(max(values) - min(values) for values in by_setting.values()) <= spread + 1e-9


def count(method, size, channels):
    """Numbers in P as the table counts them: K = 20 iterations, n pixels, the ConvNeXt once per
    channel.
    """
    n, iterations = size**2, 20
    return {
        "baseline": 0,
        "hessian": 0,
        "polynomial": 4 + 1,
        "scalar": iterations,
        "convolutional": iterations * 5 * 5,
        "pointwise": iterations * n,
        "full-linear": iterations * n**2,
        "n-dipa": 858_758 * channels,
    }[method]


def last_digit(number):
    """One unit of the last digit the table prints, in thousands (20k, 858k), tenths (1.7M) or
    whole millions (21M).
    """
    if number < 1e3:
        return 0.0
    return 1e3 if number < 1e6 else 1e5 if number < 1e7 else 1e6


@pytest.mark.parametrize("row", of("D2GP Table I", "parameters"), ids=lambda row: row["preset"])
def test_parameters_follow_their_formula(row):
    config = paper_config(row["preset"])
    exact = count(config.method, config.task.size, config.task.channels)
    assert config.solver.iterations == 20
    assert abs(exact - row["value"]) <= last_digit(row["value"])


@pytest.mark.parametrize(
    "row", of("D2GP Table I", "parameter_ratio"), ids=lambda row: row["preset"]
)
def test_ratios_are_those_of_the_parameters(row):
    config = paper_config(row["preset"])
    size, channels = config.task.size, config.task.channels
    ratio = count(config.method, size, channels) / count("n-dipa", size, channels)
    digits = len(f"{row['value']:g}".split("e")[0].replace(".", "").lstrip("0"))
    assert float(f"{ratio:.{digits}g}") == row["value"]


# --- what the text says in words ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "prefix", "prior", "words"),
    [
        ("DIPA Table 2", "mri-", "pnp", 3),  # "the gains reach almost 3 dB in MRI
        ("DIPA Table 2", "l-dipa", "pnp", 10),  # and 10 dB in CS"
        ("DIPA Table 6", "sr-", "pnp", 14),  # "PSNR gains of up to 14 dB"
        ("DIPA Table 6", "sr-", "red", 14),
        # "improvements of up to 4 dB"; 5.9 with RED, see the note of that value
        ("DIPA Table 4", "bsds-", "pnp", 3),
    ],
)
def test_the_largest_gain_is_the_one_of_the_text(source, prefix, prior, words):
    rows = [
        row
        for row in of(source, prefix=prefix)
        if paper_config(row["preset"]).solver.prior == prior
    ]
    gains = [row["value"] - reports.paper_baseline(row["preset"], source) for row in rows]
    assert round(max(gains)) == words


def test_d2gp_gains_over_full_linear_as_its_text_says():
    ours, best = (value(name, "D2GP Table I") for name in ("n-dipa", "full-linear"))
    # "outperforms the best SOTA method by over 8 dB while using 24 times fewer parameters"
    assert 8 < ours - best < 9
    assert math.floor(value("full-linear", "D2GP Table I", "parameter_ratio")) == 24
    sr = value("sr-n-dipa", "D2GP Table I") - value("sr-full-linear", "D2GP Table I")
    assert math.floor(sr) == 3  # "3 dB gains with 3410 times fewer parameters than Full-linear"
    assert value("sr-full-linear", "D2GP Table I", "parameter_ratio") == 3410


def test_dipa_table_1_repeats_d2gp_but_for_one_cell():
    differ = {
        row["preset"]
        for row in of("DIPA Table 1")
        if row["value"] != value(row["preset"], "D2GP Table I")
    }
    assert differ == {"polynomial"}
    assert all(
        "misprint" in reports.published("polynomial", source=source)[0]["note"]
        for source in ("D2GP Table I", "DIPA Table 1")
    )


@pytest.mark.parametrize("task", ["mri", "single-pixel", "super-resolution"])
def test_end_to_end_wins_where_it_was_trained_and_loses_elsewhere(task):
    """DIPA Sec. 4.6: "DIPA-PnP outperforms E2E when settings differ"."""
    network, linear = f"e2e-{task}", f"shift-{task}"
    assert value(network, "DIPA Table 7") > value(linear, "DIPA Table 7")
    for shift in paper_config(network).shifts:
        assert value(network, "DIPA Table 7", shift=shift) < value(
            linear, "DIPA Table 7", shift=shift
        )


def test_trained_with_red_tested_with_pnp_beats_the_baseline():
    """DIPA Sec. 4.7: P trained with RED "led to a good performance (outperforming the
    baseline)" in PnP.
    """
    shifted = [row for row in of("DIPA Table 8") if row.get("shift") == "PnP"]
    assert len(shifted) == 3
    assert all(
        row["value"] > reports.paper_baseline(row["preset"], "DIPA Table 8", "PnP")
        for row in shifted
    )


@pytest.mark.parametrize(
    ("preset", "source", "shift", "expected"),
    [
        ("n-dipa", "D2GP Table I", None, 22.36),
        ("mri-n-dipa", "D2GP Table I", None, 25.77),
        ("sr-n-dipa", "D2GP Table I", None, 11.14),
        ("scalar", "DIPA Table 1", None, 22.36),
        # the cell is lost: D2GP's is not put in its place
        ("mri-hessian", "DIPA Table 1", None, None),
        ("l-dipa-supervised", "DIPA Table 2", None, 22.88),
        ("l-dipa-supervised-t9", "DIPA Table 2", None, 22.88),
        ("red-l-dipa-imitation-r", "DIPA Table 3", None, 22.93),
        ("mri-red-l-dipa-supervised", "DIPA Table 3", None, 27.31),
        ("bsds-l-dipa-imitation", "DIPA Table 4", None, 29.33),
        ("bsds-red-l-dipa-imitation", "DIPA Table 4", None, 29.05),
        ("digits128-l-dipa-imitation-t9", "DIPA Table 5", None, 31.51),
        ("sr-l-dipa-supervised", "DIPA Table 6", None, 11.02),
        ("sr-red-l-dipa-supervised-t3", "DIPA Table 6", None, 10.83),
        ("e2e-mri", "DIPA Table 7", None, None),
        ("mri-red-l-dipa-imitation-r-t3", "DIPA Table 8", None, 27.31),
        ("mri-red-l-dipa-imitation-r-t3", "DIPA Table 8", "PnP", 27.77),
    ],
)
def test_the_baseline_is_of_the_same_source_task_size_and_prior(preset, source, shift, expected):
    assert reports.paper_baseline(preset, source, shift) == expected


def test_presets_of_a_source_and_task():
    assert reports.presets_of("DIPA Table 3", "mri")[0] == "mri-red-baseline"
    assert (
        len(reports.presets_of("DIPA Table 3", "mri"))
        == len(reports.presets_of("DIPA Table 3", "single_pixel"))
        == 7
    )
    assert reports.presets_of("DIPA Table 3", "super_resolution") == []
    with pytest.raises(InputError, match="DIPA Table 3"):
        reports.presets_of("DIPA Table III")


def test_the_papers_gain_is_a_difference_of_two_printed_numbers():
    """DIPA Table 2 prints 32.74 and 22.88 for the single-pixel camera."""
    assert reports.paper_gain("l-dipa-supervised", "DIPA Table 2") == pytest.approx(32.74 - 22.88)
    assert reports.paper_gain("l-dipa-distilled-r", "DIPA Table 2") is None


# --- the printed tables read against each other ---------------------------------------------------


def column(table, name):
    head, rows = parse(table)
    return [row[head.index(name)] for row in rows]


def kept(monkeypatch, *rows):
    """Only these published rows, in the place of the file's."""
    monkeypatch.setattr(paper, "_values", lambda: rows)


def test_contradictions_name_every_cell_that_two_tables_print_differently():
    keys = Counter((row["preset"], row["quantity"], row.get("shift")) for row in VALUES)
    disagreeing = []
    for key in keys:
        values = {
            row["value"]
            for row in VALUES
            if (row["preset"], row["quantity"], row.get("shift")) == key
        }
        disagreeing += [(experiments.describe(key[0])["about"], key[1])] * (len(values) > 1)
    _, rows = parse(reports.contradictions())
    assert [(row[1], row[2]) for row in rows] == disagreeing
    assert "22.01 (D2GP Table I); 23.01 (DIPA Table 1)" in column(
        reports.contradictions(), "printed"
    )
    assert "22.36 (D2GP Table I, DIPA Table 1); 22.88 (DIPA Table 2)" in column(
        reports.contradictions(), "printed"
    )


def test_a_shift_is_no_contradiction_of_the_trained_setting(monkeypatch):
    trained = {
        "preset": "shift-mri",
        "quantity": "student",
        "value": 30.0,
        "source": "DIPA Table 7",
    }
    kept(monkeypatch, trained, trained | {"value": 20.0, "shift": "AF 8"})
    assert parse(reports.contradictions())[1] == []
    kept(monkeypatch, trained, trained | {"value": 20.0, "source": "DIPA Table 8"})
    assert column(reports.contradictions(), "printed") == [
        "30.00 (DIPA Table 7); 20.00 (DIPA Table 8)"
    ]


def test_teacher_spreads_are_those_of_the_file():
    settings = {
        "single_pixel": "teacher_ratio",
        "mri": "teacher_acceleration",
        "super_resolution": "teacher_factor",
    }
    expected = {}
    for row in (row for row in VALUES if row["quantity"] == "teacher"):
        config = paper_config(row["preset"])
        key = (
            row["source"],
            config.solver.prior.upper(),
            config.task.kind,
            getattr(config.task, settings[config.task.kind]),
        )
        expected.setdefault(key, []).append(row["value"])
    spreads = {key: max(values) - min(values) for key, values in expected.items()}
    _, rows = parse(reports.teacher_spreads())
    found = {(source, teacher): float(spread) for source, teacher, _, spread in rows}
    assert found == {
        (source, f"{prior}, RF {setting}"): pytest.approx(spread, abs=0.005)
        for (source, prior, _, setting), spread in spreads.items()
        if spread > 0
    }
    assert found["DIPA Table 6", "RED, RF 2"] == 0.27


@pytest.mark.parametrize(
    ("preset", "teacher"),
    [("l-dipa-supervised", "PNP, ratio 0.7"), ("mri-l-dipa-supervised-t2", "PNP, AF 2")],
)
def test_a_spread_names_its_teacher(monkeypatch, preset, teacher):
    row = {"preset": preset, "quantity": "teacher", "value": 30.0, "source": "DIPA Table 2"}
    kept(monkeypatch, row, row | {"value": 30.5}, row | {"value": 31.5, "source": "DIPA Table 3"})
    assert parse(reports.teacher_spreads())[1] == [
        ["DIPA Table 2", teacher, "30.00, 30.50", "0.50"]
    ]


def test_doubts_are_the_notes_on_what_does_not_fit():
    notes = {row["note"] for row in VALUES if "note" in row}
    assert {note for note in notes if note.startswith("printed ")} - set(
        column(reports.doubts(), "what does not fit")
    )
    assert set(column(reports.doubts(), "what does not fit")) == {
        note for note in notes if not note.startswith("printed ")
    }
    _, rows = parse(reports.doubts())
    (rest,) = [row for row in rows if row[2:4] == ["teacher", "34.65"]]
    # four rows of one teacher, one note
    assert rest[0] == "DIPA Table 5" and rest[1].count("; ") == 3


def test_readings_add_up_to_the_numbers_that_rest_on_one():
    resting = Counter(row["reading"] for row in VALUES if "reading" in row)
    _, rows = parse(reports.readings())
    assert {row[0]: int(row[2]) for row in rows[:-1]} == resting
    assert rows[-1] == ["all", "", f"{sum(resting.values())} of {len(VALUES)}"]
    sources = {row[0]: row[1].split(", ") for row in rows[:-1]}
    for reading, named in sources.items():
        assert named == list(
            dict.fromkeys(row["source"] for row in VALUES if row.get("reading") == reading)
        )


def test_printed_psnr_of_one_source_or_of_each():
    _, rows = parse(reports.printed_psnr(["sr-baseline", "sr-n-dipa"]))
    expected = [
        (row["source"], f"{row['value']:.2f}")
        for name in ("sr-baseline", "sr-n-dipa")
        for row in reports.published(name)
    ]
    assert [(row[2], row[3]) for row in rows] == expected and ("DIPA Table 6", "11.02") in expected
    _, (only,) = parse(reports.printed_psnr(["sr-baseline"], "D2GP Table I"))
    assert only == [
        "super resolution",
        experiments.describe("sr-baseline")["about"],
        "D2GP Table I",
        "11.14",
    ]


def test_values_handed_out_are_copies():
    reports.paper_values()[0]["value"] = reports.published("baseline")[0]["value"] = -1.0
    assert reports.paper_values() == VALUES
