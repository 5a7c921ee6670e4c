import dataclasses
import inspect

import pytest
import torch
from batteries import refuses, rng

from dipa import LossWeights, losses

SQUARED = [losses.imitation, losses.supervised, losses.convergence]
PAIR = [losses.gradient_cosine, *SQUARED, losses.data_fidelity]


def pair(seed: int, dtype=torch.float64):
    return torch.randn((2, 5, 2, 4, 4), generator=rng(seed), dtype=dtype)


def project_half(x: torch.Tensor) -> torch.Tensor:
    """Keep the first channel: an orthogonal projector."""
    return x * torch.tensor([1.0, 0.0], dtype=x.dtype).reshape(1, 2, 1, 1)


@pytest.mark.parametrize("loss", SQUARED)
def test_squared_losses_are_sums_over_pixels(loss):
    a = torch.tensor([1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]).reshape(2, 1, 2, 2)
    b = torch.tensor([0.0, 2.0, 1.0, 4.0, 0.0, -3.0, 0.0, 0.5]).reshape(2, 1, 2, 2)
    assert loss(a, b).tolist() == [5.0, 9.25]


def test_data_fidelity_by_hand():
    """Half the sum over all measurements, whatever their shape: (9 + 16) / 2 and (1 + 4 + 4) /
    2.
    """
    measured = torch.tensor([[3.0, 4.0, 0.0], [1.0, 0.0, 2.0]])
    y = torch.tensor([[0.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    assert losses.data_fidelity(measured, y).tolist() == [12.5, 4.5]
    assert losses.data_fidelity(measured.reshape(2, 1, 1, 3), y.reshape(2, 1, 1, 3)).tolist() == [
        12.5,
        4.5,
    ]


def test_gradient_of_the_data_fidelity_is_the_data_gradient():
    r""":math:`\nabla_x\,\frac12\|Hx-y\|^2=H^\top(Hx-y)`, by a dense matrix."""
    H = torch.randn(7, 16, generator=rng(0), dtype=torch.float64)
    x, y = (
        torch.randn(shape, generator=rng(1), dtype=torch.float64) for shape in ((2, 16), (2, 7))
    )
    x.requires_grad_()
    losses.data_fidelity(x @ H.T, y).sum().backward()
    assert torch.allclose(x.grad, (x @ H.T - y) @ H)


def test_gradient_cosine_by_hand():
    """Cosines 1, 0, -1, 0.6 give 0, 1, 4, 0.16."""
    direction = torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0], [3.0, 4.0]]).reshape(4, 1, 1, 2)
    target = torch.tensor([[7.0, 0.0]] * 4).reshape(4, 1, 1, 2)
    assert losses.gradient_cosine(direction, target).tolist() == pytest.approx(
        [0.0, 1.0, 4.0, 0.16], abs=1e-6
    )


def test_gradient_cosine_range_and_scale():
    a, b = pair(0)
    value = losses.gradient_cosine(a, b)
    assert ((value >= 0) & (value <= 4)).all()
    assert torch.allclose(losses.gradient_cosine(3e3 * a, 1e-3 * b), value)
    assert not torch.allclose(losses.gradient_cosine(-a, b), value)


def test_gradient_cosine_of_a_vanishing_gradient_is_finite():
    a = torch.zeros(1, 1, 2, 2, requires_grad=True)
    value = losses.gradient_cosine(a, torch.ones(1, 1, 2, 2))
    value.sum().backward()
    assert value.item() == 1.0 and torch.isfinite(a.grad).all()


def plain_gradient_cosine(a, b):
    """L_G as printed, nothing in the way of its denominator."""
    a, b = a.flatten(1), b.flatten(1)
    return (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).square()


def plain_row_space(direction):
    outside = (direction - project_half(direction)).flatten(1)
    return outside.square().sum(dim=1) / direction.flatten(1).square().sum(dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 3e-3, 1e-4, 700.0])
