"""Tables and lookups of runs, the papers' numbers beside them, and what every result page shows."""

import itertools
import math

import numpy as np
import pytest
import torch
from fake_runs import fake_run as fake
from fake_runs import parse

from dipa import InputError, experiments, plots, reports
from dipa.analysis import Spectra
from dipa.reports import compare, paper, results_page
from dipa.reports import runs as lookups

# --- tables of runs -------------------------------------------------------------------------------


def test_mean_and_standard_deviation_over_seeds():
    assert reports.mean_sd([]) == ""
    assert reports.mean_sd([1.234]) == "1.23"
    assert reports.mean_sd([1.0, 3.0], 1) == "2.0 ± 1.4 (2)"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (5, "5"),
        (500, "500"),
        (858e3, "858k"),
        (858_758, "858.8k"),
        (1.7e6, "1.7M"),
        (2_928_200_000, "2928M"),
    ],
)
def test_short_counts(number, text):
    assert reports.short_count(number) == text


def test_the_spread_over_seeds_by_hand():
    seeds = [
        fake("l-dipa-supervised", psnr, seed=seed)
        for seed, psnr in ((0, 31.0), (1, 32.0), (2, 33.0))
    ]
    table = reports.paper_beside_ours(
        seeds, ["l-dipa-supervised", "l-dipa-imitation"], 22.88, "DIPA Table 2"
    )
    _, (trained, missing) = parse(table)
    assert trained[1:7] == [
        "32.74",
        "31.00 ± 1.00 (3)",
        "-1.74",
        "9.86",
        "12.00 ± 1.00 (3)",
        "+2.14",
    ]
    assert missing[1:] == [""] * 7  # nothing run, nothing printed by the paper


def test_paper_and_ours_by_hand_for_one_task():
    presets = reports.presets_of("D2GP Table I", "mri")
    runs = [fake("mri-scalar", 28.0, 25.0, seed=seed, parameters=20) for seed in (1, 0)]
    head, rows = parse(
        reports.paper_beside_ours(
            runs, presets, source="D2GP Table I", extras=("teacher", "parameters")
        )
    )
    assert head[:7] == [
        "variant",
        "paper PSNR",
        "our PSNR",
        "difference",
        "paper gain",
        "our gain",
        "difference",
    ]
    assert head[7:] == [
        "paper teacher",
        "our teacher",
        "difference",
        "paper parameters",
        "our parameters",
        "runs",
    ]
    assert len(rows) == len(presets) == 9
    row = rows[presets.index("mri-scalar")]
    assert row[1:7] == ["27.88", "27.00 ± 0.00 (2)", "-0.88", "2.11", "3.00 ± 0.00 (2)", "+0.89"]
    assert row[7:] == ["", "39.00 ± 0.00 (2)", "", "20", "20", "`d0` p0, `d1` p1"]


def test_a_preset_without_a_run_shows_the_paper_alone():
    _, (row,) = parse(
        reports.paper_beside_ours(
            [], ["sr-n-dipa"], source="D2GP Table I", extras=("teacher", "parameters")
        )
    )
    assert row[1:] == ["25.88", "", "", "14.74", "", "", "", "", "", "858k", "", ""]


def test_a_preset_that_no_paper_prints_shows_ours_alone():
    _, (row,) = parse(
        reports.paper_beside_ours([fake("mri-ridge")], ["mri-ridge"], source="DIPA Table 2")
    )
    assert row[1:] == ["", "29.00", "", "", "10.00", "", "`d0` p0"]


def test_a_lost_baseline_leaves_the_papers_gain_empty():
    _, (row,) = parse(
        reports.paper_beside_ours([fake("mri-hessian")], ["mri-hessian"], source="DIPA Table 1")
    )
    assert row[1:7] == ["28.16", "29.00", "+0.84", "", "10.00", ""]


def test_the_callers_baseline_comes_before_the_sources():
    runs, presets = [fake("l-dipa-supervised")], ["l-dipa-supervised"]
    _, (given,) = parse(reports.paper_beside_ours(runs, presets, 20.0, "DIPA Table 2"))
    assert given[4] == "12.74"
    stated = reports.paper_beside_ours(runs, presets, 22.88, "DIPA Table 2")
    assert stated == reports.paper_beside_ours(runs, presets, source="DIPA Table 2")


def test_without_a_source_each_row_names_its_own():
    head, rows = parse(
        reports.paper_beside_ours([], ["sr-baseline", "sr-red-baseline", "sr-ridge"])
    )
    assert head[1] == "source"
    assert [row[1:3] for row in rows] == [
        ["D2GP Table I", "11.14"],
        ["DIPA Table 6", "10.83"],
        ["", ""],
    ]


