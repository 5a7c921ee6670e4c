"""Combined steps against dense matrices: polynomials of the Gram, Gaussians, means of channels."""

import math

import deepinv
import numpy as np
import pytest
import torch
from batteries import refuses, smooth_images, tiny_denoiser
from members import images, shaken

import dipa
from dipa import linalg
from dipa.operators import single_pixel
from dipa.preconditioners import CombinedSteps

SIZE = (2, 6, 8)


def blur(gain: float = 1.5) -> deepinv.physics.BlurFFT:
    """An operator with a spectrum of many values, L = gain^2, on images of SIZE."""
    kernel = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    return deepinv.physics.BlurFFT(SIZE, filter=gain * kernel / kernel.sum()).double()


def gaussian(width: float, side: int) -> np.ndarray:
    """The periodic Gaussian of one axis as a dense matrix, by its Fourier series."""
    frequencies = np.fft.fftfreq(side)
    row = np.fft.ifft(np.exp(-2 * (math.pi * width * frequencies) ** 2)).real
    return np.stack([np.roll(row, shift) for shift in range(side)])


def dense(P: CombinedSteps, gram: np.ndarray, norm: float, k: int) -> np.ndarray:
    """P from its parts, each as a matrix on flattened images of SIZE."""
    channels, height, width = SIZE
    n = math.prod(SIZE)
    argument = 2 / norm * gram - np.eye(n)
    powers = [np.polynomial.chebyshev.chebval(0, [1]) * np.eye(n), argument]
    while len(powers) <= P.degree:
        powers.append(2 * argument @ powers[-1] - powers[-2])
    smooth = [np.eye(n)] + [
        np.kron(np.eye(channels), np.kron(gaussian(w, height), gaussian(w, width)))
        for w in P.widths
    ]
    mean = np.kron(np.full((channels, channels), 1 / channels), np.eye(height * width))
    weights = P.step(k).detach().numpy()
    whole = np.zeros((n, n))
    for m, j, i in np.ndindex(*weights.shape):
        after = mean if m else np.eye(n)
        whole += weights[m, j, i] * after @ smooth[i] @ powers[j]
    return whole


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("widths", [(), (0.6, 2.0)])
@pytest.mark.parametrize("mixed", [False, True])
def test_it_is_the_sum_of_its_parts(degree, widths, mixed):
    physics = blur()
    P = shaken(CombinedSteps(2, degree=degree, widths=widths, mixed=mixed).double())
    A = linalg.dense(physics.A, SIZE, device="cpu", dtype=torch.float64).numpy()
    norm = dipa.physics.lipschitz(physics, SIZE, torch.empty(0, dtype=torch.float64))
    g = images(3, *SIZE, dtype=torch.float64)
    for k in (1, 2, 5):
        wanted = g.flatten(1).numpy() @ dense(P, A.T @ A, norm, k).T
        got = P.on(physics)(g, g, k).detach().flatten(1).numpy()
        assert np.allclose(got, wanted, atol=1e-9)


@pytest.mark.parametrize("mixed", [False, True])
def test_its_closed_form_is_least_squares_on_its_own_directions(mixed):
    physics, K = blur(), 2
    P = CombinedSteps(K, degree=2, widths=(1.0,), mixed=mixed).double().on(physics)
    given, wanted = images(4, *SIZE, dtype=torch.float64), images(4, *SIZE, dtype=torch.float64) - 1
    columns = []
    for j in range(P.steps[0].numel()):
        unit = torch.zeros(P.steps[0].numel(), dtype=torch.float64)
        unit[j] = 1
        P.steps.data[:] = unit.reshape_as(P.steps[0])
        columns.append(P(given, given, 1).detach().flatten().numpy())
    best = np.linalg.lstsq(np.stack(columns, axis=1), wanted.flatten().numpy(), rcond=None)[0]
    gram, right = P.normal_equations(wanted, given)
    found = P.solution(gram, right, 0.0).flatten().numpy()
    assert np.allclose(np.stack(columns, 1) @ found, np.stack(columns, 1) @ best, atol=1e-8)


def test_it_starts_as_the_identity_and_has_no_units():
    g = images(2, *SIZE, dtype=torch.float64)
    assert torch.equal(CombinedSteps(3).double().on(blur())(g, g, 1), g)
    P = shaken(CombinedSteps(1)).double()
    a, b = (P.on(operator)(g, g, 1) for operator in (blur(), blur(7.0)))
    assert torch.allclose(a, b, atol=1e-5)


def test_its_weights_are_shared_and_a_solver_says_which_operator():
    one, other = (single_pixel((1, 8, 8), ratio=ratio) for ratio in (0.3, 0.6))
    P = shaken(CombinedSteps(4))
    P.on(one).steps.data[0] += 1
    assert P.on(other).steps is P.steps
    assert set(P.on(one).state_dict()) == {"steps"} and P.parameter_count == 4 * 5 * 6
    solver = dipa.FISTA(prior=dipa.PnP(lambda x, sigma: x), iterations=2)
    y = other.A(images(2, 1, 8, 8))
    runs = [solver(y, other, preconditioner=p, stepsize=0.1).x for p in (P, P.on(other), P.on(one))]
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])
    model = dipa.to_deepinv(solver, P, other, stepsize=0.1)
    assert torch.allclose(model(y, other), runs[0], atol=1e-6)


def test_what_is_saved_is_the_weights(tmp_path):
    P = shaken(CombinedSteps(3, degree=2, widths=(0.5, 4.0), mixed=True))
    again, _ = dipa.load(dipa.save(P, tmp_path / "P.safetensors"))
    g, physics = images(2, 1, 8, 8), single_pixel((1, 8, 8), ratio=0.3)
    assert again.widths == (0.5, 4.0) and again.degree == 2 and again.mixed
    assert torch.equal(again.on(physics)(g, g, 3), P.on(physics)(g, g, 3))


def test_what_it_refuses():
    g = images(1, 1, 8, 8)
    refuses(lambda: CombinedSteps(1)(g, g, 1), "preconditioner", "P.on(physics)")
    refuses(lambda: CombinedSteps(1, degree=9), "degree", "9", "[0, 8]")
    refuses(lambda: CombinedSteps(1, widths=(1.0, 0.0)), "widths", "0")
    refuses(lambda: CombinedSteps(1, widths=range(1, 40)), "widths", "32")
    refuses(lambda: CombinedSteps(1, mixed=1), "mixed", "True or False")
    refuses(lambda: CombinedSteps(1).on(7), "physics", "LinearPhysics")
    assert CombinedSteps(1, degree=0)(g, g, 1).shape == g.shape


def test_what_was_fitted_is_refined_by_training():
    """The best of the looks at held-out images is kept, the fit among them."""
    physics, x = single_pixel((1, 8, 8), ratio=0.4), smooth_images(40)
    solver = dipa.FISTA(prior=dipa.PnP(tiny_denoiser()), iterations=4, start="zero")
    P = dipa.fit_steps(CombinedSteps(4, degree=1, widths=(1.0,)), solver, physics, x).preconditioner
    before = P.steps.detach().clone()
    fit = dipa.distill(
        solver,
        P,
        physics,
        None,
        x,
        losses=dipa.LossWeights(supervised=1.0),
        budget=dipa.Budget(steps=60, batch_size=8, learning_rate=1e-3),
        validation=0.25,
        progress=False,
    )
    looks = dict(fit.record["validation"]["looks"])
    assert max(looks.values()) > looks[0] and not torch.equal(P.steps, before)
    assert fit.record["worth"]["trained"] == pytest.approx(max(looks.values()), abs=1e-4)
    assert P.setting["iterations"] == 4
