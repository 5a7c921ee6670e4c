"""``dipa.inspect`` beside what is known of an operator: spectra, closed forms, masks."""

import dataclasses
import json
import math

import pytest
import torch
from batteries import downsampling, images, inpainting, matrix_physics, refuses, rng
from deepinv import physics as dp

import dipa
from dipa.analysis import inspection, singular
from dipa.analysis.forms import Known, Room, recommend
from dipa.analysis.singular import Spectrum
from dipa.operators import mri, single_pixel

# deepinv's own, of a stack that it makes here
pytestmark = pytest.mark.filterwarnings("ignore:At least one input physics is:UserWarning")
GREY = (1, 8, 8)
BLUR = dp.functional.gaussian_blur(sigma=(1, 1))


def functions(forward, backward) -> dp.LinearPhysics:
    return dp.LinearPhysics(A=lambda x, **_: forward(x), A_adjoint=lambda y, **_: backward(y))


def with_values(values: list[float], n: int = 64, rows: int = 40) -> torch.Tensor:
    """A random float64 matrix (rows, n) with these singular values and zeros."""
    left, right = (
        torch.linalg.qr(torch.randn(side, side, generator=rng(side), dtype=torch.float64))[0]
        for side in (rows, n)
    )
    k = len(values)
    return left[:, :k] @ torch.tensor(values, dtype=torch.float64).diag() @ right[:, :k].T


def as_lanczos(monkeypatch) -> None:
    """Whatever the size, as if a matrix were too large."""
    monkeypatch.setattr(inspection, "MAX_PIXELS", 0)


@pytest.mark.parametrize("values", [[3.0, 2.0, 0.5], [1.0] * 7, [5.0, 1e-3], [2.0]])
def test_a_matrix_of_known_spectrum(values):
    physics = matrix_physics(with_values(values), GREY)
    found = dipa.inspect(physics, images=images(2, *GREY, dtype=torch.float64))
    spectrum = found.spectrum
    assert spectrum.squared_norm == pytest.approx(max(values) ** 2, rel=1e-9)
    assert spectrum.condition_number == pytest.approx(max(values) / min(values), rel=1e-6)
    assert spectrum.rank == len(values) and spectrum.rank_exact and spectrum.condition_exact
    assert found.null_share == (64 - len(values)) / 64
    assert found.stepsize == pytest.approx(1 / max(values) ** 2)
    assert found.projector == (len(set(values)) == 1)
    assert (found.dtype, found.measured, found.pixels) == ("float64", ((40,),), 64)
    assert found.adjoint_holds and found.adjoint < 1e-12 and found.linearity < 1e-12


def test_more_measurements_than_pixels_and_values_that_count_as_zero():
    tall = with_values([2.0, 1.0, 1e-8], n=16, rows=50)
    found = dipa.inspect(matrix_physics(tall, (1, 4, 4)), images=images(1, 1, 4, 4).double())
    assert (found.spectrum.rank, found.spectrum.condition_number) == (2, pytest.approx(2.0))
    single = matrix_physics(with_values([2.0, 1.0, 1e-5]).float(), GREY)
    assert dipa.inspect(single, GREY).spectrum.rank == 2, "below the rounding of float32"


@pytest.mark.parametrize("large", [False, True])
def test_a_circular_blur_has_the_spectrum_of_its_filter(large, monkeypatch):
    if large:
        as_lanczos(monkeypatch)
    physics = dp.Blur(filter=BLUR, padding="circular")
    kernel = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    kernel[0, 0, 0, 0] = 1
    gains = torch.fft.fft2(dp.Blur(filter=BLUR.double(), padding="circular").A(kernel)).abs()
    found = dipa.inspect(physics, (1, 16, 16))
    assert found.shift_invariant and not found.projector
    assert ("Fourier" in found.spectrum.how) == large
    assert found.spectrum.squared_norm == pytest.approx(gains.max().item() ** 2, rel=1e-6)
    expected = (gains.max() / gains.min()).item()
    assert found.spectrum.condition_number == pytest.approx(expected, rel=1e-3)
    assert found.spectrum.rank == 256 and found.recommended.form == "Fourier"


