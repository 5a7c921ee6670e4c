"""Figures show the numbers they are given, on the promised scales."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest

from dipa import plots


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    images = {role: rng.random((3, 1, 8, 8)).astype(np.float32) for role in ("truth", *plots.ROLES)}
    return images | {f"{role}_iterates": rng.random((4, 1, 1, 8, 8)).astype(np.float32) for role in plots.ROLES}


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
    assert any(np.allclose(values, np.abs(examples["teacher"][1, 0] - examples["truth"][1, 0])) for values in shown)


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
    assert plots.matrix(np.eye(200), "P", zoom=64).axes[0].get_images()[0].get_array().shape == (64, 64)
    assert len(plots.compare({"a": [1, 2], "b": [2, 3]}).axes[0].get_lines()) == 2
    assert list(plots.denoiser_training([[1, 40.0], [2, 41.0]]).axes[0].get_lines()[0].get_ydata()) == [40.0, 41.0]
