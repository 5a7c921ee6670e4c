"""deepinv's operators, priors and denoisers handed to everything that takes one: it works, or
says in one line why not.
"""

import copy

import deepinv
import pytest
import torch
from batteries import matrix_physics, refuses, rng, smooth_images, tiny_denoiser
from deepinv import physics as dp
from members import PRIORS
from tried import result_or_clear_error

import dipa
from dipa import analysis, endtoend, losses, operators, solvers, training
from dipa.operators.measure import measure

# deepinv's own, of operators it makes here
pytestmark = [
    pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning"),
    pytest.mark.filterwarnings(
        "ignore:At least one input physics is a DecomposablePhysics:UserWarning"
    ),
    pytest.mark.filterwarnings("ignore:Warning. least_squares_implicit_backward:UserWarning"),
]
SIDE = 8
GREY, PAIR, COLOUR = (1, SIDE, SIDE), (2, SIDE, SIDE), (3, SIDE, SIDE)
BLUR = dp.functional.gaussian_blur(sigma=(1, 1))


def bits(*shape: int) -> torch.Tensor:
    return (torch.rand(shape, generator=rng(0)) > 0.5).float()


def coils() -> torch.Tensor:
    return torch.randn(1, 3, SIDE, SIDE, dtype=torch.complex64, generator=rng(0))


# every call below gives a result
WORK = {
    "Inpainting": (lambda: dp.Inpainting(GREY, mask=bits(*GREY)), GREY),
    "Denoising": (lambda: dp.Denoising(dp.GaussianNoise(0.1)), GREY),
    "Blur, circular": (lambda: dp.Blur(filter=BLUR, padding="circular"), GREY),
    "Blur, valid": (lambda: dp.Blur(filter=BLUR[..., 2:5, 2:5], padding="valid"), GREY),
    "BlurFFT": (lambda: dp.BlurFFT(GREY, filter=BLUR), GREY),
    "Downsampling": (lambda: dp.Downsampling(GREY, filter="gaussian", factor=2), GREY),
    "CompressedSensing": (lambda: dp.CompressedSensing(m=20, img_size=GREY, rng=rng(0)), GREY),
    "StructuredRandom": (lambda: dp.StructuredRandom(GREY, GREY, rng=rng(0)), GREY),
    "SinglePixelCamera": (lambda: dp.SinglePixelCamera(20, GREY), GREY),
    "MRI": (lambda: dp.MRI(mask=bits(SIDE, SIDE)), PAIR),
    "MultiCoilMRI": (
        lambda: dp.MultiCoilMRI(mask=bits(SIDE, SIDE), coil_maps=coils(), img_size=PAIR),
        PAIR,
    ),
    "Tomography": (lambda: dp.Tomography(angles=6, img_width=SIDE, normalize=False), GREY),
    "Tomography, normalised": (
        lambda: dp.Tomography(angles=6, img_width=SIDE, normalize=True),
        GREY,
    ),
    "HyperSpectralUnmixing": (
        lambda: dp.HyperSpectralUnmixing(M=torch.rand(3, 5, generator=rng(0))),
        COLOUR,
    ),
    "Decolorize": (lambda: dp.Decolorize(), COLOUR),
    "functions": (
        lambda: dp.LinearPhysics(A=lambda x, **_: 2 * x, A_adjoint=lambda y, **_: 2 * y),
        GREY,
    ),
    "a product": (
        lambda: dp.Blur(filter=BLUR, padding="circular") * dp.Inpainting(GREY, mask=bits(*GREY)),
        GREY,
    ),
}
# what at least one call refuses, with words of its message: several tensors of measurements, masks
# of another batch size...
REFUSED = {
    "stack": (
        lambda: dp.stack(dp.Inpainting(GREY, mask=bits(*GREY)), dp.Denoising()),
        GREY,
        "TensorList",
    ),
    "Pansharpen": (lambda: dp.Pansharpen(COLOUR, factor=2), COLOUR, "TensorList"),
    "Inpainting, 4 masks": (
        lambda: dp.Inpainting(GREY, mask=bits(4, *GREY)),
        GREY,
        "made for 4 images",
    ),
    "MRI, 4 masks": (lambda: dp.MRI(mask=bits(4, *PAIR)), PAIR, "made for 4 images"),
    "DynamicMRI": (lambda: dp.DynamicMRI(mask=bits(3, SIDE, SIDE)), PAIR, "DynamicMRI"),
    "Haze": (lambda: dp.Haze(), COLOUR, "a deepinv LinearPhysics"),
    "RandomPhaseRetrieval": (
        lambda: dp.RandomPhaseRetrieval(m=9, img_size=GREY),
        GREY,
        "a deepinv LinearPhysics",
    ),
    "SinglePhotonLidar": (lambda: dp.SinglePhotonLidar(), PAIR, "a deepinv LinearPhysics"),
    "Physics": (lambda: dp.Physics(), GREY, "a deepinv LinearPhysics"),
    "LinearPhysics without an adjoint": (lambda: dp.LinearPhysics(), GREY, "img_size must be set"),
    "Ptychography": (lambda: dp.Ptychography(img_size=GREY), GREY, "a deepinv LinearPhysics"),
    "Upsampling": (
        lambda: dp.Upsampling((1, 16, 16), filter="gaussian", factor=2),
        GREY,
        "(1, 16, 16)",
    ),
    "Inpainting of another size": (
        lambda: dp.Inpainting((1, 5, 8), mask=bits(1, 5, 8)),
        GREY,
        "(1, 5, 8)",
    ),
}


