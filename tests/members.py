"""Every preconditioner that tests run over, and how each is made."""

import torch
from batteries import FOREIGN, downsampling, matrix_physics, rng, smooth_images

import dipa
from dipa import LinearPreconditioner
from dipa.operators import mri, single_pixel, super_resolution
from dipa.preconditioners import (
    ConvolutionalSteps,
    FourierSteps,
    Hessian,
    LinearSteps,
    PointwiseSteps,
    Polynomial,
    Preconditioner,
    ScalarSteps,
)

SHAPE = (1, 8, 8)


def student():
    return single_pixel(SHAPE, ratio=0.3)


def perturbed(
    physics, form: str, scale: float = 0.05, planes: bool = False
) -> LinearPreconditioner:
    """A low-rank or dense preconditioner with the same action on data gradients: identity plus
    a fixed random matrix.
    """
    dense = LinearPreconditioner.identity(physics, form="dense", planes=planes)
    n = dense.basis.dim
    dense.matrix.data += scale * torch.randn(n, n, generator=rng(0))
    if form == "dense":
        return dense
    low = LinearPreconditioner.identity(physics, form="low_rank", planes=planes)
    rows = low.basis.image(torch.eye(low.basis.dim)).flatten(1)
    low.matrix.data = dense.matrix.data @ rows.T
    return low


def with_complement(P: LinearPreconditioner, complement: float = 0.7) -> LinearPreconditioner:
    return LinearPreconditioner(P.matrix.detach(), P.basis, complement)


def shaken(P: Preconditioner, scale: float = 0.3) -> Preconditioner:
    """The same object with fixed random numbers added to its parameters, different ones in
    every iteration.
    """
    for parameter in P.parameters():
        parameter.data += scale * torch.randn(parameter.shape, generator=rng(1))
    return P


def complex_mri():
    return mri((2, 12, 10), acceleration=2)


LINEAR = {
    "linear, low rank": lambda: perturbed(student(), "low_rank"),
    "linear, dense": lambda: perturbed(student(), "dense"),
    "linear, ridge": lambda: LinearPreconditioner.ridge(student(), smooth_images(20), stepsize=0.4),
    "linear, inpainting": lambda: perturbed(FOREIGN["inpainting"](), "low_rank"),
    "linear, super-resolution": lambda: perturbed(
        super_resolution((1, 8, 8), factor=2), "low_rank"
    ),
    "linear, real MRI": lambda: perturbed(mri(SHAPE, acceleration=2), "low_rank"),
}
COMPLEMENT = {"linear, complement": lambda: with_complement(perturbed(student(), "low_rank"))}
PER_ITERATION = {
    "scalar": lambda: shaken(ScalarSteps(3)),
    "convolutional": lambda: shaken(ConvolutionalSteps(3)),
    "convolutional, 3 x 3": lambda: shaken(ConvolutionalSteps(3, size=3)),
    "pointwise": lambda: shaken(PointwiseSteps(3, SHAPE)),
    "fourier": lambda: shaken(FourierSteps(3, SHAPE)),
    "fourier, radial": lambda: shaken(FourierSteps(3, radial=True, knots=9)),
    "fourier, of other images": lambda: shaken(FourierSteps(3, (1, 5, 6))),
    "linear steps, low rank": lambda: shaken(LinearSteps.identity(student(), 3)),
    "linear steps, dense": lambda: shaken(LinearSteps.identity(student(), 3, form="dense")),
    "linear steps, complement": lambda: shaken(
        LinearSteps(3, with_complement(perturbed(student(), "low_rank")))
    ),
}
FIXED = {
    "identity": lambda: dipa.Identity(),
    "Hessian": lambda: Hessian(student(), regularization=0.1),
    "Hessian, conjugate gradients": lambda: Hessian(general(), SHAPE, regularization=0.1),
    "polynomial": lambda: Polynomial(student(), (1.0, -2.0, 0.5)),
    "polynomial, Chebyshev": lambda: Polynomial.chebyshev(downsampling(8)),
    "polynomial, l2": lambda: Polynomial.l2(FOREIGN["inpainting"]()),
}
ONE_FILTER = {
    "fourier, one": lambda: shaken(FourierSteps(1, SHAPE)),
    "fourier, one radial": lambda: shaken(FourierSteps(1, radial=True, knots=9)),
}
LEARNED = LINEAR | COMPLEMENT | PER_ITERATION | ONE_FILTER
MEMBERS = LEARNED | FIXED
# a basis or weights of one channel, on complex images: every channel an image of its own
PLANES = {
    "linear, low rank": lambda: perturbed(complex_mri(), "low_rank", planes=True),
    "linear, dense": lambda: perturbed(complex_mri(), "dense", planes=True),
    "linear, complement": lambda: with_complement(
        perturbed(complex_mri(), "low_rank", planes=True)
    ),
    "linear steps": lambda: shaken(LinearSteps.identity(complex_mri(), 3, planes=True)),
    "pointwise": lambda: shaken(PointwiseSteps(3, (1, 12, 10))),
    "scalar": lambda: shaken(ScalarSteps(3)),
    "convolutional": lambda: shaken(ConvolutionalSteps(3)),
    "fourier": lambda: shaken(FourierSteps(3, (1, 12, 10))),
    "fourier, radial": lambda: shaken(FourierSteps(3, radial=True, knots=9)),
}


def general(singular_values=None):
    """An operator with no structure that deepinv knows: its proximity operator runs conjugate
    gradients.
    """
    values = torch.linspace(0.1, 1.0, 40) if singular_values is None else singular_values
    left, right = (
        torch.linalg.qr(torch.randn(64, 64, generator=rng(seed), dtype=torch.float64))[0]
        for seed in (0, 1)
    )
    matrix = left[:, : len(values)] * values @ right[:, : len(values)].T
    return matrix_physics(matrix.float(), SHAPE)
