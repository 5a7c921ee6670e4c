"""Figures show the numbers they are given, on the promised scales."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from elsewhere import pretended

from dipa import plots


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    images = {role: rng.random((3, 1, 8, 8)).astype(np.float32) for role in ("truth", *plots.ROLES)}
    return images | {
        f"{role}_iterates": rng.random((4, 1, 1, 8, 8)).astype(np.float32) for role in plots.ROLES
    }


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plots.plt.close("all")


def test_psnr_text_against_the_formula():
    truth = np.zeros((8, 8))
    assert plots.psnr_text(truth + 0.1, truth) == "20.0 dB"


def test_reconstructions_use_fixed_scales(examples):
    figure = plots.reconstructions(examples, index=1)
    images = [axis.get_images()[0] for axis in figure.axes if axis.get_images()]
    assert {image.get_clim() for image in images} == {(0, 1), (0, plots.ERROR_MAX)}
    shown = [np.asarray(image.get_array()) for image in images]
    assert any(np.array_equal(values, examples["student"][1, 0]) for values in shown)
    assert any(
        np.allclose(values, np.abs(examples["teacher"][1, 0] - examples["truth"][1, 0]))
        for values in shown
    )


def test_tensors_of_any_device_are_drawn_as_their_numbers(examples, monkeypatch):
    def drawn(values):
        return [
            np.asarray(image.get_array())
            for axis in plots.reconstructions(values).axes
            for image in axis.get_images()
        ]

    with pretended(monkeypatch) as place:
        moved = {
            role: torch.tensor(values, requires_grad=True).to(place)
            for role, values in examples.items()
        }
        assert all(map(np.array_equal, drawn(moved), drawn(examples)))


def test_curves_draw_what_they_get():
    metrics = {role: {"curve": {"psnr": [1.0 + i, 2.0, 3.0]}} for i, role in enumerate(plots.ROLES)}
    (axis,) = plots.curves(metrics).axes
    assert [line.get_label() for line in axis.get_lines()] == list(plots.ROLES)
    assert [line.get_ydata()[0] for line in axis.get_lines()] == [1.0, 2.0, 3.0]


def test_gallery_never_asks_for_more_images_than_there_are(examples):
    assert len(plots.gallery(examples, count=8).axes) == 4 * 3


def test_player_needs_no_network_and_has_every_frame(examples):
    html = plots.player(examples)
    assert html.count("data:image/jpeg;base64") == 4
    assert plots.plt.get_fignums() == []


def test_training_and_matrix_draw(examples):
    history = [{"step": step, "loss": 1.0 / step, "psnr": 20.0 + step} for step in (1, 2, 3)]
    left, right = plots.training(history).axes
    assert list(left.get_lines()[0].get_ydata()) == [1.0, 0.5, 1 / 3]
    assert list(right.get_lines()[0].get_ydata()) == [21.0, 22.0, 23.0]
    assert plots.matrix(np.eye(200), "P", zoom=64).axes[0].get_images()[0].get_array().shape == (
        64,
        64,
    )
    assert len(plots.compare({"a": [1, 2], "b": [2, 3]}).axes[0].get_lines()) == 2
    assert list(
        plots.denoiser_training([[1, 40.0], [2, 41.0]]).axes[0].get_lines()[0].get_ydata()
    ) == [40.0, 41.0]


def test_compared_lines_are_told_apart_by_colour_and_dash():
    lines = {f"line {number}": [1.0, 2.0 + number] for number in range(9)}
    figure = plots.compare(lines, "residual", log=True)
    (axis,) = figure.axes
    styles = [(line.get_color(), line.get_linestyle()) for line in axis.get_lines()]
    assert len(set(styles)) == 9 and axis.get_yscale() == "log"
    assert all(one[1] != next_[1] for one, next_ in zip(styles, styles[1:], strict=False))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)


def test_roles_keep_their_colours_among_other_lines():
    (axis,) = plots.compare({"n-dipa": [1], "mri-baseline": [1], "teacher": [1]}).axes
    colours = [line.get_color() for line in axis.get_lines()]
    assert colours[1:] == [plots.COLOURS["baseline"], plots.COLOURS["teacher"]]
    assert colours[0] in plots.PALETTE and not set(plots.PALETTE) & set(colours[1:])


def test_a_name_of_the_order_looks_the_same_in_every_figure():
    order = ["hessian", "scalar", "n-dipa"]
    every = plots.compare({name: [1.0] for name in order}, order=order).axes[0].get_lines()
    (alone,) = plots.compare({"n-dipa": [1.0]}, order=order).axes[0].get_lines()
    pair = plots.iterations({"n-dipa": {"psnr": [1.0], "residual": [1.0]}}, order).axes
    for line in (alone, *(axis.get_lines()[0] for axis in pair)):
        assert (line.get_color(), line.get_linestyle()) == (
            every[2].get_color(),
            every[2].get_linestyle(),
        )


def test_iterations_draw_both_quantities_of_every_curve():
    curves = {
        "baseline": {"psnr": [1, 2], "residual": [1, 0.5]},
        "teacher": {"psnr": [3, 4], "residual": [1, 0.1]},
    }
    left, right = plots.iterations(curves).axes
    assert [list(line.get_ydata()) for line in left.get_lines()] == [[1, 2], [3, 4]]
    assert [list(line.get_ydata()) for line in right.get_lines()] == [[1, 0.5], [1, 0.1]]
    assert [line.get_color() for line in left.get_lines()] == [
        plots.COLOURS["baseline"],
        plots.COLOURS["teacher"],
    ]
    assert right.get_yscale() == "log" and left.get_yscale() == "linear"


@pytest.mark.parametrize(("count", "rows"), [(3, 1), (6, 1), (7, 2)])
def test_methods_show_every_plane_on_one_grey_scale(count, rows):
    planes = {"truth": np.zeros((8, 8))} | {
        f"method {n}": np.full((8, 8), 0.1) for n in range(count - 1)
    }
    axes = plots.methods(planes).axes
    shown = [axis for axis in axes if axis.get_images()]
    assert len(axes) == 6 * rows and [axis.get_title() for axis in shown] == list(planes)
    assert {axis.get_images()[0].get_clim() for axis in shown} == {(0, 1)}
    assert [axis.get_xlabel() for axis in shown] == ["", *["20.0 dB"] * (count - 1)]


def test_compare_names_its_axis():
    assert (
        plots.compare({"a": [1, 2]}, xlabel="training step").axes[0].get_xlabel() == "training step"
    )
    assert plots.compare({"a": [1, 2]}).axes[0].get_xlabel() == "iteration k"


def test_tiles_show_each_row_on_its_own_symmetric_scale():
    rows = {"seen": np.array([[[1.0, -2.0]], [[0.5, 0.0]]]), "answer": np.zeros((2, 1, 2))}
    axes = plots.tiles(rows).axes
    assert [axis.get_images()[0].get_clim() for axis in axes] == [
        (-2, 2),
        (-2, 2),
        (-1, 1),
        (-1, 1),
    ]
    assert np.array_equal(axes[1].get_images()[0].get_array(), rows["seen"][1])
    assert [axis.get_ylabel() for axis in axes] == ["seen", "", "answer", ""]


def test_codes_put_iteration_one_at_the_top():
    table = np.arange(6.0).reshape(3, 2)
    axis = plots.codes({"learned": table}).axes[0]
    image = axis.get_images()[0]
    assert np.array_equal(image.get_array(), table) and image.get_clim() == (-5, 5)
    assert axis.get_ylim() == (3.5, 0.5) and axis.get_xlim() == (-0.5, 1.5)


def test_spectrum_draws_lines_above_and_eigenvalues_below():
    s = np.linspace(0, 1, 5)
    top, bottom = plots.spectrum(
        s, {"1/L": 1 - s, "none": 1 + 0 * s}, {"camera": np.ones(2), "blur": s}
    ).axes
    assert [list(line.get_ydata()) for line in top.get_lines()] == [list(1 - s), [1] * 5]
    assert [list(line.get_xdata()) for line in bottom.get_lines()] == [[1, 1], list(s)]
    assert [label.get_text() for label in bottom.get_yticklabels()] == ["camera", "blur"]


def test_frames_beside_each_other_share_scale_and_styles():
    figure = plots.beside(
        {"left": {"a": [1, 2], "b": [3, 4]}, "right": {"b": [5, 6]}}, "error", log=True
    )
    left, right = figure.axes
    assert left.get_ylim() == right.get_ylim() and right.get_yscale() == "log"
    drawn = {
        axis.get_title(): {line.get_label(): line for line in axis.get_lines()}
        for axis in (left, right)
    }
    assert (
        list(drawn["right"]["b"].get_ydata()) == [5, 6]
        and len(drawn["right"]["a"].get_ydata()) == 0
    )
    assert tuple(drawn["left"]["b"].get_color()) == tuple(drawn["right"]["b"].get_color())
    assert drawn["left"]["b"].get_linestyle() == drawn["right"]["b"].get_linestyle()


def test_panels_show_signed_columns_on_a_symmetric_scale():
    ones = np.ones((4, 4))
    figure = plots.panels(
        {"first": {"seen": ones, "unseen": -ones}, "second": {"seen": ones / 2}},
        signed=["unseen"],
        limit=0.2,
    )
    shown = [axis.get_images()[0] for axis in figure.axes if axis.get_images()]
    assert [image.get_clim() for image in shown] == [(0, 1), (-0.2, 0.2), (0, 1)]
    assert [float(np.asarray(image.get_array()).mean()) for image in shown] == [1, -1, 0.5]
    assert [axis.get_title() for axis in figure.axes] == ["seen", "unseen", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes] == ["first", "", "second", ""]


def test_eigenvalues_are_sorted_normalised_and_end_at_the_null_space():
    (axis,) = plots.eigenvalues(
        {"projector": np.array([0, 2, 0, 2.0]), "smooth": np.array([1.0, 4.0, 2.0, 0.5])}
    ).axes
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert list(lines["projector"].get_ydata()) == [1, 1] and list(
        lines["projector"].get_xdata()
    ) == [0.25, 0.5]
    assert list(lines["smooth"].get_ydata()) == [1, 0.5, 0.25, 0.125]


def test_matrices_keep_their_numbers_and_scale():
    first = np.array([[0.0, 2.0], [-1.0, 0.0]])
    axes = [
        axis
        for axis in plots.matrices({"a": first, "b": 0 * first}, first=4).axes
        if axis.get_images()
    ]
    shown = [axis.get_images()[0] for axis in axes]
    assert np.array_equal(shown[0].get_array(), first) and shown[1].get_clim() == (-1, 1)
    low, high = shown[0].get_clim()
    assert low == -high and 1.9 < high <= 2
    assert axes[0].get_xlim() == (3.5, 5.5) and axes[0].get_ylim() == (5.5, 3.5)


def test_against_is_logarithmic_in_both():
    (axis,) = plots.against([0.1, 1.0], {"float32": [3.0, 4.0]}, "step", "error").axes
    assert (axis.get_xscale(), axis.get_yscale(), axis.get_xlabel(), axis.get_ylabel()) == (
        "log",
        "log",
        "step",
        "error",
    )
    assert list(axis.get_lines()[0].get_xdata()) == [0.1, 1.0] and list(
        axis.get_lines()[0].get_ydata()
    ) == [3.0, 4.0]


def test_long_runs_mark_the_trained_length():
    curves = {
        name: {"psnr": [10.0 + i, 20.0, 21.0], "fidelity": [1.0, 0.5, 0.1 + i]}
        for i, name in enumerate(("baseline", "P"))
    }
    left, right = plots.long_runs(curves, trained=2).axes
    assert [list(line.get_ydata()) for line in left.get_lines()] == [
        [10.0, 20.0, 21.0],
        [11.0, 20.0, 21.0],
        [0, 1],
    ]
    assert list(right.get_lines()[1].get_ydata()) == [1.0, 0.5, 1.1] and list(
        right.get_lines()[2].get_xdata()
    ) == [2, 2]
    assert (left.get_xscale(), left.get_yscale(), right.get_yscale()) == ("log", "linear", "log")
