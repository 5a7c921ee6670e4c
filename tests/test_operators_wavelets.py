"""The wavelet basis beside PyWavelets' own multilevel transform, dense matrices and finite
differences.
"""

import deepinv
import numpy as np
import pytest
import pywt
import torch
from batteries import refuses, rng

import dipa
from dipa.analysis.singular import matrix
from dipa.operators import WAVELETS, WaveletSynthesis, in_wavelets
from dipa.operators.measure import measure
from dipa.physics import warn_range


def random(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(shape, generator=rng(3), dtype=dtype)


@pytest.mark.parametrize("wavelet,level", [("sym4", 3), ("haar", 4), ("db2", 1), ("coif1", 2)])
def test_coefficients_are_those_of_the_multilevel_transform(wavelet, level):
    x = random(2, 3, 64, 80)
    c = WaveletSynthesis(wavelet, level).A_adjoint(x)
    parts = pywt.wavedec2(x.numpy(), wavelet, mode="periodization", level=level, axes=(-2, -1))
    expected, _ = pywt.coeffs_to_array(parts, axes=(-2, -1))
    assert np.abs(c.numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_every_wavelet_is_orthonormal(wavelet):
    """To 1e-5, on images smaller than many of the filters."""
    W = WaveletSynthesis(wavelet, 3)
    x, c = random(1, 1, 32, 16), random(1, 1, 32, 16).flip(-1)
    assert (W.A(W.A_adjoint(x)) - x).abs().max() < 1e-5
    assert torch.allclose((W.A(c) * x).sum(), (c * W.A_adjoint(x)).sum(), atol=1e-4)
    assert torch.equal(W.A_dagger(x), W.A_adjoint(x))


def test_in_float32_to_its_rounding_on_large_images():
    W, x = WaveletSynthesis(), random(2, 1, 256, 256, dtype=torch.float32)
    c = W.A_adjoint(x)
    assert c.dtype == torch.float32 and (W.A(c) - x).abs().max() < 1e-5
    assert c.norm().item() == pytest.approx(x.norm().item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_it_is_differentiable_as_often_as_one_likes():
    W, x = WaveletSynthesis("sym4", 2), random(1, 1, 8, 8).requires_grad_()
    for transform in (W.A, W.A_adjoint):
        assert torch.autograd.gradcheck(transform, x)
        assert torch.autograd.gradgradcheck(lambda c, f=transform: f(c) ** 2, x)
        v = random(1, 1, 8, 8) - 0.5
        tangent = torch.func.jvp(transform, (x.detach(),), (v,))[1]
        assert torch.allclose(tangent, transform(v), atol=1e-12)
        several = random(2, 5, 1, 8, 8)  # mapped over the second axis
        mapped = torch.func.vmap(transform, in_dims=1)(several)
        assert torch.equal(mapped, torch.stack([transform(several[:, i]) for i in range(5)]))


def test_an_operator_on_coefficients_is_the_product_of_matrices():
    H = deepinv.physics.Downsampling((1, 8, 8), filter="gaussian", factor=2)
    A = in_wavelets(H, "haar", 2)
    like = random(1, 1, 8, 8, dtype=torch.float32)
    of_h, of_a, of_w = (matrix(part, (1, 8, 8), like) for part in (H, A, A[0]))
    assert torch.allclose(of_a, of_h @ of_w, atol=1e-5)
    norms = [dipa.physics.lipschitz(part, (1, 8, 8), like) for part in (A, H)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_measurements_are_those_of_the_operator_with_its_noise():
    noise = deepinv.physics.GaussianNoise(0.1)
    H = deepinv.physics.Downsampling((1, 16, 16), filter="gaussian", factor=2, noise_model=noise)
    A, x = in_wavelets(H), random(2, 1, 16, 16, dtype=torch.float32)
    index = torch.arange(2)
    y = measure(A, A[0].A_adjoint(x), seed=0, indices=index)
    assert torch.allclose(y, measure(H, x, seed=0, indices=index), atol=1e-5)
    assert (y - H.A(x)).std() > 0.05


def test_soft_thresholds_are_the_proximity_operator_there():
    """FISTA ends where the objective's subgradient holds zero."""
    H = deepinv.physics.Inpainting((1, 16, 16), mask=0.5, rng=rng(0))
    A, weight = in_wavelets(H), 0.02
    y = A.A(A[0].A_adjoint(random(1, 1, 16, 16, dtype=torch.float32)))
    prior = dipa.Prox(deepinv.optim.L1Prior(), weight)
    c = dipa.FISTA(prior, 400, start="zero")(y, A, stepsize="1/L").x
    gradient = A.A_adjoint(A.A(c) - y)
    on = c != 0
    assert 0 < on.sum() < on.numel()
    assert (gradient[on] + weight * c[on].sign()).abs().max() < 1e-4
    assert gradient[~on].abs().max() < weight + 1e-4


def test_what_it_cannot_take_is_refused():
    refuses(lambda: WaveletSynthesis("bior2.2"), "wavelet", "bior2.2")
    refuses(lambda: WaveletSynthesis(level=0), "level")
    refuses(lambda: in_wavelets(torch.nn.Identity()), "physics")
    W = WaveletSynthesis()
    refuses(lambda: W.A(torch.zeros(1, 1, 12, 16)), "images", "multiples of 8")
    refuses(lambda: W.A_adjoint(torch.zeros(1, 16, 16)), "images")
    refuses(lambda: W.A(torch.zeros(1, 1, 16, 16, dtype=torch.float16)), "images", "float64")


def test_coefficients_may_have_any_value():
    """A warning would be an error here."""
    physics = in_wavelets(deepinv.physics.Denoising(), "haar", 1)
    warn_range("images", 9 * torch.ones(1, 1, 4, 4), physics)
    with pytest.warns(UserWarning, match="values in"):
        warn_range("images", 9 * torch.ones(1, 1, 4, 4), deepinv.physics.Denoising())
