"""Every member that tests run over, of every list, and how each is made: a new one is entered here
and is then tested everywhere. What has a registry in the package is taken from there;
``test_members.py`` compares the others with it.
"""

import deepinv
import torch
from batteries import downsampling, images, inpainting, matrix_physics, rng, smooth_images

import dipa
from dipa import LinearPreconditioner, losses, networks
from dipa.experiments import problem
from dipa.operators import ORDERINGS, mri, mri_pair, single_pixel, super_resolution
from dipa.preconditioners import (
    CombinedSteps,
    ComposedPreconditioner,
    ConvolutionalSteps,
    FourierSteps,
    Hessian,
    LinearSteps,
    NeuralPreconditioner,
    Nystrom,
    PointwiseSteps,
    Polynomial,
    Preconditioner,
    ScalarSteps,
)

SHAPE = (1, 8, 8)

# --- operators ------------------------------------------------------------------------------------

SINGLE_PIXEL = {
    ordering: lambda ordering=ordering: single_pixel((1, 16, 16), ratio=0.3, ordering=ordering)
    for ordering in ORDERINGS
}
SINGLE_PIXEL |= {
    "wide": lambda: single_pixel((1, 8, 16), ratio=0.3, ordering="zig_zag"),
    "tall": lambda: single_pixel((1, 16, 4), ratio=0.3, ordering="sequency_rows"),
    "three channels": lambda: single_pixel((3, 8, 8), ratio=0.4),
    "noisy": lambda: single_pixel((1, 8, 8), ratio=0.5, noise_sigma=0.1),
    "one measurement": lambda: single_pixel((1, 8, 8), ratio=1e-6),
    "complete": lambda: single_pixel((1, 8, 8), ratio=1.0),
}

DOTS = (
    torch.ones(12, 10)
    .index_fill(1, torch.tensor([0, 3, 4, 9]), 0)
    .index_fill(0, torch.tensor([1, 2, 7]), 0)
)
MRI = {
    "MRI": lambda: mri((2, 12, 10), acceleration=2),
    "MRI, odd": lambda: mri((2, 9, 7), acceleration=3),
    "MRI, every column": lambda: mri((2, 6, 8), acceleration=1),
    "MRI, noisy": lambda: mri((2, 8, 8), acceleration=2, noise_sigma=0.1),
    "MRI, any mask": lambda: mri((2, 12, 10), mask=DOTS),
    "MRI, nested teacher": lambda: mri_pair((2, 8, 25), acceleration=8, teacher_acceleration=7)[1],
    "real MRI": lambda: mri((1, 12, 16), acceleration=3),
    "real MRI, odd": lambda: mri((1, 9, 7), acceleration=2),
    "real MRI, any mask": lambda: mri((1, 12, 10), mask=DOTS),
}
SUPER_RESOLUTION = {
    "super-resolution": lambda: super_resolution((1, 16, 16), factor=2),
    "super-resolution, blur alone": lambda: super_resolution((1, 12, 11), factor=1),
    "super-resolution, odd": lambda: super_resolution((1, 13, 11), factor=4),
    "super-resolution, complex": lambda: super_resolution((2, 10, 9), factor=4),
    "super-resolution, colour": lambda: super_resolution((3, 9, 12), factor=3),
    "super-resolution, noisy": lambda: super_resolution((1, 8, 8), factor=2, noise_sigma=0.1),
}
# by the name of the task that makes one
FAMILIES = {"single_pixel": SINGLE_PIXEL, "mri": MRI, "super_resolution": SUPER_RESOLUTION}
OURS = {name: make for family in FAMILIES.values() for name, make in family.items()}
# too large for dense matrices: checks without them
LARGE = {
    "single pixel, 128": lambda: single_pixel((1, 128, 128), ratio=0.2),
    "MRI, 50": lambda: mri((2, 50, 50), acceleration=5),
    "real MRI, 50": lambda: mri((1, 50, 50), acceleration=5),
    "super-resolution, 110 / 4": lambda: super_resolution((1, 110, 110), factor=4),
    "super-resolution, 110 / 3": lambda: super_resolution((3, 110, 110), factor=3),
    "super-resolution, 110 / 1": lambda: super_resolution((1, 110, 110), factor=1),
}


FOREIGN = {
    "downsampling": downsampling,
    "inpainting": inpainting,
    "deepinv's MRI": lambda: deepinv.physics.MRI(mask=DOTS.clone()),
}
OPERATORS = OURS | FOREIGN


# 8 x 8 or little more, at least one of each family: for what takes long
SMALL = {
    "single pixel": lambda: single_pixel(SHAPE, ratio=0.3, noise_sigma=0.01),
    "single pixel, colour": lambda: single_pixel((3, 4, 8), ratio=0.3, ordering="xy"),
    "complex MRI": lambda: mri((2, 7, 6), acceleration=2, noise_sigma=0.01),
    "real MRI": lambda: mri(SHAPE, acceleration=2),
    "super-resolution": lambda: super_resolution((1, 9, 8), factor=2),
}
# sides odd and even, and large enough for a network of several scales
UNEVEN = {
    "single pixel": lambda: single_pixel((1, 16, 16), ratio=0.3, noise_sigma=0.01),
    "complex MRI": lambda: mri((2, 13, 18), acceleration=4, noise_sigma=0.01),
    "real MRI": lambda: mri((1, 15, 11), acceleration=4),
    "super-resolution": lambda: super_resolution((1, 22, 18), factor=4),
    "colour inpainting": lambda: deepinv.physics.Inpainting(
        (3, 9, 13), mask=(images(1, 9, 13, seed=9) > 0.4).float()
    ),
}

