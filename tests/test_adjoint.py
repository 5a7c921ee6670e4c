"""The probe of an operator: linear, the same at every call, with an exact adjoint."""

import copy

import deepinv
import pytest
import torch
from batteries import images, inpainting, matrix_physics, refuses, rng, size_of
from deepinv import physics as dp
from members import OPERATORS

from dipa import adjoint, linalg
from dipa.physics import require_adjoint

SIDE = 8
GREY = (1, SIDE, SIDE)


def functions(forward, backward) -> dp.LinearPhysics:
    """An operator made of two functions."""
    return dp.LinearPhysics(A=lambda x, **_: forward(x), A_adjoint=lambda y, **_: backward(y))


class Counted:
    """An operator's two calls, counted, on a batch of what size."""

    def __init__(self, physics):
        self.calls, self.physics = [], physics
        self.forward, self.backward = physics.A, physics.A_adjoint
        physics.A, physics.A_adjoint = self.A, self.A_adjoint

    def A(self, x, **named):
        self.calls.append(("A", len(x)))
        return self.forward(x, **named)

    def A_adjoint(self, y, **named):
        self.calls.append(("A_adjoint", len(y)))
        return self.backward(y, **named)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_pass(name, dtype):
    physics = OPERATORS[name]()
    physics = physics.double() if dtype == torch.float64 else physics
    found = adjoint.probe(physics, images(1, *size_of(physics), dtype=dtype))
    assert found.sound and found.tolerance == 1e-3
    assert max(found.linearity, found.adjoint) < (1e-5 if dtype == torch.float32 else 1e-6)


@pytest.mark.parametrize("share", [1.01, 0.5, -1, 0])
def test_the_error_of_a_scaled_adjoint_is_in_proportion(share):
    """With w = s/|s| + r/|r|, <Hu, w> - c <Hu, w> = (1 - c) <Hu, w>, of |Hu||w| at most."""
    matrix = torch.randn(40, 64, generator=rng(0))
    right = matrix_physics(matrix, GREY)
    wrong = functions(right.A, lambda y: share * right.A_adjoint(y))
    error = adjoint.probe(wrong, images(1, *GREY)).adjoint
    assert 0.4 * abs(1 - share) < error <= abs(1 - share) + 1e-6
    assert adjoint.probe(right, images(1, *GREY)).adjoint < 1e-6


def test_the_linearity_of_an_affine_map_is_the_share_of_its_constant():
    """A(u + v) - A(u) - A(v) = -b."""
    x, b = images(1, *GREY), 0.3 * torch.ones(1, *GREY)
    found = adjoint.probe(functions(lambda x: x + b, lambda y: y), x)
    v = adjoint.normal_like(x, 0, "v")
    v = v * (x.norm() / v.norm())
    expected = b.norm() / ((x + b).norm() + (v + b).norm())
    assert found.linearity == pytest.approx(expected.item(), rel=1e-5)


def test_either_error_is_enough():
    for linearity, dots in ((0.5, 0.0), (0.0, 0.5), (float("nan"), 0.0), (0.0, float("nan"))):
        assert not adjoint.Probe(linearity, dots, 1e-3).sound
    assert adjoint.Probe(1e-3, 1e-3, 1e-3).sound


def test_what_is_wrong_only_outside_the_range_is_seen():
    """A_adjoint that does not mask: right on measurements without noise, wrong on others."""
    mask = (torch.arange(64) % 2 > 0).float().reshape(1, *GREY)
    refuses(
        lambda: require_adjoint(
            "physics", functions(lambda x: mask * x, lambda y: y), images(1, *GREY)
        ),
        "not the adjoint",
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: functions(lambda x: x * (torch.rand_like(x) > 0.5), lambda y: y),
            ("LinearPhysics whose A changes at every call", "a fixed operator"),
        ),
        (
            lambda: functions(lambda x: x, lambda y: y + torch.randn_like(y)),
            ("LinearPhysics whose A_adjoint changes at every call", "a fixed operator"),
        ),
        (
            lambda: functions(torch.relu, lambda y: y),
            ("with H(u + v) unlike H u + H v (by 0.", "a linear operator, up to 0.001"),
        ),
        (
            lambda: functions(lambda x: x.roll(1, -1), lambda y: y.roll(1, -1)),
            ("whose A_adjoint is not the adjoint of A (dot test: 0.", "an exact adjoint"),
        ),
        (lambda: functions(lambda x: x * torch.nan, lambda y: y), ("changes at every call",)),
        (lambda: functions(lambda x: x, lambda y: y.sum(1)), ("images (1, 8, 8)",)),
        (lambda: functions(lambda x: x @ torch.ones(3, 3), lambda y: y), ("RuntimeError",)),
        (dp.Haze, ("a deepinv LinearPhysics",)),
    ],
)
def test_what_is_no_linear_operator_is_refused_by_its_fault(make, words):
    physics = make()
    for _ in range(2):  # and is not remembered
        refuses(lambda: require_adjoint("student", physics, images(2, *GREY)), "student: ", *words)


