"""Compositions: what they do by hand, where they start, and what a file keeps of them."""

import pytest
import torch
from batteries import images, refuses, relative, rng, smooth_images
from members import SHAPE, neural, perturbed, shaken, student

import dipa
from dipa import LinearPreconditioner
from dipa.operators import single_pixel
from dipa.preconditioners import (
    CombinedSteps,
    ComposedPreconditioner,
    ConvolutionalSteps,
    Hessian,
    Polynomial,
)

G, Z = torch.randn(3, *SHAPE, generator=rng(0)), images(3, *SHAPE, seed=1)


def network(**options) -> dipa.NeuralPreconditioner:
    return neural("cnn", scaling="image", **options)


def test_behind_is_the_second_of_the_first():
    R, N = perturbed(student(), "low_rank"), network()
    P = ComposedPreconditioner(R, N)
    assert torch.equal(P(G, Z, 2), N(R(G, Z, 2), Z, 2))
    assert not torch.allclose(P(G, Z, 2), R(N(G, Z, 2), Z, 2))


def test_beside_is_both_with_the_gradient_counted_once():
    R, N = perturbed(student(), "low_rank"), network()
    P = ComposedPreconditioner(R, N, order="beside")
    assert torch.allclose(P(G, Z, 3), R(G, Z, 3) + N(G, Z, 3) - G, atol=1e-6)


@pytest.mark.parametrize("order", ["behind", "beside"])
def test_it_starts_as_the_first_where_the_second_is_the_identity(order):
    R = perturbed(student(), "low_rank")
    P = ComposedPreconditioner(R, network(start="identity"), order=order)
    assert torch.allclose(P(G, Z, 1), R(G, Z, 1), atol=1e-6)


@pytest.mark.parametrize("order", ["behind", "beside"])
def test_of_homogeneous_parts_it_is_homogeneous_and_keeps_zero(order):
    P = ComposedPreconditioner(perturbed(student(), "low_rank"), network(), order=order)
    assert torch.allclose(P(8 * G, Z, 1), 8 * P(G, Z, 1), atol=1e-5)
    assert torch.equal(P(0 * G, Z, 1), 0 * G)
    assert not torch.allclose(P(-G, Z, 1), -P(G, Z, 1), atol=1e-3), "the network is not odd"


def test_its_traits_are_those_of_the_parts():
    R = perturbed(student(), "low_rank")
    steps, linear = ConvolutionalSteps(3), ComposedPreconditioner(R, R)
    assert linear.traits == R.traits
    assert ComposedPreconditioner(R, steps).traits == steps.traits
    assert ComposedPreconditioner(steps, R).traits == steps.traits
    assert not ComposedPreconditioner(R, network()).traits.linear
    assert not ComposedPreconditioner(network(), R).traits.linear


def test_a_frozen_first_is_left_as_it_is_and_counts_as_nothing():
    R = LinearPreconditioner.ridge(student(), smooth_images(20), stepsize=0.4)
    P = ComposedPreconditioner(R.requires_grad_(False), network())
    before = R.matrix.clone()
    alone = sum(parameter.numel() for parameter in P.second.parameters())
    assert P.parameter_count == alone
    solver = dipa.FISTA(dipa.PnP(lambda x, sigma: 0.9 * x), 2, momentum="none")
    dipa.distill(
        solver,
        P,
        student(),
        None,
        smooth_images(8),
        losses=dipa.LossWeights(supervised=1.0),
        budget=dipa.Budget(steps=2, batch_size=2),
        progress=False,
    )
    assert torch.equal(R.matrix, before)


def test_a_file_keeps_both_parts(tmp_path):
    inner = ComposedPreconditioner(perturbed(student(), "dense"), shaken(ConvolutionalSteps(2)))
    P = ComposedPreconditioner(inner, network(), order="beside")
    P.setting = {"stepsize": 0.4}
    read, _ = dipa.load(dipa.save(P, tmp_path / "P.safetensors"))
    kept, again = P.state_dict(), read.state_dict()
    assert list(kept) == list(again) and all(torch.equal(kept[name], again[name]) for name in kept)
    assert relative(read(G, Z, 2), P(G, Z, 2)) < 1e-5 and read.setting == {"stepsize": 0.4}
    assert read.order == "beside" and read.first.order == "behind"


@pytest.mark.parametrize("frozen", [(), ("first",), ("second",), ("first", "second")])
def test_a_file_keeps_what_is_frozen(frozen, tmp_path):
    P = ComposedPreconditioner(perturbed(student(), "low_rank"), shaken(ConvolutionalSteps(2)))
    for name in frozen:
        getattr(P, name).requires_grad_(False)
    read, _ = dipa.load(dipa.save(P, tmp_path / "P.safetensors"))
    wanted = [parameter.requires_grad for parameter in P.parameters()]
    assert [parameter.requires_grad for parameter in read.parameters()] == wanted
    assert read.parameter_count == P.parameter_count and read.header() == P.header()
    refuses(
        lambda: dipa.load(
            dipa.storage.write_tensors(
                tmp_path / "Q.safetensors",
                P.state_dict(),
                {"kind": P.kind} | P.header() | {"frozen": ["third"]},
            )
        ),
        "Q.safetensors",
        "composed",
    )


def test_a_file_of_another_order_or_with_more_tensors_is_refused(tmp_path):
    P = ComposedPreconditioner(perturbed(student(), "low_rank"), network())
    header, tensors = P.header(), P.state_dict()
    refuses(lambda: ComposedPreconditioner.rebuild(header | {"order": "above"}, tensors), "order")
    more = tensors | {"third.weight": torch.ones(1)}
    refuses(lambda: ComposedPreconditioner.rebuild(header, more), "third.weight")


def test_a_fixed_part_works_and_cannot_be_saved(tmp_path):
    physics = student()
    P = ComposedPreconditioner(Hessian(physics, SHAPE, regularization=0.1), network())
    assert P(G, Z, 1).shape == G.shape
    refuses(lambda: dipa.save(P, tmp_path / "P.safetensors"), "first", "Hessian")
    behind = ComposedPreconditioner(network(), Polynomial(physics, (1.0, 0.5)))
    refuses(lambda: dipa.save(behind, tmp_path / "P.safetensors"), "second", "Polynomial")


def test_parts_made_of_the_operator_act_with_the_one_that_is_used():
    steps = shaken(CombinedSteps(2, degree=2, widths=()))
    P = ComposedPreconditioner(steps, network())
    one, other = student(), single_pixel(SHAPE, ratio=0.6)
    for physics in (one, other):
        acting = P.on(physics)
        assert torch.equal(acting(G, Z, 1), P.second(steps.on(physics)(G, Z, 1), Z, 1))
    assert not torch.allclose(P.on(one)(G, Z, 1), P.on(other)(G, Z, 1))
    plain = ComposedPreconditioner(perturbed(one, "low_rank"), network())
    assert plain.on(one) is plain


def test_what_does_not_fit_is_refused_by_name():
    R = perturbed(student(), "low_rank")
    refuses(lambda: ComposedPreconditioner(torch.nn.Identity(), R), "first", "Identity")
    refuses(lambda: ComposedPreconditioner(R, None), "second")
    refuses(lambda: ComposedPreconditioner(R, R, order="before"), "order", "before")
    larger = neural("cnn", (1, 9, 9))
    refuses(lambda: ComposedPreconditioner(R, larger)(G, Z, 1), "gradient.shape", "9")
    refuses(lambda: ComposedPreconditioner(larger, R)(G, Z, 1), "gradient.shape", "9")
    refuses(lambda: ComposedPreconditioner(R, network().double()).check(G), "preconditioner")