def test_complex_images_have_the_psnr_of_the_modulus_too():
    options = {"source": "D2GP Table I", "metric": "psnr_magnitude"}
    _, (row,) = parse(
        reports.paper_beside_ours([fake("mri-n-dipa", magnitude=True)], ["mri-n-dipa"], **options)
    )
    assert row[2] == "27.00"
    _, (row,) = parse(reports.paper_beside_ours([fake("n-dipa")], ["n-dipa"], **options))
    assert row[2:4] == ["", ""] and row[5] == ""  # real images have none


def test_parameters_of_polynomials_are_coefficients_and_old_manifests_have_none():
    runs = [fake("polynomial", parameters=0), fake("scalar", parameters=20), fake("pointwise")]
    del runs[2].manifest["counts"]["parameters"]
    options = {"source": "D2GP Table I", "extras": ["parameters"]}
    _, rows = parse(
        reports.paper_beside_ours(runs, ["polynomial", "scalar", "pointwise"], **options)
    )
    assert [row[7:9] for row in rows] == [["5", "5"], ["20", "20"], ["20k", ""]]
    _, (row,) = parse(
        reports.paper_beside_ours(
            [fake("polynomial", **{"preconditioner.degree": 6})], ["polynomial"], **options
        )
    )
    assert row[8] == "7"


@pytest.mark.parametrize("bad", [{"metric": "ssim"}, {"extras": ["teachers"]}])
def test_unknown_columns_are_refused_by_name(bad):
    with pytest.raises(InputError, match=f"{next(iter(bad))}: got"):
        reports.paper_beside_ours([], ["baseline"], **bad)


def test_shift_table_by_hand():
    network = fake("e2e-mri", 33.0, 26.0, shifts={"AF 4": (27.0, 29.0), "AF 8": (22.0, 25.0)})
    # a run made before AF 8 was asked for
    linear = fake("shift-mri", 30.0, 26.5, shifts={"AF 4": (27.5, 32.0)})
    head, rows = parse(
        reports.shift_table([network, linear], ["shift-mri", "e2e-mri"], "DIPA Table 7")
    )
    assert head[:3] == ["tested setting", "paper baseline", "our baseline"]
    assert len(head) == 3 + 2 * 3
    assert rows == [
        [compare.AS_TRAINED, "", "25.50", "28.93", "29.00", "+0.07", "32.54", "32.00", "-0.54"],
        ["AF 4", "", "26.50", "32.26", "31.00", "-1.26", "28.23", "28.00", "-0.23"],
        ["AF 8", "", "", "24.41", "", "", "24.15", "24.00", "-0.15"],
        ["runs", "", "", "", "`d0` p0", "", "", "`d0` p0", ""],
    ]


def test_shift_table_takes_the_papers_baseline_of_the_tested_prior():
    presets = reports.presets_of("DIPA Table 8")[2:]
    _, rows = parse(reports.shift_table([], presets, "DIPA Table 8"))
    assert [row[0] for row in rows] == [compare.AS_TRAINED, "PnP", "runs"]
    assert rows[0][1:] == ["27.31", "", "27.58", "", "", "27.54", "", "", "27.31", "", ""]
    assert rows[1][1:] == ["27.77", "", "29.65", "", "", "28.05", "", "", "29.65", "", ""]


def test_shift_table_of_the_project_needs_no_source():
    run = fake("l-dipa-noise", 30.0, 25.0, shifts={"noise 0.01": (24.0, 28.0)})
    head, rows = parse(reports.shift_table([run], ["l-dipa-noise"], metric="psnr"))
    assert head == ["tested setting", "baseline", experiments.describe("l-dipa-noise")["about"]]
    assert [row[0] for row in rows] == [compare.AS_TRAINED, *run.config.shifts, "runs"]
    assert rows[0][1:] == ["25.00", "30.00"]
    assert rows[1][1:] == ["24.00", "28.00"]
    assert rows[-1] == ["runs", "", "`d0` p0"]


def test_shift_table_needs_a_preset():
    with pytest.raises(InputError, match="presets: got"):
        reports.shift_table([], [], "DIPA Table 8")