# --- priors and losses ----------------------------------------------------------------------------

PRIORS = {prior.__name__: prior for prior in problem.PRIORS.values()}
EVERY_LOSS = dict.fromkeys(losses.TERMS, 0.1) | {
    "supervised": 1.0,
    "imitation": 1.0,
    "gradient": 1.0,
}

# --- preconditioners ------------------------------------------------------------------------------


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


# what is learned, for any operator and its size of images: as it is before training
FITTED_LINEAR = {
    "linear, low rank": lambda physics, size, iterations: LinearPreconditioner.identity(
        physics, size
    ),
    "linear, dense": lambda physics, size, iterations: LinearPreconditioner.identity(
        physics, size, form="dense"
    ),
    "linear, planes": lambda physics, size, iterations: LinearPreconditioner.identity(
        physics, size, planes=True
    ),
    "linear, complement": lambda physics, size, iterations: LinearPreconditioner.identity(
        physics, size, complement=1.0
    ),
}
FITTED_STEPS = {
    "scalar": lambda physics, size, iterations: ScalarSteps(iterations),
    "convolutional": lambda physics, size, iterations: ConvolutionalSteps(iterations),
    "convolutional, 3 x 3": lambda physics, size, iterations: ConvolutionalSteps(iterations, 3),
    "pointwise": lambda physics, size, iterations: PointwiseSteps(iterations, size),
    "combined": lambda physics, size, iterations: CombinedSteps(
        iterations, degree=0, widths=(0.8, 2.0), mixed=True
    ),
    "fourier": lambda physics, size, iterations: FourierSteps(iterations, size),
    "fourier, radial": lambda physics, size, iterations: FourierSteps(
        iterations, radial=True, knots=9
    ),
    "linear steps, low rank": lambda physics, size, iterations: LinearSteps.identity(
        physics, iterations, size
    ),
    "linear steps, dense": lambda physics, size, iterations: LinearSteps.identity(
        physics, iterations, size, form="dense"
    ),
}
FITTED_COMPOSED = {
    "composed, behind": lambda physics, size, iterations: ComposedPreconditioner(
        LinearPreconditioner.identity(physics, size), ConvolutionalSteps(iterations, 3)
    ),
    "composed, beside": lambda physics, size, iterations: ComposedPreconditioner(
        ScalarSteps(iterations), LinearPreconditioner.identity(physics, size), order="beside"
    ),
}
FITTED = FITTED_LINEAR | FITTED_STEPS | FITTED_COMPOSED
FITTED_FIXED = {
    "identity": lambda physics, size, iterations: dipa.Identity(),
    "Hessian": lambda physics, size, iterations: Hessian(physics, size, regularization=0.1),
    "Nyström": lambda physics, size, iterations: Nystrom(physics, size, rank=5, regularization=0.1),
    "polynomial": lambda physics, size, iterations: Polynomial(physics, (1.0, -2.0, 0.5)),
    "polynomial, Chebyshev": lambda physics, size, iterations: Polynomial.chebyshev(
        physics, img_size=size
    ),
    "polynomial, l2": lambda physics, size, iterations: Polynomial.l2(physics, img_size=size),
}


def neural(name: str, img_size=SHAPE, **options) -> NeuralPreconditioner:
    """A small network, away from the identity."""
    options = {"features": 4, "blocks": 1, "code_dim": 4, "start": "random"} | options
    return NeuralPreconditioner(name, img_size=img_size, **options)


# and those whose action is known or odd, on images of SHAPE
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
    name: lambda make=make: shaken(make(student(), SHAPE, 3)) for name, make in FITTED_STEPS.items()
}
PER_ITERATION |= {
    "fourier, of other images": lambda: shaken(FourierSteps(3, (1, 5, 6))),
    "linear steps, complement": lambda: shaken(
        LinearSteps(3, with_complement(perturbed(student(), "low_rank")))
    ),
}
FIXED = {name: lambda make=make: make(student(), SHAPE, 3) for name, make in FITTED_FIXED.items()}
FIXED |= {
    "Hessian, conjugate gradients": lambda: Hessian(general(), SHAPE, regularization=0.1),
    "polynomial, Chebyshev": lambda: Polynomial.chebyshev(downsampling(8)),
    "polynomial, l2": lambda: Polynomial.l2(FOREIGN["inpainting"]()),
}
ONE_FILTER = {
    "fourier, one": lambda: shaken(FourierSteps(1, SHAPE)),
    "fourier, one radial": lambda: shaken(FourierSteps(1, radial=True, knots=9)),
}
COMPOSED = {
    name: lambda make=make: shaken(make(student(), SHAPE, 3))
    for name, make in FITTED_COMPOSED.items()
}
LEARNED = LINEAR | COMPLEMENT | PER_ITERATION | ONE_FILTER | COMPOSED
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
    "combined": lambda: shaken(CombinedSteps(3, degree=0)),
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


# --- networks trained end to end ------------------------------------------------------------------

END_TO_END = {  # their sizes in tests
    "fista-net": {"features": 8, "blocks": 3},
    "e2e-varnet": {"features": 4, "blocks": 2},
    "restormer": {"features": 4, "blocks": 1},
    "u-net": {"features": 4, "blocks": 3},
}
STEP_NETWORKS = {  # networks for step lengths
    f"step network, {lengths}": lambda size, lengths=lengths: networks.StepNetwork(
        size, lengths=lengths, features=2, blocks=2
    )
    for lengths in networks.LENGTHS
}