def calls(physics, size: tuple[int, int, int]) -> dict:
    """Everything that takes an operator, by name."""
    x = smooth_images(3 * size[0], SIDE).reshape(3, *size)
    solver, P = dipa.FISTA(dipa.PnP(tiny_denoiser()), iterations=2), dipa.ScalarSteps(2)
    terms = dict.fromkeys(losses.TERMS, 1.0) | {"supervised": 0.0}
    training = {
        "losses": dipa.LossWeights(**terms),
        "budget": dipa.Budget(steps=1, batch_size=2),
        "progress": False,
    }
    rules = {"stepsize": "1/L", "teacher_stepsize": "1/L"}
    network = endtoend.build("e2e-varnet", size, features=2, blocks=1)
    first = torch.ones(1, *size)

    def y():
        """Its own measurements, or where it makes none, those of another operator."""
        try:
            return physics.A(x)
        except (RuntimeError, IndexError):
            return x

    return {
        "solve": lambda: solver(y(), physics, history=True, x_true=x),
        "solve from the pseudo-inverse": lambda: dipa.FISTA(
            solver.prior, start="pseudo_inverse", iterations=1
        )(y(), physics),
        "solve from the interpolated": lambda: dipa.FISTA(
            solver.prior, start="interpolated", iterations=1
        )(y(), physics),
        "identity": lambda: dipa.LinearPreconditioner.identity(physics, size)(x, x, 1),
        "planes": lambda: dipa.LinearPreconditioner.identity(physics, size, planes=True)(x, x, 1),
        "ridge": lambda: dipa.LinearPreconditioner.ridge(physics, x, stepsize=0.4)(x, x, 1),
        "Hessian": lambda: dipa.Hessian(physics, size, regularization=0.1)(x, x, 1),
        "Polynomial": lambda: dipa.Polynomial.l2(physics, img_size=size)(x, x, 1),
        "Polynomial, given": lambda: dipa.Polynomial(physics, (1.0, -0.1))(x, x, 1),
        "to_deepinv": lambda: dipa.to_deepinv(solver, P, physics, img_size=size)(y(), physics),
        "distill": lambda: dipa.distill(
            solver, P, physics, copy.deepcopy(physics), x, **training, **rules, validation=0
        ),
        "train_network": lambda: dipa.train_network(
            network, physics, x, budget=training["budget"], progress=False
        ),
        "convergence": lambda: analysis.convergence(solver, physics, y(), x, iterations=2),
        "spectra": lambda: analysis.spectra(P, physics, first),
        "audit": lambda: analysis.audit(x, x, y(), physics, operators.range_basis(physics, size)),
        "shifts": lambda: analysis.shifts(P, x, analysis.conditions(physics, solver, noise=[0.1])),
    }


@pytest.mark.parametrize("name", WORK)
def test_operators_of_deepinv_work_everywhere(name):
    make, size = WORK[name]
    for call in calls(make(), size).values():
        assert call() is not None


@pytest.mark.parametrize("name", REFUSED)
def test_other_operators_are_refused_in_one_line(name):
    """No call ends in an error of torch, and the reason is said."""
    make, size, reason = REFUSED[name]
    said = []
    for call in calls(make(), size).values():

        def watched(call=call):
            try:
                return call()
            except dipa.InputError as error:
                said.append(str(error))
                raise

        result_or_clear_error(watched)
    assert any(reason in text for text in said), said