def test_measured_shows_the_modulus_only_where_there_is_one():
    real, complex_ = fake("ridge"), fake("mri-ridge", magnitude=True)
    # nothing run for the baseline: no row
    head, (row,) = parse(reports.measured([real, complex_], ["ridge", "baseline"]))
    assert head[2:7] == ["PSNR", "PSNR (batch MSE)", "SSIM", "residual", "error in range"]
    assert head[7:] == ["error in null space", "falsification test", "precision", "training s"]
    assert row[1:] == ["0", "30.00", "29.00", "0.750", "0.125", "0.250", "0.500", "", "p0", "61"]
    head, rows = parse(reports.measured([real, complex_], ["ridge", "mri-ridge"]))
    assert head[4] == "PSNR (modulus)"
    assert [row[4] for row in rows] == ["", "27.00"]


def test_measured_says_which_checks_of_the_falsification_test_failed():
    runs = [fake("ridge"), fake("l-dipa-supervised"), fake("baseline")]
    for run, drift in zip(runs[:2], (True, False), strict=True):
        run.metrics["student"]["falsification"] = {
            "checks": {"stable": True, "consistent": drift, "no_drift": drift}
        }
    head, rows = parse(reports.measured(runs, ["ridge", "l-dipa-supervised", "baseline"]))
    assert [row[head.index("falsification test")] for row in rows] == [
        "passed",
        "failed: consistent, no drift",
        "",
    ]


def test_margins_by_hand():
    runs = [
        fake("n-dipa", 31.0),
        fake("full-linear", 28.0, seed=0),
        fake("full-linear", 29.0, seed=1),
        fake("ridge", 33.0),
    ]
    pairs = [
        ("n-dipa", "full-linear"),
        ("n-dipa", "ridge"),
        ("n-dipa", "scalar"),
        ("hessian", "n-dipa"),
    ]
    _, rows = parse(reports.margins(runs, pairs))
    assert [row[2:] for row in rows] == [
        ["D2GP Table I", "+8.36", "+2.50", "yes"],
        ["", "", "-2.00", ""],  # no paper prints the closed form
        ["D2GP Table I", "+11.19", "", ""],  # not recorded
        ["D2GP Table I", "-11.61", "", ""],
    ]
    worse = reports.margins(
        [fake("n-dipa", 20.0), fake("baseline", 25.0)], [("n-dipa", "baseline")]
    )
    assert parse(worse)[1][0][-2:] == ["-5.00", "no"]


def test_margins_never_mix_two_sources():
    assert paper.shared_source("l-dipa-supervised", "full-linear") is None
    assert paper.shared_source("l-dipa-supervised", "baseline") == "DIPA Table 2"
    _, (row,) = parse(reports.margins([], [("l-dipa-supervised", "full-linear")]))
    assert row[2:] == ["", "", "", ""]


def test_differences_from_the_papers_settings():
    changes = {"training.steps": 7, "training.batch_size": 3, "data.test_count": 5}
    runs = [
        fake("baseline", **{"data.test_count": 5}),
        fake("l-dipa-supervised", **changes),
        fake("n-dipa", **changes),
    ]
    head, rows = parse(
        reports.differences(runs, ["baseline", "scalar", "l-dipa-supervised", "n-dipa"])
    )
    assert head == ["setting", "profile `paper`", "here", "in"]
    assert ["`data.test_count`", "10000", "5", "all"] in rows
    assert ["`solver.denoiser`", "dncnn-deepinv", "dncnn-bsds500", "all"] in rows
    assert ["`training.learning_rate`", "1e-05", "0.001", "all that train"] in rows
    assert ["`training.images`", "52500", "21", "`l-dipa-supervised`"] in rows
    assert ["`training.images`", "2499975", "21", "`n-dipa`"] in rows
    assert ["`network.features`", "128", "8", "`n-dipa`"] in rows
    assert ["`preconditioner.form`", "dense", "low_rank", "`l-dipa-supervised`"] in rows
    assert [key for key, _ in itertools.groupby(row[0] for row in rows)] == list(
        dict.fromkeys(row[0] for row in rows)
    )
    named = {row[0] for row in rows}
    assert "`solver.iterations`" in named  # 6 in profile smoke
    assert not named & {"`task.ratio`", "`training.checkpoint_every`", "`training.steps`"}


def test_a_setting_that_a_method_does_not_use_is_not_compared():
    counts = {
        method: set(compare.changed_settings(fake(method).config))
        for method in ("hessian", "scalar", "ridge")
    }
    assert "data.ridge_count" in counts["ridge"] and not {"data.ridge_count"} & (
        counts["hessian"] | counts["scalar"]
    )
    assert not [key for key in counts["scalar"] if key.startswith(("preconditioner.", "network."))]
    assert not [
        key for key in counts["hessian"] if key.startswith(("training.", "preconditioner."))
    ]


