"""Descriptions: what gives other results has another one, what is made again has the same."""

import functools
import itertools
import subprocess
import sys
from pathlib import Path

import deepinv
import pytest
import torch
from members import PRIORS
from torch import nn

import dipa
from dipa import identity
from dipa.identity import (
    Description,
    describe,
    describe_code,
    describe_physics,
    describe_preconditioner,
)

SHAPE = (1, 16, 16)
IMAGES = torch.rand((2, *SHAPE), generator=torch.Generator().manual_seed(0))


def seeded(make):
    torch.manual_seed(0)
    return make()


def dncnn(activation: type = nn.ReLU):
    net = deepinv.models.DnCNN(1, 1, depth=3, nf=4, pretrained=None)
    for i, layer in enumerate(net.nl_list):
        net.nl_list[i] = layer if activation is nn.ReLU else activation()
    return net


class Plain(nn.Module):
    def __init__(self, **attributes):
        super().__init__()
        self.__dict__.update(attributes)


def equivariant(kind: type):
    transform = kind(interpolation_mode="bilinear") if kind is deepinv.transform.Rotate else kind()
    return deepinv.models.EquivariantDenoiser(dncnn(), transform=transform)


# each list: objects that give different results, made alike otherwise
DIFFERENT = {
    "a plain attribute of a network": [
        functools.partial(
            deepinv.models.GSDRUNet,
            alpha=alpha,
            in_channels=1,
            out_channels=1,
            pretrained=None,
            nc=[2] * 4,
            nb=1,
        )
        for alpha in (1.0, 0.2)
    ],
    "an activation": [dncnn, lambda: dncnn(nn.LeakyReLU), lambda: dncnn(nn.ELU)],
    "an activation's slope": [lambda slope=slope: nn.LeakyReLU(slope) for slope in (0.01, 0.02)],
    "a transform": [
        lambda kind=kind: equivariant(kind)
        for kind in (deepinv.transform.Rotate, deepinv.transform.Reflect)
    ],
    "weights": [dncnn, lambda: (dncnn(), dncnn())[1]],
    "training or not": [dncnn, lambda: dncnn().eval()],
    "a list": [
        lambda scales=scales: Plain(scales=scales)
        for scales in ([1, 2], [2, 1], (1, 2), {1, 2}, {1: 2})
    ],
    "nested": [
        lambda value=value: Plain(options={"deep": [Plain(level=value)]})
        for value in (0.1, 0.2, None, "0.1", True, 1)
    ],
    "an array": [
        lambda value=value: Plain(taps=torch.tensor(value).numpy()) for value in (0.5, 0.25)
    ],
    "the last digit": [lambda value=value: Plain(level=value) for value in (0.1, 0.1 + 1e-16)],
    "a generator's state": [
        lambda seed=seed: Plain(rng=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    ],
    "a function of a library": [
        lambda f=f: Plain(act=f) for f in (torch.tanh, torch.sigmoid, nn.functional.gelu)
    ],
    "a partial": [
        lambda a=a: Plain(act=functools.partial(nn.functional.leaky_relu, negative_slope=a))
        for a in (0.1, 0.2)
    ],
    "a class": [lambda kind=kind: Plain(layer=kind) for kind in (nn.ReLU, nn.ELU)],
    "a prior": [lambda prior=prior: prior(dncnn()) for prior in PRIORS.values()],
    "sigma": [lambda sigma=sigma: dipa.PnP(dncnn(), sigma=sigma) for sigma in (0.01, 0.02)],
    "a buffer's type": [
        lambda kind=kind: Plain(level=torch.ones(2, dtype=kind))
        for kind in (torch.float32, torch.float64)
    ],
}


@pytest.mark.parametrize("makers", DIFFERENT.values(), ids=DIFFERENT)
def test_what_gives_other_results_is_told_apart(makers):
    found = [describe(seeded(make)) for make in makers]
    again = [describe(seeded(make)) for make in makers]
    for i, j in itertools.product(range(len(makers)), repeat=2):
        assert found[i].same(again[j]) == (i == j), (i, j)
    assert not any(one.unknown for one in found)


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda: Plain(act=lambda x: x), "Plain.act (a function)"),
        (lambda: Plain(inner=[Plain(act=len, own=seeded)]), "Plain.inner[0].own (a function)"),
        (lambda: Plain(rows=iter([1])), "Plain.rows (a list_iterator)"),
        (lambda: nn.Sequential(hooked()), "Sequential.0 (hooks)"),
        (lambda: dipa.FISTA(dipa.PnP(lambda x, s: x)), "FISTA.prior.denoiser (a function)"),
    ],
)
def test_what_cannot_be_described_is_named(make, place):
    assert describe(make()).unknown == (place,)