@pytest.mark.parametrize("large", [False, True])
def test_channels_that_are_mixed_at_each_frequency(large, monkeypatch):
    """H = mixing (2, 2) after a blur: singular values are products of both."""
    if large:
        as_lanczos(monkeypatch)
    mix = torch.tensor([[2.0, 1.0], [0.0, 1.0]])
    blur = dp.Blur(filter=BLUR, padding="circular")
    physics = functions(
        lambda x: torch.einsum("ij,bjhw->bihw", mix.to(x), blur.to(x.dtype).A(x)),
        lambda y: blur.to(y.dtype).A_adjoint(torch.einsum("ij,bihw->bjhw", mix.to(y), y)),
    )
    found = dipa.inspect(physics, (2, 8, 8))
    single = dipa.inspect(blur.float(), GREY).spectrum
    values = torch.linalg.svdvals(mix)
    assert found.shift_invariant and not found.channels_alone and not found.channels_alike
    assert found.spectrum.squared_norm == pytest.approx(
        single.squared_norm * values[0].item() ** 2, rel=1e-5
    )
    ratio = (values[0] / values[1]).item()
    assert found.spectrum.condition_number == pytest.approx(
        single.condition_number * ratio, rel=1e-3
    )


@pytest.mark.parametrize("large", [False, True])
def test_inpainting_sees_what_its_mask_keeps(large, monkeypatch):
    if large:
        as_lanczos(monkeypatch)
    found = dipa.inspect(inpainting())
    kept = int(inpainting().mask.sum())
    assert found.spectrum.squared_norm == pytest.approx(1.0)
    assert found.spectrum.condition_number == pytest.approx(1.0) and found.projector
    assert found.spectrum.rank == kept if not large else abs(found.spectrum.rank - kept) < 8
    assert found.spectrum.rank_exact == (not large)
    assert found.recommended.form == "low rank" and not found.shift_invariant


def test_planes_are_told_from_channels_that_differ():
    mask = torch.ones(3, 8, 8)
    mask[:, ::2] = 0
    found = dipa.inspect(dp.Inpainting((3, 8, 8), mask=mask))
    assert found.channels_alone and found.channels_alike and found.recommended.form == "planes"
    mask[1, 1] = 0
    found = dipa.inspect(dp.Inpainting((3, 8, 8), mask=mask))
    assert found.channels_alone and not found.channels_alike
    assert found.recommended.form == "low rank"
    found = dipa.inspect(dp.Decolorize(), (3, 8, 8))
    assert not found.channels_alone and found.spectrum.rank == 64


def test_single_pixel_and_mri():
    camera = single_pixel((1, 16, 16), ratio=0.3, noise_sigma=0.1)
    found = dipa.inspect(camera)
    assert found.spectrum.rank == camera.range_basis().dim and found.projector
    assert found.spectrum.condition_number == pytest.approx(1.0, abs=1e-5)
    assert found.noise == ("Gaussian",) and found.noise_levels == {"sigma": pytest.approx(0.1)}
    assert found.noise_share is None
    resonance = mri((2, 12, 10), acceleration=2)
    found = dipa.inspect(resonance)
    assert found.spectrum.rank == resonance.range_basis().dim and found.projector
    assert found.shift_invariant and found.recommended.form == "low rank"
    whole = dipa.inspect(mri((2, 6, 8), acceleration=1))
    assert (whole.recommended.form, whole.null_share) == ("none", 0.0)


def test_downsampling_beside_its_singular_values(monkeypatch):
    physics = downsampling(16)
    values = torch.linalg.svdvals(
        singular.matrix(downsampling(16).double(), (1, 16, 16), torch.empty(0).double())
    )
    found = dipa.inspect(physics)
    assert found.spectrum.squared_norm == pytest.approx(values[0].item() ** 2, rel=1e-6)
    assert found.spectrum.condition_number == pytest.approx((values[0] / values[-1]).item(), 1e-5)
    assert (found.spectrum.rank, found.shift_invariant) == (64, False)
    as_lanczos(monkeypatch)
    bounds = dipa.inspect(physics).spectrum
    assert bounds.squared_norm == pytest.approx(values[0].item() ** 2, rel=1e-4)
    assert 1 < bounds.condition_number <= found.spectrum.condition_number * (1 + 1e-4)
    assert (bounds.rank, bounds.rank_exact) == (64, True) and "own basis" in bounds.how


def test_a_smooth_filter_before_a_downsampling_is_not_taken_for_a_filter():
    """What it lets through commutes with shifts up to 1e-3; its rank does not."""
    found = dipa.inspect(dp.Downsampling((1, 32, 32), filter="gaussian", factor=2))
    assert not found.shift_invariant and found.spectrum.rank <= 256


@pytest.mark.parametrize("side", [(8, 1), (1, 8)])
def test_both_axes_are_shifted(side):
    weights = torch.linspace(1, 2, 8).reshape(1, 1, *side)
    found = dipa.inspect(functions(lambda x: weights.to(x) * x, lambda y: weights.to(y) * y), GREY)
    assert not found.shift_invariant and found.spectrum.condition_number == pytest.approx(2.0)