def test_the_papers_settings_differ_from_themselves_in_nothing():
    assert compare.changed_settings(paper.paper_config("mri-n-dipa")) == {}


# --- lookups in runs ------------------------------------------------------------------------------


def with_arrays(run, value):
    """A run with curves of 9 iterations and two test images of two channels, all of one value."""
    for role in ("baseline", "student", "teacher"):
        run.metrics[role]["curve"] = {"psnr": [value + k for k in range(9)], "residual": [1.0] * 9}
    run.examples = {
        role: np.full((2, 2, 4, 4), value) for role in ("truth", "baseline", "student", "teacher")
    }
    if run.config.method == "baseline":
        del run.examples["student"]
    return run


def test_curves_and_images_are_those_of_the_first_seed_in_the_order_asked_for():
    runs = [
        with_arrays(fake("n-dipa", seed=1), 3.0),
        with_arrays(fake("n-dipa"), 2.0),
        with_arrays(fake("baseline"), 1.0),
    ]
    presets = ["baseline", "scalar", "n-dipa"]
    lines = reports.curves(runs, presets)
    assert {name: line["psnr"][0] for name, line in lines.items()} == {
        "baseline": 1.0,
        "n-dipa": 2.0,
        "teacher": 1.0,
    }
    planes = reports.reconstructions(runs, presets, index=1)
    assert list(planes) == ["truth", "baseline", "n-dipa", "teacher"]
    # the modulus
    assert np.allclose(planes["n-dipa"], 2 * math.sqrt(2)) and planes["n-dipa"].shape == (4, 4)


def test_lookups_of_nothing_are_empty():
    assert (
        reports.curves([], ["n-dipa"])
        == reports.reconstructions([], ["n-dipa"])
        == reports.long_residuals([], [])
        == {}
    )
    assert reports.best_run([], ["n-dipa"]) is None
    assert reports.best_in_words([], ["n-dipa"], "ridge", "baseline") == ""


def test_a_plane_of_one_channel_keeps_its_sign():
    assert np.array_equal(lookups.plane(np.full((1, 2, 2), -0.5)), np.full((2, 2), -0.5))


def test_long_residuals_only_where_the_falsification_test_was_made():
    runs = [fake("ridge"), fake("n-dipa")]
    runs[1].metrics["student"]["falsification"] = {"residuals": [1.0, 0.5]}
    assert reports.long_residuals(runs, ["ridge", "n-dipa"]) == {"n-dipa": [1.0, 0.5]}


def test_the_reading_by_hand():
    runs = [
        with_arrays(fake(name, psnr), 5.0)
        for name, psnr in (("baseline", 20.0), ("ridge", 26.0), ("n-dipa", 25.0))
    ]
    runs.append(with_arrays(fake("l-dipa-supervised", 27.0), 5.0))
    text = reports.best_in_words(runs, ["n-dipa", "l-dipa-supervised"], "ridge", "baseline")
    assert (
        "`l-dipa-supervised` with 27.00 dB: +7.00 dB over `baseline`, +1.00 dB over the "
        "closed form `ridge`" in text
    )
    assert "80.0 % lies in the null space" in text  # 0.5^2 / (0.5^2 + 0.25^2)
    assert text.endswith("changed it by +2.00 dB.")  # two of eight iterations, one dB each


def test_what_is_not_recorded_is_named_once():
    runs = [fake("ridge"), fake("n-dipa")]
    assert (
        reports.not_recorded(runs, ["ridge", "scalar", "hessian", "scalar"])
        == "Not recorded: `scalar`, `hessian`."
    )
    assert reports.not_recorded(runs, ["ridge"]) == "Not recorded: none of these is missing."
    assert reports.not_recorded([], ["ridge"]) == "Not recorded: `ridge`."


def test_the_provenance_says_on_what_and_in_what_numbers():
    """Recorded runs of dipa before 0.3.0 do not say the precision: it is that of their
    configuration, where they trained.
    """
    runs = experiments.find_runs(experiments.results_folder("mri"))
    head, rows = parse(reports.provenance(runs))
    shown = [dict(zip(head, row, strict=True)) for row in rows]
    assert [row["run"] for row in shown] == [f"`{run.path.name}`" for run in runs]
    assert [row["device"] for row in shown] == [run.manifest["device"] for run in runs]
    asked = {
        row["run"]: run.config.solver.precision
        if run.config.trained or run.config.method.endswith("-fitted")
        else "float32"
        for row, run in zip(shown, runs, strict=True)
    }
    assert {row["run"]: row["precision"] for row in shown} == asked and set(asked.values()) == {
        "bf16",
        "float32",
    }