def test_the_range_of_complex_measurements_is_that_of_both_their_parts():
    """y = B x with a complex B: the real images that Re(B^H y) can be are spanned by the rows
    of Re B and Im B.
    """
    matrix = torch.randn(5, 64, dtype=torch.complex128, generator=rng(0))
    physics = dp.LinearPhysics(
        A=lambda x, **_: x.flatten(1).to(torch.complex128) @ matrix.T,
        A_adjoint=lambda y, **_: (y @ matrix.conj()).real.reshape(-1, *GREY),
    )
    basis = operators.range_basis(physics, GREY)
    gradients = physics.A_adjoint(torch.randn(20, 5, dtype=torch.complex128, generator=rng(1)))
    assert basis.dim == 10 == torch.linalg.matrix_rank(gradients.flatten(1))
    rows = basis.rows.double()
    assert (
        gradients.flatten(1) - gradients.flatten(1) @ rows.T @ rows
    ).norm() < 1e-5 * gradients.norm()


# --- priors and denoisers of deepinv --------------------------------------------------------------


@pytest.mark.parametrize(
    "prior",
    [
        deepinv.optim.PnP(tiny_denoiser()),
        deepinv.optim.prior.TVPrior(),
        deepinv.optim.prior.L1Prior(),
    ],
)
@pytest.mark.parametrize("ours", PRIORS.values(), ids=PRIORS)
def test_a_prior_of_deepinv_is_no_denoiser_and_no_prior_here(prior, ours):
    with pytest.raises(
        dipa.InputError, match="denoiser: got .*deepinv's prior .*allowed: a denoiser"
    ):
        ours(prior)
    with pytest.raises(
        dipa.InputError,
        match=r"prior: got 'deepinv\.optim\.prior.*allowed: dipa\.PnP\(denoiser\)",
    ):
        dipa.FISTA(prior)


@pytest.mark.parametrize(
    "denoiser",
    [
        deepinv.models.DnCNN(3, 3, depth=2, nf=4, pretrained=None),  # of colour images
        torch.nn.Identity(),  # takes no noise level
        torch.nn.Linear(8, 8),
        deepinv.models.MedianFilter(),
        deepinv.models.TVDenoiser(n_it_max=2),
        deepinv.models.DRUNet(1, 1, nc=(2, 2, 2, 2), nb=1, pretrained=None),
        lambda images: images,
        lambda images, sigma: images[0],
        lambda images, sigma: None,
    ],
)
def test_denoisers_denoise_or_are_refused_in_one_line(denoiser):
    physics = operators.single_pixel(GREY, ratio=0.5)
    y = physics.A(smooth_images(2, SIDE))
    with torch.no_grad():
        result_or_clear_error(lambda: dipa.FISTA(dipa.PnP(denoiser), iterations=2)(y, physics))


@pytest.mark.parametrize(
    "P", [torch.nn.ReLU(), lambda g: g, lambda g, z, k: g @ torch.ones(3, 3), lambda g, z, k: None]
)
def test_what_is_no_preconditioner_is_refused_by_name(P):
    physics = operators.single_pixel(GREY, ratio=0.5)
    solver = dipa.FISTA(dipa.PnP(tiny_denoiser()), iterations=2)
    refuses(
        lambda: solver(physics.A(smooth_images(2, SIDE)), physics, preconditioner=P),
        "preconditioner: got",
    )


# --- several tensors of measurements --------------------------------------------------------------


def stacked(noise: float = 0.0):
    """An operator of two parts, and the matrix of both."""
    matrices = [torch.randn(rows, 64, generator=rng(rows)) / 8 for rows in (10, 20)]
    parts = [matrix_physics(matrix, GREY) for matrix in matrices]
    for part in parts:
        part.set_noise_model(dp.GaussianNoise(noise))
    return dp.stack(*parts), torch.cat(matrices)


def test_a_stack_is_solved_as_the_matrix_of_its_parts():
    physics, matrix = stacked()
    whole, x = matrix_physics(matrix, GREY), smooth_images(3)
    solver = dipa.FISTA(dipa.PnP(tiny_denoiser()), iterations=4)
    for options in ({}, {"stepsize": solvers.Armijo(first=8.0)}):
        one, two = (solver(p.A(x), p, history=True, x_true=x, **options) for p in (physics, whole))
        assert torch.allclose(one.x, two.x, atol=1e-5)
        for a, b in zip(one.history, two.history, strict=True):
            assert a["residual"] == pytest.approx(b["residual"], rel=1e-4)
    terms = dipa.LossWeights(supervised=1.0, data_fidelity=1.0)
    budget = dipa.Budget(steps=2, batch_size=3)
    trained = [
        dipa.distill(
            solver,
            dipa.ScalarSteps(4),
            p,
            None,
            x,
            losses=terms,
            budget=budget,
            validation=0,
            progress=False,
        ).preconditioner.steps
        for p in (physics, whole)
    ]
    assert torch.allclose(*trained, atol=1e-5)
    fitted = [
        solver(p.A(x), p, preconditioner=dipa.fit_steps(dipa.CombinedSteps(4), solver, p, x)).x
        for p in (physics, whole)
    ]
    assert torch.allclose(*fitted, atol=1e-2)
    model = dipa.to_deepinv(solver, None, physics, img_size=GREY)
    assert torch.allclose(model(physics.A(x), physics), solver(physics.A(x), physics).x, atol=1e-5)


