"""Filters in the Fourier domain, against dense matrices and functions of the frequency."""

import math

import pytest
import torch
from batteries import images, refuses, relative, rng

import dipa
from dipa import linalg
from dipa.preconditioners import FourierSteps
from dipa.training import Differentiation, differentiate

OWN = [(1, 8, 8), (1, 7, 9), (1, 6, 7), (1, 9, 4), (1, 1, 1), (1, 2, 3)]
OTHER = [(1, 8, 8), (1, 5, 7), (1, 12, 6), (1, 1, 4)]


def shaken(P: FourierSteps, seed: int = 1) -> FourierSteps:
    P.double().steps.data += torch.randn(P.steps.shape, generator=rng(seed)).double()
    return P


def whole(P: FourierSteps, height: int, width: int, k: int = 1) -> torch.Tensor:
    """The filter on all frequencies of ``torch.fft.fft2``, from the direction of one bright
    pixel.
    """
    point = torch.zeros(1, 1, height, width, dtype=torch.float64)
    point[..., 0, 0] = 1
    return torch.fft.fft2(P(point, point, k))[0, 0].detach()


def frequency(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    return rows[:, None].expand(height, width), columns.expand(height, width)


@pytest.mark.parametrize("size", OWN)
@pytest.mark.parametrize("radial", [False, True])
def test_it_is_a_real_symmetric_matrix_diagonal_in_the_fourier_domain(size, radial):
    """Of images of its own size and of any other: F P F^-1 is diagonal, and the diagonal is
    what ``response`` says.
    """
    P = shaken(FourierSteps(2, size, radial=radial, knots=5))
    for sides in (size, *OTHER):
        matrix = linalg.dense(lambda x: P(x, x, 2), sides, dtype=torch.float64).detach()
        assert (matrix - matrix.T).abs().max() < 1e-12
        n = sides[1] * sides[2]
        delta = torch.eye(n, dtype=torch.complex128).reshape(n, *sides[1:])
        F = torch.fft.fft2(delta, norm="ortho").reshape(n, n).T
        spectrum = F @ matrix.to(F) @ F.conj().T
        diagonal = spectrum.diagonal()
        assert (spectrum - diagonal.diag()).abs().max() < 1e-12
        half = diagonal.reshape(sides[1:])[:, : sides[2] // 2 + 1]
        assert relative(half, P.response(2, *sides[1:]).detach().to(half)) < 1e-12


@pytest.mark.parametrize("size", [(1, 8, 8), (1, 7, 9), (1, 6, 5)])
def test_the_numbers_of_its_own_size_are_its_response(size):
    """Each frequency that rfft2 lists once has its own number; of those it lists twice, the
    mean.
    """
    P = shaken(FourierSteps(1, size))
    numbers, response = P.steps[0].detach(), P.response(1, *size[1:]).detach()
    inner = slice(1, (size[2] + 1) // 2)
    assert torch.equal(response[:, inner], numbers[:, inner])
    for i in range(size[1]):
        mean = (numbers[i, 0] + numbers[-i % size[1], 0]) / 2
        assert response[i, 0] == pytest.approx(mean.item(), rel=1e-12)


def test_a_radial_filter_is_one_function_on_images_of_any_size():
    """Linear between equidistant knots from 0 to the corner, by numpy's own interpolation."""
    P = shaken(FourierSteps(3, radial=True, knots=7))
    knots = torch.linspace(0, math.sqrt(0.5), 7, dtype=torch.float64)
    for height, width in ((8, 8), (32, 20), (7, 9), (3, 64)):
        radius = torch.hypot(*frequency(height, width))
        for k in (1, 3):
            values = P.steps[k - 1].detach()
            lower = (radius[..., None] >= knots[1:-1]).sum(-1)
            part = (radius - knots[lower]) / (knots[1] - knots[0])
            expected = values[lower] + part * (values[lower + 1] - values[lower])
            assert relative(whole(P, height, width, k).real, expected) < 1e-12


@pytest.mark.parametrize("own", [(16, 16), (15, 17), (16, 11)])
def test_a_filter_of_another_size_is_interpolated_in_frequency(own):
    """Linear between the frequencies of its own size: w(omega) = 2 + cos(2 pi omega_y) cos(4 pi
    omega_x) is met to the second order, at the frequencies both sizes have to rounding.
    """

    def truth(height: int, width: int) -> torch.Tensor:
        rows, columns = frequency(height, width)
        return 2 + torch.cos(2 * math.pi * rows) * torch.cos(4 * math.pi * columns)

    P = FourierSteps(1, (1, *own)).double()
    P.steps.data[0] = truth(*own)[:, : own[1] // 2 + 1]
    for sides in ((48, 48), (31, 50), (9, 8)):
        error = (whole(P, *sides) - truth(*sides)).abs().max()
        assert error < 1.1 * (2 * math.pi) ** 2 / 8 * (1 / own[0] ** 2 + 4 / own[1] ** 2)
    double = whole(P, 2 * own[0], 2 * own[1])[::2, ::2]
    assert relative(double.real, truth(2 * own[0], 2 * own[1])[::2, ::2]) < 1e-12


def test_channels_are_filtered_alone_and_alike():
    P, x = shaken(FourierSteps(2, (3, 8, 6))), images(2, 3, 8, 6, dtype=torch.float64)
    alone = torch.cat([P(x[:, c : c + 1], x, 2) for c in range(3)], dim=1)
    assert relative(P(x, x, 2), alone) < 1e-12
    assert P.img_size == (1, 8, 6) and P.parameter_count == 2 * 8 * 4


def test_one_filter_or_one_an_iteration():
    one, three = FourierSteps(1, (1, 8, 8)), FourierSteps(3, (1, 8, 8))
    assert not one.traits.iteration_dependent and three.traits.iteration_dependent
    assert FourierSteps(20, radial=True).parameter_count == 20 * 33
    differentiate.check(Differentiation("jacobian_free"), one, 4)
    refuses(
        lambda: differentiate.check(Differentiation("jacobian_free"), three, 4),
        "differentiation.way",
        "FourierSteps",
    )


def test_doors():
    refuses(lambda: FourierSteps(1), "img_size", "None")
    refuses(lambda: FourierSteps(1, (8, 8)), "img_size", "(8, 8)")
    refuses(lambda: FourierSteps(1, radial=True, knots=1), "knots", "1", "[2,")
    refuses(lambda: FourierSteps(1, (1, 8, 8), radial=1), "radial", "True or False")
    refuses(lambda: FourierSteps(2, (1, 2**20, 2**20)), "img_size", "at most")
    x = images(1, 1, 8, 8)
    refuses(lambda: FourierSteps(1, (1, 8, 8)).check(x.double()), "preconditioner", "float32")
    refuses(
        lambda: FourierSteps(1, (1, 6, 6)).normal_equations(x, x),
        "(1, 1, 8, 8)",
        "own size",
        "(6, 6)",
    )
    assert dipa.FourierSteps is FourierSteps