def hooked():
    layer = nn.Linear(1, 1)
    layer.register_forward_hook(lambda *_: None)
    return layer


def test_a_class_without_a_file_is_named():
    """As one that is written in a notebook: nothing says when its code changes."""
    namespace: dict = {"__name__": "nowhere"}
    exec("class Own:\n    pass\n", namespace)
    assert describe(Plain(own=namespace["Own"]())).unknown == ("Plain.own (the code of Own)",)


def test_the_code_of_a_class_outside_the_libraries_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for factor in (2, 3):
        package = f"own{factor}"
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("from .part import Own\n")
        (tmp_path / package / "helper.py").write_text(f"FACTOR = {factor}\n")
        (tmp_path / package / "part.py").write_text("class Own:\n    __qualname__ = 'Own'\n")
        kind = __import__(package).Own
        kind.__module__ = "own"  # the same class by name
        monkeypatch.setitem(sys.modules, "own", sys.modules[package])
        identity._source.cache_clear()
        found.append(describe(kind()))
    identity._source.cache_clear()
    assert not found[0].same(found[1]) and found[0].unknown == ()


# --- operators ------------------------------------------------------------------------------------


def noisy(noise):
    physics = dipa.operators.single_pixel(SHAPE, ratio=0.5)
    physics.noise_model = noise
    return physics


class Scaled(deepinv.physics.NoiseModel):
    def __init__(self, level: float):
        super().__init__()
        self.level = level

    def forward(self, x, **_):
        return x * self.level


NOISES = {
    "gaussian": lambda: deepinv.physics.GaussianNoise(0.1),
    "more": lambda: deepinv.physics.GaussianNoise(0.2),
    "poisson": lambda: deepinv.physics.PoissonNoise(0.1),
    "a plain attribute": lambda: Scaled(0.1),
    "another": lambda: Scaled(0.1001),
    "none": deepinv.physics.ZeroNoise,
}


def test_noise_models_are_told_apart_and_their_generators_do_not_count():
    found = {
        name: describe_physics(noisy(make()), IMAGES)["noise"] for name, make in NOISES.items()
    }
    assert len({one.exact for one in found.values()}) == len(NOISES)
    physics = noisy(deepinv.physics.GaussianNoise(0.1, rng=torch.Generator()))
    before = describe_physics(physics, IMAGES)
    physics(IMAGES)
    assert all(part.same(before[name]) for name, part in describe_physics(physics, IMAGES).items())


@pytest.mark.parametrize(
    "make",
    [
        lambda: dipa.operators.single_pixel(SHAPE, ratio=0.5, noise_sigma=0.1),
        lambda: dipa.operators.mri_pair((2, 16, 16), acceleration=3, teacher_acceleration=1)[0],
        lambda: dipa.operators.super_resolution(SHAPE, factor=2),
        lambda: deepinv.physics.Blur(torch.ones(1, 1, 3, 3) / 9, padding="circular"),
        lambda: deepinv.physics.Inpainting(SHAPE, mask=0.5, rng=torch.Generator().manual_seed(0)),
        lambda: deepinv.physics.Tomography(angles=6, img_width=16, normalize=True),
        lambda: deepinv.physics.Downsampling(SHAPE, factor=2, filter="gaussian"),
    ],
)
def test_use_does_not_change_an_operator(make):
    physics = make()
    x = IMAGES.expand(2, 2, 16, 16) if isinstance(physics, deepinv.physics.MRI) else IMAGES
    before = describe_physics(physics, x)
    dipa.FISTA(dipa.PnP(dncnn()), 2)(physics(x), physics)
    dipa.LinearPreconditioner.identity(physics, tuple(x.shape[1:]))
    after = describe_physics(physics, x)
    assert [name for name in before if not after[name].same(before[name])] == []
    assert not any(part.unknown for part in after.values())


def test_operators_are_told_apart_by_what_they_do():
    masks = [torch.ones(SHAPE).index_fill(2, torch.tensor([i]), 0) for i in range(16)]
    found = [
        describe_physics(deepinv.physics.Inpainting(SHAPE, mask=mask), IMAGES)["operator"]
        for mask in masks
    ]
    assert all(
        found[i].same(found[j]) == (i == j) for i, j in itertools.product(range(16), repeat=2)
    )


def test_functions_as_an_operator_are_told_apart_by_what_they_do():
    def operator(scale):
        return deepinv.physics.LinearPhysics(
            A=lambda x, **_: scale * x, A_adjoint=lambda y, **_: scale * y
        )

    one, same, last_digits, other = (
        describe_physics(operator(s), IMAGES)["operator"] for s in (2.0, 2.0, 2 + 1e-6, 2.01)
    )
    assert one.same(same) and one.same(last_digits) and not one.same(other) and one.unknown == ()