def test_a_filtered_back_projection_is_no_adjoint():
    physics = dp.Tomography(angles=12, img_width=16, normalize=False)
    require_adjoint("physics", physics, images(1, 1, 16, 16))
    filtered = functions(physics.A, physics.fbp)
    refuses(lambda: require_adjoint("physics", filtered, images(1, 1, 16, 16)), "dot test")


def test_several_tensors_and_complex_ones():
    mask = images(*GREY).round()
    stack = dp.stack(dp.Inpainting(GREY, mask=mask), dp.Blur(torch.ones(1, 1, 3, 3) / 9))
    x = images(1, *GREY)
    y = stack.A(x)
    assert len(adjoint.parts(y)) == 2
    assert adjoint.norm(y) == pytest.approx(torch.cat([t.flatten() for t in y]).norm().item())
    require_adjoint("physics", stack, x)
    half = functions(stack.A, lambda y: stack.A_adjoint(y) - 0.5 * stack[1].A_adjoint(y[1]))
    refuses(lambda: require_adjoint("physics", half, x), "dot test")
    fourier = functions(
        lambda x: torch.fft.fft2(x, norm="ortho"), lambda y: torch.fft.ifft2(y, norm="ortho").real
    )
    require_adjoint("physics", fourier, x)
    shifted = functions(fourier.A, lambda y: fourier.A_adjoint(1j * y))
    refuses(lambda: require_adjoint("physics", shifted, x), "dot test")
    a, b = torch.tensor([1 + 2j]), torch.tensor([3 - 1j])
    assert adjoint.inner(a, b) == 1.0


def test_images_that_the_operator_does_not_see_prove_nothing_wrong():
    mean = functions(lambda x: x - x.mean((2, 3), keepdim=True), lambda y: y - y.mean((2, 3), True))
    for x in (torch.ones(1, *GREY), torch.zeros(1, *GREY)):
        assert adjoint.probe(mean, x).sound
    blind = functions(torch.zeros_like, torch.zeros_like)
    assert adjoint.probe(blind, images(1, *GREY)) == adjoint.Probe(0.0, 0.0, 1e-3)


def test_half_precision_is_given_its_rounding():
    physics = functions(lambda x: x / 3, lambda y: y / 3)
    for dtype in (torch.float16, torch.bfloat16):
        found = adjoint.probe(physics, images(1, *GREY).to(dtype))
        assert found.sound and found.tolerance == torch.finfo(dtype).eps ** 0.5 > 0.03


def test_it_costs_four_applications_on_one_image_and_is_remembered():
    physics, x = inpainting(), images(5, *GREY)
    counted = Counted(physics)
    for _ in range(3):
        require_adjoint("physics", physics, x)
    taken = [("A", 1), ("A_adjoint", 1)]  # by require_takes
    assert counted.calls == [*taken, *[("A", 1)] * 3, ("A_adjoint", 1)]
    for change in (
        lambda: physics.mask.mul_(2),
        lambda: physics.update_parameters(mask=physics.mask.flip(-1)),
        lambda: physics.register_buffer("more", torch.zeros(1)),
    ):
        counted.calls.clear()
        change()
        for _ in range(2):
            require_adjoint("physics", physics, x)
        assert len(counted.calls) == 6
    counted.calls.clear()
    require_adjoint("physics", physics, x.double())
    assert len(counted.calls) == 6, "of another dtype"
    require_adjoint("physics", copy.deepcopy(inpainting()), x)


def test_the_draws_of_the_probe_are_its_own():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    x, physics = images(1, *GREY), deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.5))
    assert adjoint.probe(physics, x) == adjoint.probe(physics, x)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(adjoint.normal_like(x, 0, "u"), adjoint.normal_like(x, 0, "v"))
    assert linalg.dot_test_error(physics.A, physics.A_adjoint, x, x) < 1e-6