def test_spectra_table_by_hand():
    """R = diag(2, 1/2) and one direction of size 3 sent outside; a second P loses a direction
    of the range.
    """
    full = Spectra(
        torch.diag(torch.tensor([2.0, 0.5])), torch.tensor([2.0, 0.5]), torch.tensor([3.0, 0.0])
    )
    lossy = Spectra(torch.diag(torch.tensor([1.0, 0.0])), torch.tensor([1.0, 0.0]), torch.zeros(2))
    head, rows = parse(reports.spectra_table({"full": full, "lossy": lossy}, 0.4, {"full": 31.234}))
    assert head[0] == "P" and head[-1] == "PSNR (dB)" and len(head) == 7
    assert rows == [
        ["full", "4", "2.00", "2 of 2", "3.00", "0.800", "31.23"],
        ["lossy", "infinite", "1.00", "1 of 2", "0.00", "1.000", ""],
    ]


# --- listings -------------------------------------------------------------------------------------


def test_preset_table_names_the_recorded_seeds_and_costs():
    runs = [fake("n-dipa", seed=1), fake("n-dipa", seed=0)]
    for run, seconds in zip(runs, (99.0, 12.4), strict=True):
        run.manifest["seconds"] = seconds
    described = [experiments.describe(name) for name in ("n-dipa", "hessian")]
    described[1]["profile_seconds"] = {"smoke": 3.2}
    described[0]["profile_seconds"] = {"smoke": None}
    head, rows = parse(reports.preset_table(described, runs))
    assert head == [
        "preset",
        "about",
        "where",
        "method",
        "prior",
        "loss",
        "recorded seeds",
        "smoke s",
        "small s",
    ]
    assert [row[0] for row in rows] == ["`n-dipa`", "`hessian`"]
    assert rows[0][3:] == ["n-dipa", "pnp", "$L_S + L_I + L_G$", "0, 1", "", "12"]
    assert rows[1][3:] == ["hessian", "pnp", "", "", "3", ""]


def test_every_preset_has_its_place_and_its_loss_in_the_table():
    described = [experiments.describe(name) for name in experiments.names()]
    places = {row[0].strip("`"): row[2] for row in parse(reports.preset_table(described))[1]}
    assert list(places) == experiments.names()
    assert places["hessian"] == "D2GP Table I; DIPA Table 1"
    assert places["mri-red-baseline"].startswith("DIPA Table") and places["ridge"] == "Fair play"


def test_profile_table_shows_what_profiles_differ_in():
    head, rows = parse(reports.profile_table("n-dipa"))
    assert head == ["setting", *experiments.profiles()]
    cells = {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}
    assert cells["`network.features`"]["paper"] == "128"
    assert cells["`data.name`"] == {"smoke": "embedded", "small": "mnist", "paper": "mnist"}
    assert "`task.ratio`" not in cells and "`solver.momentum`" not in cells


# --- the result pages -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mri_page():
    return reports.ResultsPage("mri", ["mri-l-dipa-supervised"], ["mri-ridge"])


def test_a_page_shows_the_table_what_no_paper_has_and_the_trained_presets(mri_page):
    fair = [
        name
        for name in experiments.names()
        if name.startswith("mri-") and experiments.describe(name)["table"] == "Fair play"
    ]
    assert mri_page.rows == reports.presets_of("D2GP Table I", "mri") and fair
    assert mri_page.shown == [*mri_page.rows, *fair, "mri-l-dipa-supervised"]
    assert mri_page.drawn == [*mri_page.rows, "mri-ridge"]
    assert mri_page.compared == [*mri_page.rows, "mri-l-dipa-supervised", "mri-ridge"]
    # other images
    assert not [
        name for name in reports.ResultsPage("single_pixel", []).shown if name.startswith("bsds-")
    ]


def test_a_page_in_words(mri_page):
    recorded = experiments.find_runs(experiments.results_folder("mri"))
    assert mri_page.count() == f"{len(recorded)} recorded runs"
    assert (
        "over `mri-baseline`" in mri_page.best_in_words()
        and "closed form `mri-ridge`" in mri_page.best_in_words()
    )
    assert [line.split()[0] for line in mri_page.numbers().splitlines()] == [
        run.path.name for run in recorded
    ]