def test_directions_of_normal_size_give_the_printed_formula_to_the_bit(dtype, scale):
    """Value and gradient: the floor that keeps zeros finite is nowhere in what training
    computes.
    """
    a, b = (part.to(dtype) * size for part, size in zip(pair(4), (scale, 0.1), strict=True))
    ours, printed = (a.clone().requires_grad_() for _ in range(2))
    for function, formula in (
        (lambda x: losses.gradient_cosine(x, b), lambda x: plain_gradient_cosine(x, b)),
        (lambda x: losses.row_space(x, project_half), plain_row_space),
    ):
        assert torch.equal(function(ours), formula(printed))
        (found,), (expected,) = (
            torch.autograd.grad(f(x).sum(), x) for f, x in ((function, ours), (formula, printed))
        )
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("c", "d"), [(1e-12, 1e-12), (1e-12, 1e12), (1e-6, 1e-6), (1e12, 1e12), (1e-30, 1e-30)]
)
def test_the_size_of_a_direction_does_not_matter(dtype, c, d):
    """Squares of the smallest are below the smallest float32: nothing absolute may enter."""
    a, b = (part.to(dtype) for part in pair(5))
    assert torch.allclose(
        losses.gradient_cosine(c * a, d * b), plain_gradient_cosine(a, b), rtol=1e-5, atol=0
    )
    assert torch.allclose(
        losses.row_space(c * a, project_half), plain_row_space(a), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e6])
def test_gradients_of_small_and_large_directions_by_finite_differences(scale):
    a, b = pair(6)
    along = torch.randn(a.shape, generator=rng(7), dtype=a.dtype)
    for function in (
        lambda x: losses.gradient_cosine(x, 1e-6 * b),
        lambda x: losses.row_space(x, project_half),
    ):
        x = (scale * a).requires_grad_()
        (gradient,) = torch.autograd.grad(function(x).sum(), x)
        step = 1e-5 * scale
        with torch.no_grad():
            difference = (function(x + step * along) - function(x - step * along)).sum() / (
                2 * step
            )
        assert torch.allclose((gradient * along).sum(), difference, rtol=1e-6)


def test_row_space_by_hand_and_range():
    direction = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    assert losses.row_space(direction, project_half).item() == pytest.approx(16 / 25)
    assert losses.row_space(project_half(direction), project_half).item() == 0
    assert losses.row_space(
        direction - project_half(direction), project_half
    ).item() == pytest.approx(1)
    assert losses.row_space(torch.zeros(1, 2, 1, 1), project_half).item() == 0
    a, _ = pair(1)
    assert torch.allclose(losses.row_space(5 * a, project_half), losses.row_space(a, project_half))


@pytest.mark.parametrize("loss", PAIR)
def test_zero_when_equal_and_one_number_per_image(loss):
    a, b = pair(2)
    assert loss(a, a).shape == (5,) and loss(a, a).abs().max() < 1e-12
    assert loss(a, b).min() > 0
    assert torch.allclose(
        torch.cat([loss(x[None], y[None]) for x, y in zip(a, b, strict=True)]), loss(a, b)
    )


@pytest.mark.parametrize("loss", [*PAIR, losses.row_space])
def test_gradients_by_finite_differences(loss):
    a, b = (part.clone().requires_grad_() for part in pair(3)[:, :2])
    inputs = (a,) if loss is losses.row_space else (a, b)
    function = (lambda x: losses.row_space(x, project_half)) if loss is losses.row_space else loss
    assert torch.autograd.gradcheck(function, inputs)


X = torch.ones(2, 1, 4, 4)
WRONG = {
    "fewer images": X[:1],
    "no batch": X[0],
    "another size": torch.ones(2, 1, 4, 5),
    "one column": torch.ones(2, 1, 4, 1),
    "more channels": torch.ones(2, 3, 4, 4),
    "none": torch.ones(0, 1, 4, 4),
    "empty": torch.ones(2, 1, 0, 4),
    "double": X.double(),
    "integers": X.int(),
    "complex": X.to(torch.complex64),
    "meta": X.to("meta"),
    "sparse": X.to_sparse(),
    "list": X.tolist(),
    "number": 1.0,
    "nothing": None,
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("loss", PAIR)
def test_nothing_broadcasts(loss, wrong):
    """The second argument is named; so is the first, where it alone is what it must not be."""
    names = list(inspect.signature(loss).parameters)
    refuses(lambda: loss(X, WRONG[wrong]), names[1])
    text = refuses(lambda: loss(WRONG[wrong], X))
    assert text.startswith((names[0], names[1])), text


def test_row_space_refuses_projectors_of_other_shapes():
    refuses(lambda: losses.row_space(X, lambda x: x[:1]), "project", "(1, 1, 4, 4)")
    refuses(lambda: losses.row_space(X, None), "project", "a function of images")
    refuses(lambda: losses.row_space(X[0], project_half), "direction.shape")


def test_every_weight_has_a_term():
    assert losses.TERMS.keys() == {field.name for field in dataclasses.fields(LossWeights)}