def test_an_operator_made_in_another_process_is_the_same():
    """deepinv finds the norm of a tomography with a power method that starts anywhere."""
    code = (
        "import deepinv, torch, json\nfrom dipa.identity import describe_physics\n"
        "physics = deepinv.physics.Tomography(angles=8, img_width=16, normalize=True)\n"
        "print(json.dumps(describe_physics(physics, torch.zeros(1, 1, 16, "
        "16))['operator'].record()))"
    )
    call = [sys.executable, "-c", code]
    options = {
        "capture_output": True,
        "text": True,
        "check": True,
        "cwd": Path(dipa.__file__).parents[1],
    }
    one, two = (Description.read(eval(subprocess.run(call, **options).stdout)) for _ in range(2))
    physics = deepinv.physics.Tomography(angles=8, img_width=16, normalize=True)
    physics.operator_norm *= 1.001
    other = describe_physics(physics, torch.zeros(1, 1, 16, 16))["operator"]
    assert one.same(two) and not one.same(other)


# --- preconditioners ------------------------------------------------------------------------------


def test_a_linear_preconditioner_is_what_it_does_whatever_its_basis():
    physics = dipa.operators.super_resolution(SHAPE, factor=2)
    P = dipa.LinearPreconditioner.identity(physics)
    rotation = torch.linalg.qr(
        torch.randn(P.basis.dim, P.basis.dim, generator=torch.Generator().manual_seed(0))
    )[0]
    rows = P.basis.image(rotation).flatten(1)
    turned = dipa.LinearPreconditioner(rows.T, type(dense_basis(rows))(SHAPE, rows))
    same = dipa.LinearPreconditioner(
        dense_basis(physics_rows(P)).rows.T, dense_basis(physics_rows(P))
    )
    a, b = (describe_preconditioner(one, IMAGES, 3) for one in (turned, same))
    assert all(a[name].same(b[name]) for name in a)
    turned.matrix.data *= 1.001
    assert not describe_preconditioner(turned, IMAGES, 3)["start"].same(a["start"])


def physics_rows(P):
    return P.basis.image(torch.eye(P.basis.dim)).flatten(1)


def dense_basis(rows):
    return dipa.operators.bases.MatrixBasis(SHAPE, rows)


def test_every_iteration_of_a_linear_preconditioner_counts():
    found = []
    for change in (0.0, 0.1):
        steps = dipa.ScalarSteps(3)
        with torch.no_grad():
            next(steps.parameters()).flatten()[-1] += change
        found.append(describe_preconditioner(steps, IMAGES, 3)["start"])
    assert not found[0].same(found[1])


def test_hidden_weights_of_a_network_count():
    """It starts as the identity: what it does says nothing about its seed."""
    found = [
        describe_preconditioner(
            dipa.NeuralPreconditioner("convnext", img_size=SHAPE, features=4, blocks=1, seed=seed),
            IMAGES,
            3,
        )["preconditioner"]
        for seed in (0, 0, 1)
    ]
    assert found[0].same(found[1]) and not found[0].same(found[2])


# --- code -----------------------------------------------------------------------------------------


def test_the_code_that_shapes_a_solve_counts_and_its_comments_do_not(tmp_path, monkeypatch):
    root = tmp_path / "dipa"
    (root / "solvers").mkdir(parents=True)
    (root / "plots").mkdir()
    monkeypatch.setattr(identity, "__file__", str(root / "identity.py"))

    def digest(**sources):
        for name, source in sources.items():
            (root / f"{name.replace('__', '/')}.py").write_text(source)
        identity._syntax.cache_clear()
        return describe_code().exact

    first = digest(solvers__momentum='"""Rules."""\nRULE = 1\n', plots__lines="COLOUR = 1\n")
    assert (
        digest(
            solvers__momentum='"""Other words."""\n# why\nRULE = 1\n', plots__lines="COLOUR = 2\n"
        )
        == first
    )
    assert digest(solvers__momentum="RULE = 2\n") != first
    identity._syntax.cache_clear()


def test_nothing_of_a_solve_is_left_out_of_the_code():
    """What is left out: the command line, the adapter, reports, data (their images are hashed),
    experiments.
    """
    root = Path(dipa.__file__).parent
    counted = {path.name.removesuffix(".py") for path in root.iterdir()} - {
        name.removesuffix(".py") for name in identity.UNUSED
    }
    assert {
        "solvers",
        "priors",
        "preconditioners",
        "networks",
        "losses",
        "training",
        "endtoend",
        "operators",
        "metrics",
    } <= counted
    assert {"denoisers", "linalg", "seeding", "physics", "checks"} <= counted