def test_the_figures_of_a_page_have_a_line_or_an_image_for_each_preset(mri_page):
    left, right = mri_page.iterations().axes
    assert len(left.lines) == len(right.lines) == len(reports.curves(mri_page.runs, mri_page.drawn))
    assert len(mri_page.long_residuals().axes[0].lines) == len(
        reports.long_residuals(mri_page.runs, mri_page.drawn)
    )
    titles = [axis.get_title() for axis in mri_page.images(1, without=["mri-scalar"]).axes]
    assert "mri-ridge" in titles and "mri-scalar" not in titles
    plots.plt.close("all")


def test_a_page_without_runs_says_so_and_draws_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(results_page, "results_folder", lambda topic: tmp_path / topic)
    page = reports.ResultsPage("mri", ["mri-l-dipa-supervised"])
    assert (
        page.count().startswith("No run of this task is recorded")
        and page.best_in_words() == page.numbers() == ""
    )
    assert page.iterations() is page.long_residuals() is page.images(0) is None


def test_fixed_preconditioners_are_stepsizes_where_the_operator_is_a_projector(mri_page):
    assert (
        mri_page.stepsizes()
        == "Hessian: every gradient times 0.990\npolynomial: every gradient times 1.167"
    )
    with pytest.raises(InputError, match="Hessian: got .*a stepsize"):
        reports.ResultsPage("super_resolution", []).stepsizes()


def test_the_cells_of_a_page_show_its_tables_words_and_figures(mri_page, monkeypatch):
    texts, figures = [], []
    monkeypatch.setattr("IPython.display.display", lambda markdown: texts.append(markdown.data))
    monkeypatch.setattr(plots.plt, "show", lambda: figures.append(plots.plt.gcf().number))
    runs, rows, trained = mri_page.runs, mri_page.rows, ["mri-n-dipa", "mri-red-baseline"]
    reports.show_table(mri_page)
    reports.show_distilled(mri_page, trained)
    reports.show_measured(mri_page, also=trained)
    reports.show("a", "b")
    assert texts == [
        reports.paper_beside_ours(runs, rows, source="D2GP Table I", extras=["parameters"]),
        reports.paper_beside_ours(runs, trained, extras=["teacher", "parameters"]),
        reports.measured(runs, mri_page.shown),
        reports.not_recorded(runs, [*mri_page.shown, *trained]),
        mri_page.best_in_words(),
        *("a", "b"),
    ]
    reports.show_curves(mri_page)
    reports.show_images(mri_page, 0)
    assert len(set(figures)) == len(figures) == 3
    plots.plt.close("all")


@pytest.mark.parametrize(("task", "trained"), [("mrt", []), ("mri", ["mri-l-dipa-supervise"])])
def test_a_page_of_no_task_or_preset_is_refused(task, trained):
    with pytest.raises(InputError, match=task if not trained else trained[0]):
        reports.ResultsPage(task, trained)


def test_phases_table_counts_images_by_how_far_they_go():
    """Two phases: 96 % of the steps through one iteration, the others through the whole solve."""
    sizes = {"training.steps": 100, "training.batch_size": 32}
    run = fake("n-dipa-composed", 35.126, parameters=1234567, **sizes)
    run.manifest["training_seconds"] = 1230.0
    head, (row, plain) = parse(reports.phases_table([run, fake("baseline")]))
    assert len(head) == len(row) == 7
    first = ["`n-dipa-composed`, seed 0", "1,234,567", "3,072", "32", "20"]
    assert row == [*first, "35.13", "34.13"] and plain[1:5] == ["-"] * 4


def test_images_table_by_hand():
    row = {"plain": 30.977, "always": 12.461, "as it knows": 31.029, "images": 24, "untrusted": 23}
    head, rows = parse(reports.images_table({"kinds": {"photographs": row}}))
    assert rows == [["photographs", "30.98", "12.46", "31.03", "23 of 24"]] and len(head) == 5


def test_the_safeguard_keeps_what_is_gained_and_loses_next_to_nothing():
    """What the pages say of the recorded output."""
    output = reports.cost.read(experiments.results_folder("benchmarks"))["other_images"]
    for kind, row in output["kinds"].items():
        assert row["as it knows"] > row["plain"] - 0.3, kind
        assert row["as it knows"] >= row["always"] - 0.01, kind
    assert output["kinds"]["digits"]["untrusted"] == 0
    first, *later = output["long"].values()
    assert all(abs(psnr - first) < 0.3 for psnr in later), "it stays where it is: the page says so"