def test_each_part_of_a_stack_has_noise_of_its_own():
    physics, _ = stacked(0.1)
    x = smooth_images(40)
    y, again = measure(physics, x, seed=3), measure(physics, x, seed=3)
    clean = physics.A(x)
    for part, same, exact in zip(y, again, clean, strict=True):
        assert torch.equal(part, same)
        assert (part - exact).std().item() == pytest.approx(0.1, rel=0.15)
    first, second = (part - exact for part, exact in zip(y, clean, strict=True))
    assert not torch.allclose(first, second[:, :10])


def test_the_norm_of_a_stack_is_computed_again_when_a_part_changes():
    mask = bits(1, *GREY).float()
    physics = dp.stack(dp.Inpainting(GREY, mask=mask), dp.Denoising())
    before = dipa.physics.lipschitz(physics, GREY)
    physics.physics_list[0].mask = 2 * mask
    assert dipa.physics.lipschitz(physics, GREY) == pytest.approx(5, rel=1e-3)
    assert before == pytest.approx(2, rel=1e-3)


def test_several_tensors_are_refused_as_one():
    physics, _ = stacked()
    solver, y = dipa.FISTA(dipa.PnP(tiny_denoiser()), iterations=1), physics.A(smooth_images(2))
    refuses(lambda: solver(y[0], physics), "y")
    y[1] = y[1][:, :5]
    refuses(lambda: solver(y, physics), "y", "(2, 5)")
    y[1] = y[1] * torch.nan
    refuses(lambda: solver(y, physics), "y", "NaN")


# --- denoisers that cannot be differentiated again, half precision --------------------------------


def test_a_denoiser_that_is_a_gradient_says_which_way_works():
    physics, x = operators.single_pixel(GREY, ratio=0.4), smooth_images(4)
    solver = dipa.FISTA(
        dipa.PnP(
            deepinv.models.GSDRUNet(
                in_channels=1, out_channels=1, pretrained=None, nb=1, nc=[4, 4, 4, 4]
            )
        ),
        iterations=2,
    )
    options = {
        "losses": dipa.LossWeights(supervised=1.0),
        "budget": dipa.Budget(steps=1, batch_size=2),
        "validation": 0,
        "progress": False,
    }
    run = lambda **more: dipa.distill(  # noqa: E731
        solver, dipa.ScalarSteps(2), physics, None, x, **options, **more
    )
    refuses(run, "differentiation", "straight_through")
    way = training.Differentiation("straight_through")
    assert len(run(differentiation=way).history) == 1


def test_half_precision_is_refused_by_name():
    physics, x = operators.single_pixel(GREY, ratio=0.4), smooth_images(4).half()
    solver = dipa.FISTA(dipa.PnP(tiny_denoiser()), iterations=1)
    losses = dipa.LossWeights(supervised=1.0)
    refuses(
        lambda: dipa.distill(solver, dipa.ScalarSteps(1), physics, None, x, losses=losses),
        "images.dtype",
        "float16",
        "float32 or float64",
    )
    refuses(lambda: dipa.fit_steps(dipa.ScalarSteps(1), solver, physics, x), "float16")


def test_the_packaged_denoiser_works_in_float64_throughout(tmp_path):
    physics, x = operators.single_pixel(GREY, ratio=0.4).double(), smooth_images(4).double()
    solver = dipa.FISTA(dipa.PnP(dipa.denoisers.load().double()), iterations=2)
    P = dipa.LinearPreconditioner.identity(physics)
    losses, budget = dipa.LossWeights(supervised=1.0), dipa.Budget(steps=1, batch_size=2)
    fit = dipa.distill(
        solver, P, physics, None, x, losses=losses, budget=budget, validation=0, progress=False
    )
    again, _ = dipa.load(dipa.save(fit, tmp_path / "P.safetensors"))
    x_hat = solver(physics.A(x), physics, preconditioner=again).x
    assert x_hat.dtype == torch.float64 == again.matrix.dtype