def test_lanczos_beside_the_eigenvalues():
    values = torch.linspace(0.1, 2, 64).double()
    ritz, weights, ended = singular.lanczos(
        lambda v: v * values, torch.ones(64, dtype=torch.float64), 64
    )
    assert torch.allclose(ritz, values, atol=1e-8) and torch.allclose(
        weights, torch.full((64,), 1 / 64).double(), atol=1e-8
    )
    few, _, whole = singular.lanczos(
        lambda v: v * values.round(), torch.ones(64, dtype=torch.float64), 64
    )
    assert whole and torch.allclose(few, torch.tensor([0.0, 1.0, 2.0]).double(), atol=1e-8)
    first, _, stopped = singular.lanczos(
        lambda v: v * values, torch.ones(64, dtype=torch.float64), 5
    )
    assert len(first) == 5 and not stopped and first.max() <= 2 and first.min() >= 0.1


def test_an_operator_too_slow_for_estimates_says_so():
    found = singular.by_lanczos(inpainting(), GREY, torch.empty(0), seconds=10.0)
    assert found.rank is None and "not computed: a product takes 10 s" in found.how


def test_a_wrong_adjoint_is_told_and_nothing_is_recommended():
    right = dp.Tomography(angles=12, img_width=16, normalize=False)
    found = dipa.inspect(functions(right.A, right.fbp), (1, 16, 16))
    assert not found.adjoint_holds and found.adjoint > 0.1
    assert found.recommended.form == "none" and "not the adjoint" in found.recommended.reasons[0]
    exact = dipa.inspect(right, (1, 16, 16))
    assert exact.adjoint_holds and exact.recommended.form == "low rank"
    assert found.spectrum.squared_norm == pytest.approx(exact.spectrum.squared_norm, rel=1e-5), (
        "its matrix is that of A alone"
    )
    assert "WRONG" in str(found) and "not looked at" in str(found)


def test_large_operators_with_a_wrong_adjoint_have_no_spectrum(monkeypatch):
    as_lanczos(monkeypatch)
    found = dipa.inspect(functions(lambda x: x, lambda y: y.flip(-1)), GREY)
    assert found.spectrum == singular.NOTHING and found.stepsize is found.null_share is None
    assert "not computed" in str(found)


@pytest.mark.parametrize(
    ("physics", "words"),
    [
        (functions(torch.abs, lambda y: y), ("LinearPhysics", "a linear operator")),
        (
            functions(lambda x: x * (torch.rand_like(x) > 0.5), lambda y: y),
            ("changes at every call", "a fixed operator"),
        ),
        (dp.Haze(), ("Haze", "a deepinv LinearPhysics")),
        (3, ("int", "a deepinv LinearPhysics")),
        (dp.Inpainting(GREY, mask=images(4, *GREY).round()), ("made for 4 images",)),
        (functions(lambda x: x, lambda y: y * 1j), ("an operator on real images",)),
        (dp.Inpainting((1, 5, 8), mask=torch.ones(1, 5, 8)), ("images (1, 8, 8)",)),
    ],
)
def test_what_is_no_linear_operator_is_refused(physics, words):
    refuses(lambda: dipa.inspect(physics, GREY), "physics", *words)


def test_bad_sizes_and_images_are_refused():
    nameless = dp.Blur(filter=BLUR, padding="circular")
    refuses(lambda: dipa.inspect(nameless), "img_size", "(C, H, W)")
    refuses(lambda: dipa.inspect(nameless, (8, 8)), "img_size")
    refuses(lambda: dipa.inspect(nameless, GREY, images=images(1, 1, 4, 4)), "images.shape")
    refuses(lambda: dipa.inspect(nameless, images=images(8, 8)), "images.shape")
    refuses(lambda: dipa.inspect(nameless, images=images(1, *GREY) * torch.nan), "images")


def test_complex_measurements_are_two_real_ones_each():
    """y = B x: the rank of Re(B^H B) is that of the rows of Re B and Im B."""
    matrix = torch.randn(5, 64, dtype=torch.complex128, generator=rng(0))
    physics = functions(
        lambda x: x.flatten(1).to(matrix) @ matrix.T,
        lambda y: (y @ matrix.conj()).real.reshape(-1, *GREY),
    )
    found = dipa.inspect(physics, images=images(1, *GREY).double())
    values = torch.linalg.svdvals(torch.cat([matrix.real, matrix.imag]))
    assert (found.spectrum.rank, found.measured) == (10, ((5,),)) and found.adjoint_holds
    assert found.spectrum.squared_norm == pytest.approx(values[0].item() ** 2)
    assert found.spectrum.condition_number == pytest.approx((values[0] / values[-1]).item())


