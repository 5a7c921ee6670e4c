"""Bases of deepinv's operators by Fourier transforms, against the dense SVD of the matrix."""

import copy

import deepinv
import pytest
import torch
from batteries import downsampling, images, relative, rng
from members import DOTS

import dipa
from dipa import linalg
from dipa.operators import (
    FourierBasis,
    HartleyBasis,
    MatrixBasis,
    PolyphaseBasis,
    plane_basis,
    range_basis,
)
from dipa.physics import data_gradient

gaussian = deepinv.physics.functional.gaussian_blur
BOX = torch.ones(1, 1, 3, 3) / 9  # zeros at frequencies that sides of 3 n have
COLOUR = torch.stack([gaussian(sigma=(0.6, 0.6), angle=0)[0, 0][:3, :3], torch.zeros(3, 3)])
COLOUR[1, 1, :2] = 0.5
COLOUR = COLOUR[None]


def circular(kernel, size, **options):
    physics = deepinv.physics.Blur(filter=kernel, padding="circular", **options)
    physics.img_size = size
    return physics


def fft(kernel, size):
    return deepinv.physics.BlurFFT(img_size=size, filter=kernel)


def down(kernel, size, factor):
    return deepinv.physics.Downsampling(
        img_size=size, filter=kernel, factor=factor, padding="circular"
    )


ODD_DOTS = torch.zeros(9, 7).index_fill(1, torch.tensor([0, 3, 4]), 1.0)
PARTS = torch.stack([DOTS, DOTS.flip(0)])  # real and imaginary parts seen at other places
FAST = {
    "box": (lambda: circular(BOX, (1, 9, 6)), HartleyBasis),
    "box, FFT": (lambda: fft(BOX, (1, 8, 12)), HartleyBasis),
    "box, odd": (lambda: fft(BOX, (1, 7, 12)), HartleyBasis),
    "Gaussian that loses its last frequencies": (
        lambda: fft(gaussian(sigma=(2.0, 1.5)), (1, 16, 17)),
        HartleyBasis,
    ),
    "by FFT in Blur": (lambda: circular(BOX, (1, 9, 6), use_fft=True), HartleyBasis),
    "channels with kernels of their own": (lambda: fft(COLOUR, (2, 8, 6)), HartleyBasis),
    "three channels": (lambda: circular(BOX, (3, 4, 9)), HartleyBasis),
    "10 times as large": (lambda: circular(10 * BOX, (1, 8, 8)), HartleyBasis),
    "the papers' downsampling": (downsampling, PolyphaseBasis),
    "downsampling, no filter": (lambda: down(None, (1, 8, 6), 2), PolyphaseBasis),
    "downsampling of a box": (lambda: down(BOX, (1, 6, 12), 2), PolyphaseBasis),
    "downsampling by 3": (lambda: down(gaussian(sigma=(1, 1)), (2, 9, 15), 3), PolyphaseBasis),
    "downsampling by 1": (lambda: down(BOX, (1, 9, 6), 1), HartleyBasis),
    "MRI": (lambda: deepinv.physics.MRI(mask=DOTS.clone()), FourierBasis),
    "MRI, odd": (lambda: deepinv.physics.MRI(mask=ODD_DOTS), FourierBasis),
    "MRI, parts apart": (lambda: deepinv.physics.MRI(mask=PARTS.clone()), FourierBasis),
}


def size_of(physics) -> tuple[int, ...]:
    return tuple(getattr(physics, "img_size", None) or physics.imsize)


def dense(physics) -> torch.Tensor:
    """The real matrix of H (m, n) in float64."""
    return linalg.dense(copy.deepcopy(physics).double().A, size_of(physics), dtype=torch.float64)


def projector(basis) -> torch.Tensor:
    return linalg.dense(basis.project, basis.img_size)


@pytest.mark.parametrize("name", FAST)
def test_the_range_is_that_of_the_svd(name):
    make, kind = FAST[name]
    physics = make()
    basis, rows = range_basis(physics), linalg.orthonormal_range(dense(physics))
    assert type(basis) is kind and basis.dim == len(rows)
    assert relative(projector(basis).double(), rows.T @ rows) < 1e-5
    x = images(2, *size_of(physics))
    gradient = data_gradient(physics, physics.A(x.flip(0)), x)
    assert relative(basis.project(gradient), gradient) < 1e-5


