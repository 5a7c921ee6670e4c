"""Learned levels on wavelet coefficients: the subbands by the transform itself, the step by a
search, its contraction.
"""

import deepinv
import pytest
import pywt
import torch
from batteries import images, refuses, relative, rng

import dipa
from dipa.elastic_net import ElasticNet, subbands
from dipa.operators import WaveletSynthesis, in_wavelets
from dipa.solvers import equilibrium

SIZE = (1, 16, 16)


def test_subbands_are_those_of_pywavelets():
    """The coefficients that one subband of a decomposition makes lie in one subband here."""
    W = WaveletSynthesis("haar", 2)
    parts = pywt.wavedec2(torch.zeros(16, 16).numpy(), "haar", "periodization", 2)
    found = subbands((16, 16), 2)
    assert found.unique().tolist() == list(range(7)) and found[:4, :4].unique().tolist() == [0]
    seen = []
    for scale in range(3):
        for direction in range(3 if scale else 1):
            marked = [
                part.copy() if i == 0 else [p.copy() for p in part] for i, part in enumerate(parts)
            ]
            place = marked[0] if scale == 0 else marked[scale][direction]
            place[...] = 1
            image = pywt.waverec2([marked[0], *map(tuple, marked[1:])], "haar", "periodization")
            c = W.A_adjoint(torch.tensor(image, dtype=torch.float32)[None, None])[0, 0]
            inside = found[c.abs() > 1e-3].unique().tolist()
            assert len(inside) == 1 and len(c[c.abs() > 1e-3]) == (found == inside[0]).sum()
            seen.append(inside[0])
    assert seen == list(range(7)), "the approximation, then from coarse to fine"


def test_the_step_minimises():
    """Of psi and the distance to v, by a search over each coefficient alone."""
    prior = ElasticNet(SIZE, level=2, start=0.3, curvature=0.5)
    with torch.no_grad():
        prior.logarithms += torch.randn(7, generator=rng(1))
    z, d = torch.randn(2, 2, *SIZE, generator=rng(2))
    found = prior.step(z, d, 0.7)
    grid = torch.linspace(-4, 4, 8001).reshape(-1, 1, 1, 1, 1)
    v = z - 0.7 * d
    level = prior.levels[prior.subband]
    cost = (grid - v).square() / 1.4 + level * grid.abs() + 0.25 * grid.square()
    assert (grid.flatten()[cost.argmin(0)] - found).abs().max() < 1.1e-3


def test_it_contracts_by_its_curvature():
    mask = (torch.rand(SIZE, generator=rng(3)) < 0.5).float()
    physics = in_wavelets(deepinv.physics.Inpainting(SIZE, mask=mask), "haar", 2)
    y = physics.A(physics[0].A_adjoint(images(2, *SIZE)))
    prior = ElasticNet(SIZE, level=2, start=1e-3, curvature=0.1)
    step = lambda x: prior.step(x, physics.A_adjoint(physics.A(x) - y), 1.0)  # noqa: E731
    found = equilibrium(step, torch.zeros(2, *SIZE), tolerance=1e-5)
    assert found.status == "converged"
    assert found.contraction.amax().item() == pytest.approx(1 / 1.1, rel=0.02)


def test_all_levels_alike_it_is_the_lasso():
    prior, step = ElasticNet(SIZE, level=1, start=0.2, curvature=0.0), 0.5
    z, d = torch.randn(2, 2, *SIZE, generator=rng(4))
    theirs = dipa.Prox(deepinv.optim.prior.L1Prior(), 0.2).step(z, d, step)
    assert relative(prior.step(z, d, step), theirs) < 1e-6


def test_refuses():
    refuses(lambda: ElasticNet((1, 10, 16)), "img_size", "(1, 10, 16)", "multiples of 8")
    refuses(lambda: ElasticNet(SIZE, level=0), "level", "0")
    refuses(lambda: ElasticNet(SIZE, start=0), "start", "0")
    refuses(lambda: ElasticNet(SIZE, curvature=-1), "curvature", "-1")
    x = torch.zeros(1, 1, 8, 8)
    refuses(lambda: ElasticNet(SIZE).step(x, x, 1.0), "images", "(1, 1, 8, 8)")