def test_several_tensors_of_measurements():
    noisy = dp.Inpainting(GREY, mask=inpainting().mask, noise_model=dp.GaussianNoise(0.2))
    found = dipa.inspect(dp.stack(noisy, dp.Denoising(dp.PoissonNoise(0.1))), GREY)
    assert found.measured == (GREY, GREY) and found.adjoint_holds
    assert found.spectrum.squared_norm == pytest.approx(2.0, rel=1e-6)
    assert found.spectrum.condition_number == pytest.approx(math.sqrt(2), rel=1e-6)
    assert found.noise == ("GaussianNoise", "PoissonNoise")
    assert found.noise_levels == {"sigma": pytest.approx(0.2), "gain": pytest.approx(0.1)}


def test_noise_is_told_relative_to_what_is_measured():
    physics, x = dp.Denoising(dp.GaussianNoise(0.1)), images(4, 1, 32, 32) + 1
    before = torch.random.get_rng_state()
    found = dipa.inspect(physics, images=x)
    assert torch.equal(before, torch.random.get_rng_state())
    assert found.noise_share == pytest.approx(0.1 / x.square().mean().sqrt().item(), rel=0.05)
    assert found.noise_share == dipa.inspect(physics, images=x).noise_share
    silent = dipa.inspect(dp.Denoising(dp.ZeroNoise()), images=x)
    assert silent.noise == ("none",) and silent.noise_share is None and not silent.noise_levels


def test_an_operator_that_measures_nothing():
    found = dipa.inspect(functions(torch.zeros_like, torch.zeros_like), GREY)
    assert (found.spectrum.rank, found.spectrum.condition_number) == (0, None)
    assert found.stepsize is None and found.recommended.form == "none" and "H is zero" in str(found)


def test_seconds_are_those_of_one_application(monkeypatch):
    ticks = iter(range(100))
    monkeypatch.setattr(inspection.time, "perf_counter", lambda: float(next(ticks) ** 2))
    assert inspection._seconds(lambda: None, torch.device("cpu")) == 13.0  # of 5, 9, 13, 17, 21


def test_the_memory_of_each_form():
    room = Room.of((3, 4, 5), 7, torch.empty(0, dtype=torch.float64))
    assert (room.dense, room.low_rank, room.planes) == (60 * 60 * 8, 60 * 7 * 8, 20 * 20 * 8)
    assert room.free > 2**20
    tight = dataclasses.replace(room, free=8 * 3200)
    assert tight.fits(3200) and not tight.fits(3201) and not tight.fits(None)


@pytest.mark.parametrize(
    ("free", "rank", "form"),
    [(10**9, 10, "low rank"), (10**9, 64, "dense"), (1000, 10, "network"), (10**9, None, "dense")],
)
def test_the_form_follows_rank_and_memory(free, rank, form):
    spectrum = Spectrum(1.0, 10.0, True, rank, True, "")
    room = dataclasses.replace(Room.of(GREY, rank, torch.empty(0)), free=free)
    known = Known(GREY, spectrum, sound=True, shifts=False, projector=False, alike=True)
    assert recommend(known, room).form == form
    filtered = recommend(dataclasses.replace(known, shifts=True), room)
    assert filtered.form == "Fourier"
    without = recommend(dataclasses.replace(known, coordinates=False), room)
    assert without.form == ("dense" if form == "low rank" else form)


@pytest.mark.parametrize("side", [64, 72])
def test_a_form_that_is_recommended_can_be_made(side):
    """Of 72 x 72 pixels seen through holes nobody knows coordinates of the range."""
    physics = dp.Inpainting((1, side, side), mask=0.01, rng=rng(0))
    form = dipa.inspect(physics).recommended.form
    assert form == ("low rank" if side == 64 else "dense")
    P = dipa.LinearPreconditioner.identity(physics, form=form.replace(" ", "_"))
    gradient = torch.ones(1, 1, side, side)
    assert P(gradient, gradient, 1).shape == gradient.shape


def test_the_report_and_its_plain_values():
    found = dipa.inspect(single_pixel(GREY, ratio=0.5))
    lines = str(found).splitlines()
    assert lines[0] == "SinglePixel: images (1, 8, 8), measurements (1, 8, 8) (float32 on cpu)"
    assert len({line.index(line[22:].lstrip(), 22) for line in lines[1:12]}) == 1, "aligned"
    assert all(word in str(found) for word in ("32 of n = 64", "50.0 % is null space", "1/L = 1"))
    plain = json.loads(json.dumps(found.plain(), allow_nan=False))
    assert plain == found.plain() and plain["spectrum"]["rank"] == 32
    assert (plain["null_share"], plain["img_size"]) == (0.5, [1, 8, 8])
    assert {field.name for field in dataclasses.fields(found)} < set(plain)