@pytest.mark.parametrize("name", FAST)
def test_the_planes_are_those_of_the_svd(name):
    physics = FAST[name][0]()
    size = size_of(physics)
    basis, n = plane_basis(physics), size[1] * size[2]
    rows = linalg.orthonormal_range(dense(physics).reshape(-1, n))
    assert type(basis) is not MatrixBasis and basis.dim == len(rows)
    assert basis.img_size == (1, *size[1:])
    assert relative(projector(basis).double(), rows.T @ rows) < 1e-5


@pytest.mark.parametrize("make", [range_basis, plane_basis])
@pytest.mark.parametrize("name", FAST)
def test_the_rows_are_orthonormal_and_image_is_their_transpose(name, make):
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-6)):
        physics = FAST[name][0]()
        physics = physics.double() if dtype == torch.float64 else physics
        basis = make(physics)
        eye = torch.eye(basis.dim, dtype=dtype)
        rows = basis.image(eye).flatten(1)
        assert rows.dtype == dtype
        assert (rows @ rows.T - eye).abs().max() < tolerance
        x = torch.randn(3, *basis.img_size, generator=rng(0)).to(dtype)
        assert relative(basis.coordinates(x), x.flatten(1) @ rows.T) < tolerance


@pytest.mark.parametrize("name", FAST)
def test_a_preconditioner_on_it_survives_a_file(name, tmp_path):
    physics = FAST[name][0]()
    P = dipa.LinearPreconditioner.identity(physics, size_of(physics))
    P.matrix.data += 0.1 * torch.randn(P.matrix.shape, generator=rng(0))
    again, _ = dipa.load(dipa.save(P, tmp_path / "P.safetensors"))
    x = images(2, *size_of(physics))
    assert relative(again(x, x, 1), P(x, x, 1)) < 1e-6 and again.header() == P.header()


def test_more_pixels_than_an_svd_could_take():
    for physics in (
        fft(gaussian(sigma=(1, 1)), (1, 256, 256)),
        down(gaussian(sigma=(1, 1)), (1, 256, 252), 4),
        deepinv.physics.MRI(mask=torch.ones(320, 320).index_fill(1, torch.arange(9), 0)),
    ):
        x = images(1, *size_of(physics))
        gradient = data_gradient(physics, 0 * physics.A(x), x)
        basis = range_basis(physics)
        assert relative(basis.project(gradient), gradient) < 1e-5
        if basis.dim < x.numel():
            assert relative(basis.project(x), x) > 1e-3


def test_what_does_not_commute_with_shifts_has_the_svd():
    class Shaded(deepinv.physics.Blur):
        def A(self, x, **more):
            return super().A(x, **more) * torch.linspace(0.5, 1, x.shape[-1])

    kernel = gaussian(sigma=(0.6, 0.6))[..., :3, :3]
    for physics, size in (
        (deepinv.physics.Blur(filter=kernel, padding="valid"), (1, 6, 6)),
        (deepinv.physics.Blur(filter=kernel, padding="reflect"), (1, 6, 6)),
        (Shaded(filter=kernel, padding="circular"), (1, 6, 6)),
        (down(kernel, (2, 6, 6), 2).double(), (2, 6, 6)),
    ):
        basis = range_basis(physics, size)
        assert isinstance(basis, (MatrixBasis, PolyphaseBasis))
        matrix = (
            linalg.dense(copy.deepcopy(physics).double().A, size, dtype=torch.float64)
            if not isinstance(physics, Shaded)
            else linalg.dense(physics.A, size).double()
        )
        rows = linalg.orthonormal_range(matrix)
        assert relative(projector(basis.float()).double(), rows.T @ rows) < 1e-4
    two = torch.stack([kernel[0, 0], kernel[0, 0].roll(1, 0) + 0.1])[None]
    physics = down(two, (2, 6, 6), 2)
    assert type(range_basis(physics)) is PolyphaseBasis
    planes = plane_basis(physics)
    rows = linalg.orthonormal_range(dense(physics).reshape(-1, 36))
    assert type(planes) is MatrixBasis and planes.dim == len(rows) > 9, "each aliases in its way"
