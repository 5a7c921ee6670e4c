"""Whatever goes in, a result or a clear error comes out: never a traceback from inside torch, never
a result that is wrong.

Pytest's closing lines say how many examples were tried; ``pytest --hypothesis-profile long`` tries
20 times as many.
"""

import contextlib
import copy
import functools
import io
import json
import math
import tempfile
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from batteries import (
    check_adjoint,
    identity_denoiser,
    images,
    relative,
    size_of,
    smooth_images,
    tiny_denoiser,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from members import END_TO_END, FITTED, FOREIGN, MEMBERS, PRIORS, SHAPE, SMALL, neural
from safetensors.torch import save_file
from tiny_runs import TINY
from tried import check_finite, check_message, result_or_clear_error

import dipa
from dipa import cli, data, endtoend, experiments, losses, networks, operators
from dipa.choices import FORMS, WAYS
from dipa.experiments.config import METHODS, Config, build
from dipa.experiments.problem import PRIORS as PRIOR_NAMES
from dipa.experiments.problem import Problem
from dipa.experiments.tasks import TASKS
from dipa.identity import describe
from dipa.operators.measure import MAX_NUMBERS, measure
from dipa.settings import SCHEDULES
from dipa.solvers import MOMENTA, STARTS
from dipa.training import Differentiation, load_checkpoint, save_checkpoint

# torch says so once, of half-precision transforms that it then refuses
pytestmark = [
    pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning"),
    # of numbers made too large; what follows is the test
    pytest.mark.filterwarnings("ignore:(images|x_true). values in:UserWarning"),
    pytest.mark.filterwarnings("ignore:y. norm :UserWarning"),
]


def tries(count: int) -> settings:
    """``count`` examples of a property, more by the factor of the profile."""
    return settings(max_examples=count * settings.default.max_examples // 100)


EXTREME = (
    0,
    1,
    -1,
    2,
    3,
    0.5,
    1.0,
    1e-30,
    5e-324,
    1e30,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
    10**20,
    10**400,
)
NUMBERS = st.sampled_from(EXTREME) | st.floats() | st.integers()
OBJECTS = (
    torch.tensor(0.5),
    torch.ones(3),
    np.float32(1),
    np.ones(2),
    object(),
    "1/L",
    "../up",
    "two\nlines",
    "\0",
    ["identity"],
)
TEXT = st.text(max_size=8)
JUNK = (
    NUMBERS
    | st.none()
    | st.booleans()
    | TEXT
    | st.sampled_from(OBJECTS)
    | st.lists(st.integers(), max_size=4)
) | st.dictionaries(TEXT | st.integers(), st.integers() | TEXT, max_size=2)
DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.int64,
    torch.complex64,
    torch.bool,
)
FLOATS = (torch.float32, torch.float64)


def mostly(
    good: st.SearchStrategy, bad: st.SearchStrategy = JUNK, share: int = 20
) -> st.SearchStrategy:
    """``good`` in all but one of ``share`` draws: an example with many arguments should not
    fail on each.
    """
    return st.integers(1, share).flatmap(lambda draw: bad if draw == share else good)


def choice(names) -> st.SearchStrategy:
    return mostly(st.sampled_from(list(names)))


# --- configurations -------------------------------------------------------------------------------


@functools.cache
def known_values() -> dict[str, list]:
    """Every key of a configuration as ``section.key``, with the values that presets give it."""
    found: dict[str, list] = {}
    for name in experiments.names()[::5]:
        for profile in experiments.profiles():
            for key, value in asdict(experiments.resolve(name, profile)).items():
                pairs = (
                    {f"{key}.{inner}": v for inner, v in value.items()}
                    if isinstance(value, dict)
                    else {}
                )
                for dotted, v in ({key: value} | pairs).items():
                    found.setdefault(dotted, [])
                    found[dotted] += [] if v in found[dotted] else [v]
    return found | {
        "shifts.name.task": [{"size": 16}],
        "shifts.name.solver": [{"iterations": 3}],
        "method": list(METHODS),
    }


KEYS = mostly(
    st.deferred(lambda: st.sampled_from(sorted(known_values()))),
    TEXT | st.sampled_from(["a.b.c", ".", "solver."]),
)
PAIRS = KEYS.flatmap(
    lambda key: st.tuples(
        st.just(key), mostly(st.sampled_from(known_values().get(key, [1])), share=3)
    )
)
PRESET_OF = {"single_pixel": "n-dipa", "mri": "mri-n-dipa", "super_resolution": "sr-n-dipa"}


def check_config(config: Config) -> None:
    """It survives every way it is written, and names a folder beside its siblings."""
    assert build(Config, asdict(config)) == config
    assert build(Config, yaml.safe_load(yaml.safe_dump(asdict(config)))) == config
    assert Path(config.run_name).name == config.run_name and config.run_name.isprintable()
    json.dumps(asdict(config), allow_nan=False)


@tries(400)
@given(
    name=mostly(st.sampled_from(experiments.names())),
    profile=choice(experiments.profiles()),
    seed=mostly(st.integers(0, 99)),
    overrides=mostly(
        st.dictionaries(KEYS, st.none(), max_size=1) | st.lists(PAIRS, max_size=3).map(dict),
        JUNK,
        20,
    ),
)
def test_configurations_from_values(name, profile, seed, overrides):
    result_or_clear_error(
        lambda: experiments.resolve(name, profile, seed=seed, overrides=overrides), check_config
    )


YAML_TEXT = st.sampled_from(
    [
        "2020-13-45",
        "0x_",
        "!!int x",
        "!!timestamp x",
        "[" * 700,
        "&a [*a]",
        "&a {b: *a}",
        "{1: 2}",
        "1e400",
    ]
)


def as_text(pair) -> str:
    key, value = pair
    text = value if isinstance(value, str) else json.dumps(value, default=lambda v: "object")
    return f"{key}={text}"


ARGUMENTS = PAIRS.map(as_text) | st.tuples(KEYS, YAML_TEXT | TEXT).map("=".join) | TEXT


@tries(400)
@given(preset=st.sampled_from(experiments.names()), overrides=st.lists(ARGUMENTS, max_size=3))
def test_configurations_from_text(preset, overrides):
    result_or_clear_error(
        lambda: experiments.resolve(preset, "smoke", overrides=overrides), check_config
    )


@tries(150)
@given(
    kind=st.sampled_from(sorted(TASKS)),
    values=st.fixed_dictionaries(
        {"size": mostly(st.sampled_from([8, 12, 13, 16]))},
        optional={
            name: mostly(NUMBERS | st.integers(1, 16) | st.floats(0, 1))
            for name in sorted(
                {f.name for task in TASKS.values() for f in fields(task)}
                - {"kind", "size", "ordering"}
            )
        },
    ),
)
def test_what_a_configuration_allows_its_operators_take(kind, values):
    """A task that resolves either makes its two operators or says which of its numbers do not
    fit.
    """
    own = {f"task.{f.name}" for f in fields(TASKS[kind])}
    overrides = {key: value for name, value in values.items() if (key := f"task.{name}") in own}

    def pair():
        return experiments.resolve(PRESET_OF[kind], "smoke", overrides=overrides).task.pair()

    result_or_clear_error(pair, lambda made: [check_operator(physics) for physics in made])


# --- operators ------------------------------------------------------------------------------------

SIDES = st.sampled_from([1, 2, 3, 4, 5, 7, 8, 12, 16])
# a large image takes its time
OTHER_SIDES = NUMBERS.filter(lambda side: not 64 < side <= MAX_NUMBERS)
TRIPLES = st.tuples(st.integers(1, 4), mostly(SIDES, OTHER_SIDES), mostly(SIDES, OTHER_SIDES))
SIZES = mostly(TRIPLES | SIDES.map(lambda side: (1, side, side)) | TRIPLES.map(list))
POWERS = st.sampled_from([2, 4, 8, 16])
HADAMARD = mostly(
    st.tuples(st.integers(0, 4), POWERS, POWERS) | POWERS.map(lambda n: (1, n, n)), SIZES, 3
)
RATIOS = mostly(st.floats(0, 1) | st.sampled_from([1e-9, 1.0, 1]), NUMBERS | JUNK, 3)
ACCELERATIONS = mostly(st.floats(1, 8) | st.integers(1, 8), NUMBERS | JUNK, 4)
NOISE = mostly(st.sampled_from([0, 0.0, 0.1, 1e-320]), NUMBERS | JUNK)
SEEDS = mostly(st.integers(0, 2**63 - 1))


def in_dtype(module, dtype: torch.dtype):
    """``module`` in float32 or float64; unlike ``.to(dtype)`` it leaves complex buffers alone."""
    return module.double() if dtype == torch.float64 else module.float()


def check_operator(physics) -> None:
    """Adjoint, of finite positive norm, and with noise that depends on the seed alone."""
    size = size_of(physics)
    for dtype in FLOATS:
        check_adjoint(in_dtype(copy.deepcopy(physics), dtype), size, 1e-4, dtype)
    assert 0 < physics.norm_sq < 4
    y = measure(physics, images(2, *size), seed=3)
    check_finite(y, y.shape, torch.float32)
    assert torch.equal(y, measure(physics, images(2, *size), seed=3))
    assert physics.A_adjoint(y).shape == (2, *size)
    json.dumps(physics.describe(), allow_nan=False)


@tries(250)
@given(size=HADAMARD, ratio=RATIOS, ordering=choice(operators.ORDERINGS), sigma=NOISE)
def test_single_pixel(size, ratio, ordering, sigma):
    def check(physics):
        check_operator(physics)
        n = size[1] * size[2]
        assert physics.mask[0, 0].sum() == max(1, round(ratio * n))

    result_or_clear_error(
        lambda: operators.single_pixel(size, ratio=ratio, ordering=ordering, noise_sigma=sigma),
        check,
    )


MASKS = st.none() | st.sampled_from(
    [torch.ones(8, 8), torch.zeros(8, 8), torch.eye(8).bool(), torch.ones(8, 8, device="meta")]
)


@tries(250)
@given(size=SIZES, acceleration=ACCELERATIONS, seed=SEEDS, sigma=NOISE, mask=mostly(MASKS))
@example(
    size=(1, 8, 8), acceleration=None, seed=0, sigma=0.0, mask=torch.eye(8, dtype=torch.complex64)
)
def test_mri(size, acceleration, seed, sigma, mask):
    arguments = {
        "acceleration": acceleration,
        "mask_seed": seed,
        "noise_sigma": sigma,
        "mask": mask,
    }
    result_or_clear_error(lambda: operators.mri(size, **arguments), check_operator)


@tries(150)
@given(size=SIZES, student=ACCELERATIONS, teacher=ACCELERATIONS, seed=SEEDS, nested=st.booleans())
def test_mri_pairs(size, student, teacher, seed, nested):
    def make():
        return operators.mri_pair(
            size, acceleration=student, teacher_acceleration=teacher, mask_seed=seed, nested=nested
        )

    def check(pair):
        for physics in pair:
            check_operator(physics)
        assert not nested or operators.unshared_columns(*pair) == 0

    result_or_clear_error(make, check)


@tries(200)
@given(size=SIZES, factor=mostly(st.integers(1, 8), JUNK, 4), sigma=NOISE)
def test_super_resolution(size, factor, sigma):
    result_or_clear_error(
        lambda: operators.super_resolution(size, factor=factor, noise_sigma=sigma), check_operator
    )


# --- solvers --------------------------------------------------------------------------------------

PHYSICS = SMALL | FOREIGN
SIZE_OF_FOREIGN = {"deepinv's MRI": (2, 12, 10)}


@functools.cache
def problem(name: str, dtype: torch.dtype):
    """An operator in a dtype, with the size of its images."""
    physics = in_dtype(PHYSICS[name](), dtype)
    return physics, SIZE_OF_FOREIGN.get(name) or tuple(size_of(physics))


@functools.cache
def member(name: str, dtype: torch.dtype):
    return in_dtype(NEURAL[name]() if name in NEURAL else MEMBERS[name](), dtype)


NEURAL = {
    name: functools.partial(neural, name, features=16, code_dim=8, start="identity")
    for name in networks.BACKBONES
}
SAME = st.sampled_from(FLOATS).map(lambda dtype: (dtype, dtype, dtype, dtype))
MIXED = st.tuples(
    st.sampled_from(FLOATS),
    st.sampled_from(DTYPES),
    st.sampled_from([*FLOATS, None]),
    st.sampled_from(FLOATS),
)
# 8 x 8, any
PROBLEMS = mostly(
    st.sampled_from(["single pixel", "real MRI", "inpainting"]), st.sampled_from(sorted(PHYSICS)), 2
)
DENOISERS = {dtype: copy.deepcopy(tiny_denoiser()).to(dtype) for dtype in FLOATS} | {
    None: identity_denoiser
}
PRECONDITIONERS = st.none() | st.tuples(
    st.sampled_from([*MEMBERS, *NEURAL]), mostly(st.just(None), st.sampled_from(FLOATS), 4)
)
PRIOR_OPTIONS = st.fixed_dictionaries(
    {}, optional={"sigma": mostly(st.just(0.01)), "precision": choice(["float32", "bf16"])}
)
SOLVER_OPTIONS = st.fixed_dictionaries(
    {
        "iterations": mostly(
            st.integers(1, 4), JUNK.filter(lambda k: not (isinstance(k, int) and k > 4))
        )
    },
    optional={
        "momentum": choice(MOMENTA),
        "start": choice(STARTS),
        "restart": mostly(st.integers(0, 3)),
    },
)
STEPSIZES = mostly(st.sampled_from(["1/L", 0.4, 1.0, 1]) | st.floats(0, 2), NUMBERS | JUNK, 6)
CALLS = {
    "backward": mostly(st.none() | st.integers(0, 9)),
    "x_true": mostly(st.none() | st.just("truth")),
}
BATCHES = mostly(st.integers(1, 3), st.just(0))


def prior_of(kind: str, dtype: torch.dtype | None, options: dict, weight: object):
    more = {"weight": weight} if kind == "RED" else {}
    return PRIORS[kind](DENOISERS[dtype], **options, **more)


@tries(500)
@given(
    name=PROBLEMS,
    dtypes=mostly(SAME, MIXED, 3),
    batch=BATCHES,
    change=mostly(st.just("none"), st.sampled_from(["meta", "shape", "nan", "large", "junk"])),
    junk=JUNK,
    kind=st.sampled_from([*PRIORS]),
    weight=mostly(st.floats(0, 2)),
    prior=PRIOR_OPTIONS,
    options=SOLVER_OPTIONS,
    stepsize=STEPSIZES,
    preconditioner=PRECONDITIONERS,
    call=st.fixed_dictionaries(
        {}, optional={"history": st.booleans(), "iterates": st.booleans()} | CALLS
    ),
)
def test_solver(
    name, dtypes, batch, change, junk, kind, weight, prior, options, stepsize, preconditioner, call
):
    (physics, size), dtype = problem(name, dtypes[0]), dtypes[1]
    x = images(3, *size)
    x, y = x[:batch], problem(name, torch.float32)[0].A(x).to(dtype)[:batch]
    y = {
        "meta": lambda: y.to("meta"),
        "shape": lambda: y[..., :-1],
        "nan": lambda: y * math.nan,
        "large": lambda: y * 1e30 if y.is_floating_point() else y,
        "junk": lambda: junk,
        "none": lambda: y,
    }[change]()
    if "x_true" in call:
        call = call | {"x_true": x.to(dtype) if call["x_true"] == "truth" else call["x_true"]}
    P = preconditioner and member(preconditioner[0], preconditioner[1] or dtypes[0])

    def solve():
        solver = dipa.FISTA(prior_of(kind, dtypes[2], prior, weight), **options)
        return solver(y, physics, preconditioner=P, stepsize=stepsize, **call)

    def check(result):
        K = options["iterations"]
        check_finite(result.x, (batch, *size), result.x.dtype)
        assert result.x.dtype in (dtype, torch.promote_types(dtype, dtypes[0]))
        assert result.status in ("completed", "diverged") and 0 <= result.iterations <= K
        assert (result.iterations == K) == (result.status == "completed")
        assert len(result.history) == (result.iterations + 1 if call.get("history") else 0)
        if call.get("iterates"):
            assert (
                torch.equal(result.iterates[-1], result.x)
                and len(result.iterates) == result.iterations + 1
            )

    result_or_clear_error(solve, check)


@tries(60)
@given(
    what=st.sampled_from(["prior", "physics", "preconditioner", "denoiser", "y", "x_true"]),
    junk=JUNK,
)
def test_solver_with_something_else_in_one_place(what, junk):
    parts = {
        "prior": dipa.PnP(identity_denoiser),
        "physics": problem("single pixel", torch.float32)[0],
        "preconditioner": None,
    }
    parts |= {"denoiser": identity_denoiser, "y": torch.ones(1, *SHAPE), "x_true": None} | {
        what: junk
    }

    def solve():
        prior = dipa.PnP(parts["denoiser"]) if what == "denoiser" else parts["prior"]
        more = {name: parts[name] for name in ("preconditioner", "x_true")}
        return dipa.FISTA(prior, iterations=2)(parts["y"], parts["physics"], **more)

    result_or_clear_error(solve, lambda result: check_finite(result.x, (1, *SHAPE), torch.float32))


FUNCTIONS = {
    "itself": lambda x, *rest: x,
    "half": lambda x, *rest: 0.5 * x,
    "double": lambda x, *rest: x.double(),
    "first": lambda x, *rest: x[:1],
    "mean": lambda x, *rest: x.mean(),
    "flat": lambda x, *rest: x.flatten(1),
    "empty": lambda x, *rest: x[:0],
    "nan": lambda x, *rest: x * math.nan,
    "large": lambda x, *rest: x * 1e30,
    "nothing": lambda x, *rest: None,
    "number": lambda x, *rest: 0.0,
    "list": lambda x, *rest: x.tolist(),
}


@tries(60)
@given(
    denoiser=mostly(st.just("itself"), st.sampled_from(sorted(FUNCTIONS)), 2),
    preconditioner=mostly(st.just("itself"), st.sampled_from(sorted(FUNCTIONS)), 2),
    batch=st.integers(1, 2),
    precision=st.sampled_from(["float32", "bf16"]),
)
def test_solver_with_functions_of_the_user(denoiser, preconditioner, batch, precision):
    """Plain functions as denoiser and as preconditioner: broadcasting must not hide that one
    returns another shape.
    """
    physics, size = problem("single pixel", torch.float32)
    solver = dipa.FISTA(dipa.PnP(FUNCTIONS[denoiser], precision=precision), iterations=2)

    def solve():
        return solver(
            physics.A(images(batch, *size)), physics, preconditioner=FUNCTIONS[preconditioner]
        )

    result_or_clear_error(
        solve, lambda result: check_finite(result.x, (batch, *size), torch.float32)
    )


@tries(60)
@given(
    options=SOLVER_OPTIONS,
    preconditioner=st.sampled_from([None, "scalar", "linear, dense", "convnext", "Hessian"]),
    stepsize=STEPSIZES,
    wrong=mostly(st.just(""), st.sampled_from(["solver", "preconditioner", "physics"])),
    junk=JUNK,
)
def test_the_same_in_deepinv(options, preconditioner, stepsize, wrong, junk):
    physics, size = problem("single pixel", torch.float32)
    y, P = physics.A(images(2, *size)), preconditioner and member(preconditioner, torch.float32)

    def models():
        solver = dipa.FISTA(dipa.PnP(DENOISERS[torch.float32]), **options)
        parts = {"solver": solver, "preconditioner": P, "physics": physics} | (
            {wrong: junk} if wrong else {}
        )
        return solver, dipa.to_deepinv(**parts, stepsize=stepsize), parts["preconditioner"]

    def same(made):
        solver, model, own = made
        ours = solver(y, physics, preconditioner=own, stepsize=stepsize)
        moderate = stepsize == "1/L" or stepsize < 9  # beyond, rounding is all there is
        assert relative(model(y, physics), ours.x) < 1e-4 or not moderate

    result_or_clear_error(models, same)


MADE = {
    "ConvolutionalSteps, size": lambda x: dipa.ConvolutionalSteps(2, size=x),
    "ScalarSteps, iterations": lambda x: dipa.ScalarSteps(x),
    "PointwiseSteps, img_size": lambda x: dipa.PointwiseSteps(2, x),
    "LinearSteps, start": lambda x: dipa.LinearSteps(2, x),
    "Hessian, physics": lambda x: dipa.Hessian(x, regularization=0.1),
    "Hessian, img_size": lambda x: dipa.Hessian(camera(), x, regularization=0.1),
    "Hessian, regularization": lambda x: dipa.Hessian(camera(), regularization=x),
    "Hessian, tol": lambda x: dipa.Hessian(camera(), regularization=0.1, tol=x),
    "Polynomial, physics": lambda x: dipa.Polynomial(x, (1.0,)),
    "Polynomial, coefficients": lambda x: dipa.Polynomial(camera(), x),
    "chebyshev, physics": lambda x: dipa.Polynomial.chebyshev(x),
    "chebyshev, degree": lambda x: dipa.Polynomial.chebyshev(camera(), x),
    "chebyshev, interval": lambda x: dipa.Polynomial.chebyshev(camera(), 4, x),
    "l2, L": lambda x: dipa.Polynomial.l2(camera(), 4, (0, x)),
    "identity, physics": lambda x: dipa.LinearPreconditioner.identity(x),
    "identity, img_size": lambda x: dipa.LinearPreconditioner.identity(camera(), x),
    "identity, form": lambda x: dipa.LinearPreconditioner.identity(camera(), form=x),
    "identity, complement": lambda x: dipa.LinearPreconditioner.identity(camera(), complement=x),
    "ridge, physics": lambda x: dipa.LinearPreconditioner.ridge(x, images(2, *SHAPE), stepsize=0.4),
    "ridge, images": lambda x: dipa.LinearPreconditioner.ridge(camera(), x, stepsize=0.4),
    "ridge, double images": lambda x: dipa.LinearPreconditioner.ridge(
        camera(), images(2, *SHAPE).double(), stepsize=0.4
    ),
    "ridge, other images": lambda x: dipa.LinearPreconditioner.ridge(
        camera(), images(2, 1, 16, 16), stepsize=0.4
    ),
    "ridge, stepsize": lambda x: dipa.LinearPreconditioner.ridge(
        camera(), images(2, *SHAPE), stepsize=x
    ),
    "ridge, regularization": lambda x: dipa.LinearPreconditioner.ridge(
        camera(), images(2, *SHAPE), stepsize=1, regularization=x
    ),
    "matrix": lambda x: dipa.LinearPreconditioner(x, camera().basis),
    "basis": lambda x: dipa.LinearPreconditioner(torch.ones(64, 19), x),
}


def small_or_far_too_large(value: object) -> bool:
    """No size in between: what is allowed and takes gigabytes."""
    sides = value if isinstance(value, (list, tuple)) else [value]
    size = math.prod(abs(side) for side in sides if isinstance(side, int))
    return not 2**16 < size <= 2**33


def camera():
    return problem("single pixel", torch.float32)[0]


PAIR = st.lists(st.floats(0, 2), min_size=2, max_size=2).map(tuple)


@tries(200)
@given(
    what=st.sampled_from(sorted(MADE)),
    junk=(JUNK | PAIR | st.sampled_from([1, 3, 0.5, SHAPE, "dense"])).filter(
        small_or_far_too_large
    ),
)
def test_preconditioners_made_of_anything(what, junk):
    def check(direction):
        assert direction.shape == (2, *SHAPE)

    result_or_clear_error(lambda: MADE[what](junk)(images(2, *SHAPE), images(2, *SHAPE), 1), check)


@tries(80)
@given(
    name=choice(networks.BACKBONES),
    size=mostly(st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 12)), SIZES),
    given_size=st.none()
    | st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12)),
    options=st.fixed_dictionaries(
        {"features": mostly(st.sampled_from([8, 16])), "blocks": mostly(st.integers(1, 2))},
        optional={
            "code": choice(networks.CODES),
            "code_dim": mostly(st.sampled_from([2, 8])),
            "seed": mostly(st.integers(0, 9)),
        }
        | {"start": choice(networks.INITIAL), "precision": choice(["float32", "bf16"])},
    ),
    k=mostly(st.integers(1, 9)),
)
def test_neural_preconditioners(name, size, given_size, options, k):
    shape = given_size or (2, *size) if isinstance(size, tuple) else (2, *SHAPE)

    def run():
        P = dipa.NeuralPreconditioner(name, img_size=size, **options)
        return P(images(*shape), images(*shape), k)

    result_or_clear_error(run, lambda direction: check_finite(direction, shape, torch.float32))


# --- training -------------------------------------------------------------------------------------

TERMS = tuple(losses.TERMS)
WEIGHTS = mostly(
    st.dictionaries(st.sampled_from(TERMS), st.floats(0, 2), min_size=1, max_size=3).map(
        lambda w: {"supervised": 0.1} | w
    ),
    st.dictionaries(st.sampled_from(TERMS), JUNK, min_size=1, max_size=2),
)
BUDGETS = st.fixed_dictionaries(
    {"steps": mostly(st.integers(1, 3), st.sampled_from([0, -1, 2.5, None, True, math.nan]))},
    optional={
        "batch_size": mostly(st.integers(1, 9), st.sampled_from([0, 40, -1, 1.0, None])),
        "optimizer": choice(["adam", "adamw"]),
        "schedule": choice(SCHEDULES),
        "learning_rate": mostly(st.sampled_from([1e-3, 1e-30, 1.0]), NUMBERS),
        "weight_decay": mostly(st.sampled_from([0, 0.01]), NUMBERS),
        "clip": mostly(st.sampled_from([0, 1.0]), NUMBERS),
        "factor": mostly(st.floats(0.1, 0.9), NUMBERS),
        "window": mostly(st.integers(1, 4), st.sampled_from([0, 10**9])),
        "patience": mostly(st.integers(0, 3)),
    },
)
SEED = {"seed": mostly(st.integers(0, 9))}


def training_images(
    count: int, size: tuple[int, int, int], dtype: torch.dtype, change: str, junk: object
):
    x = (
        smooth_images(max(count, 1) * size[0], max(size[1:]))[..., : size[1], : size[2]]
        .reshape(-1, *size)[:count]
        .to(dtype)
    )
    return {"none": x, "meta": x.to("meta"), "nan": x * math.nan, "large": x * 1e30, "junk": junk}[
        change
    ]


@tries(250)
@given(
    names=mostly(PROBLEMS.map(lambda name: (name, name)), st.tuples(PROBLEMS, PROBLEMS), 10),
    dtypes=mostly(SAME, MIXED, 5),
    count=mostly(st.integers(1, 5), st.just(0)),
    change=mostly(st.just("none"), st.sampled_from(["meta", "nan", "large", "junk"]), 20),
    junk=JUNK,
    fitted=mostly(st.sampled_from([*FITTED]), st.none(), 3),
    P=st.sampled_from([*MEMBERS, *NEURAL]),
    teacher=mostly(st.just("own"), st.sampled_from(["none", "student"]), 6),
    iterations=st.integers(1, 3),
    weights=WEIGHTS,
    budget=BUDGETS,
    way=st.fixed_dictionaries({"way": choice(WAYS)}, optional={"tail": mostly(st.integers(1, 5))}),
    options=st.fixed_dictionaries(
        {}, optional={"stepsize": STEPSIZES, "teacher_stepsize": STEPSIZES} | SEED
    ),
)
def test_distill(
    names,
    dtypes,
    count,
    change,
    junk,
    fitted,
    P,
    teacher,
    iterations,
    weights,
    budget,
    way,
    options,
):
    student, size = problem(names[0], dtypes[0])
    other = {
        "own": copy.deepcopy(problem(names[1], dtypes[0])[0]),
        "none": None,
        "student": student,
    }[teacher]
    x = training_images(count, size, dtypes[1], change, junk)

    def train():
        start = (
            FITTED[fitted](student, size, iterations)
            if fitted
            else copy.deepcopy(member(P, dtypes[3]))
        )
        start = in_dtype(start, dtypes[3])
        solver = dipa.FISTA(dipa.PnP(DENOISERS[dtypes[2]]), iterations=iterations)
        more = {
            "losses": dipa.LossWeights(**weights),
            "budget": dipa.Budget(**budget),
            "differentiation": Differentiation(**way),
        }
        return dipa.distill(
            solver, start, student, other, x, progress=False, **more, **options, validation=0
        )

    def check(fit):
        assert len(fit.history) == budget["steps"]
        for record in fit.history:
            assert all(math.isfinite(value) for value in record.values())
        for parameter in fit.preconditioner.parameters():
            check_finite(parameter, parameter.shape, dtypes[3])
        json.dumps(fit.record, allow_nan=False)

    result_or_clear_error(train, check)


@tries(60)
@given(
    what=st.sampled_from(
        [
            "solver",
            "preconditioner",
            "student",
            "teacher",
            "images",
            "losses",
            "budget",
            "differentiation",
        ]
    ),
    junk=JUNK,
)
def test_distill_with_something_else_in_one_place(what, junk):
    student, size = problem("single pixel", torch.float32)
    parts = {
        "solver": dipa.FISTA(dipa.PnP(identity_denoiser), iterations=1),
        "student": student,
        "images": smooth_images(2),
    }
    parts |= {
        "preconditioner": dipa.ScalarSteps(1),
        "teacher": copy.deepcopy(student),
        "budget": dipa.Budget(steps=1),
    }
    parts |= {"losses": dipa.LossWeights(imitation=1), "differentiation": None} | {what: junk}
    result_or_clear_error(
        lambda: dipa.distill(**parts, progress=False, validation=0), lambda fit: len(fit.history)
    )


# nothing that would take seconds to build
UNBUILT = JUNK.filter(lambda n: not (isinstance(n, int) and 16 < n < 2**17))
NETWORK_SIZES = {
    "features": mostly(st.sampled_from([2, 4]), UNBUILT),
    "blocks": mostly(st.integers(1, 2), UNBUILT),
}


@tries(80)
@given(
    name=choice(END_TO_END),
    physics=st.sampled_from(sorted(PHYSICS)),
    dtypes=mostly(SAME, MIXED, 5),
    size=mostly(st.none(), SIZES, 6),
    network=st.fixed_dictionaries(
        NETWORK_SIZES, optional={"start": choice(STARTS), "seed": mostly(st.integers(0, 9))}
    ),
    count=mostly(st.integers(1, 3), st.just(0)),
    change=mostly(st.just("none"), st.sampled_from(["meta", "nan", "large", "junk"])),
    junk=JUNK,
    budget=BUDGETS,
    seed=mostly(st.integers(0, 9)),
)
def test_networks(name, physics, dtypes, size, network, count, change, junk, budget, seed):
    H, own = problem(physics, dtypes[0])
    x = training_images(count, own, dtypes[1], change, junk)

    def train():
        net = endtoend.build(name, own if size is None else size, **network)
        net = in_dtype(net, dtypes[3])
        return dipa.train_network(
            net, H, x, budget=dipa.Budget(**budget), seed=seed, progress=False
        )

    def check(fit):
        assert len(fit.history) == budget["steps"]
        with torch.no_grad():
            check_finite(fit.network(H.A(x), H), x.shape, dtypes[3])

    result_or_clear_error(train, check)


# --- data -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoded():
    """Photographs decoded once: every request would decode six."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.embedded, "photograph", functools.cache(data.embedded.photograph))
        yield


@tries(100)
@given(
    name=mostly(
        st.sampled_from(["embedded", "embedded-mri"]), JUNK | st.sampled_from(data.DATASETS)
    ),
    split=choice(data.SPLITS),
    options=st.fixed_dictionaries(
        {"size": mostly(st.sampled_from([8, 31, 32, 64, 96, 128]))},
        optional={
            "count": mostly(st.none() | st.integers(1, 40)),
            "channels": mostly(st.integers(1, 3)),
        }
        | {"resize": choice(data.mnist.RESIZES), "file": mostly(st.just(""))},
    ),
)
def test_data(decoded, name, split, options):
    def check(found):
        count, channels, size = options.get("count"), options.get("channels", 1), options["size"]
        count = len(found.images) if count is None else count
        check_finite(found.images, (count, channels, size, size), torch.float32)
        assert count > 0 and found.images.abs().max() <= 1 and len(found.sha256) == 64

    result_or_clear_error(lambda: data.load(name, split, **options), check)


# --- the command line -----------------------------------------------------------------------------


def check_command(arguments: list[str]) -> int:
    """Run ``dipa``: status 0, or one line on standard error with status 2 (1 where the system
    refuses); never a traceback.
    """
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main(arguments)
        except SystemExit as stop:  # argparse
            status = stop.code
    if status == 0:
        return 0
    text = err.getvalue()
    assert status in (1, 2) and text.startswith("error: ") and text.endswith("\n"), (status, text)
    check_message(text)
    if status == 2:
        raise dipa.InputError(text.strip())
    return status


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
PRESET = mostly(st.sampled_from(experiments.names()), WORDS)
PROFILE = mostly(st.sampled_from(experiments.profiles()), WORDS).map(
    lambda name: ["--profile", name]
)
SET = ARGUMENTS.filter(lambda text: "\0" not in text).map(lambda text: ["--set", text])
OPTIONS = (
    PROFILE
    | SET
    | mostly(st.integers(0, 9), NUMBERS | WORDS).map(lambda seed: ["--seed", str(seed)])
)
OPTIONS = st.lists(OPTIONS, max_size=3).map(lambda parts: [word for part in parts for word in part])
COMMANDS = st.one_of(
    st.tuples(st.just("show"), PRESET, OPTIONS).map(lambda words: [words[0], words[1], *words[2]]),
    st.tuples(st.just("data"), mostly(st.sampled_from(data.DATASETS), WORDS)).map(list),
    st.lists(
        mostly(
            st.sampled_from(
                ["list", "show", "run", "data", "--json", "--quiet", "--set", "--seed"]
            ),
            WORDS,
        ),
        max_size=4,
    ),
    st.just(["list", "--json"]),
)


@tries(200)
@given(arguments=COMMANDS.filter(lambda words: words[:1] != ["run"]))
def test_commands(decoded, arguments):
    result_or_clear_error(lambda: check_command(arguments))


@tries(120)
@given(preset=PRESET, options=OPTIONS)
def test_run_refuses_before_it_computes(decoded, preset, options):
    """Up to the problem a command stands for, which is all that is built here: data, operators,
    denoiser and solver.
    """
    reached = []

    def stop(config, out, **more):
        reached.append(Problem.build(config))
        raise OSError("computing would begin here")

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(experiments, "run", stop)
        out = ["--out", folder, "--quiet", "--set", "solver.denoiser=dncnn-bsds500"]
        result_or_clear_error(
            lambda: check_command(["run", preset, "--profile", "smoke", *options, *out])
        )
        assert not any(Path(folder).iterdir())


TINY_SETS = {
    "solver.iterations": [1, 2],
    "training.steps": [1, 2],
    "training.batch_size": [1, 3, 20],
    "data.train_count": [1, 2],
    "data.test_count": [1, 2],
    "data.ridge_count": [1, 24],
    "training.optimizer": ["adam", "adamw"],
    "training.schedule": list(SCHEDULES),
    "solver.stepsize": ["1/L", 1e-9, 1e9],
    "solver.start": list(STARTS),
    "solver.momentum": list(MOMENTA),
    "solver.prior": list(PRIOR_NAMES),
    "losses.row_space": [0, 1],
    "losses.convergence": [0, 1],
    "preconditioner.form": list(FORMS),
    "task.noise_sigma": [0, 0.1, 1e5],
}
PRESETS_8 = (
    "baseline",
    "ridge",
    "hessian",
    "polynomial",
    "scalar",
    "convolutional",
    "pointwise",
    "full-linear",
    "n-dipa",
    "idea",
)


@tries(12)
@given(
    preset=st.sampled_from(PRESETS_8),
    sets=st.dictionaries(st.sampled_from(sorted(TINY_SETS)), st.integers(0, 11), max_size=4),
)
def test_tiny_runs(decoded, preset, sets):
    """Real runs of the smallest size, with every choice at its ends: a finished folder of
    finite numbers, or a clear error.
    """
    texts = [
        *TINY,
        "task.size=8",
        *(f"{key}={TINY_SETS[key][i % len(TINY_SETS[key])]}" for key, i in sets.items()),
    ]

    def run():
        with tempfile.TemporaryDirectory() as folder:
            return check_command(
                [
                    "run",
                    preset,
                    "--profile",
                    "smoke",
                    "--quiet",
                    "--out",
                    folder,
                    *(w for t in texts for w in ("--set", t)),
                ]
            )

    result_or_clear_error(run)


# --- saved files ----------------------------------------------------------------------------------


@functools.cache
def saved(kind: str) -> bytes:
    """The bytes of a saved preconditioner, network or checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        if kind == "network":
            dipa.save(
                endtoend.build("u-net", (1, 8, 8), features=2, blocks=2), path, {"note": "tiny"}
            )
        elif kind == "checkpoint":
            save_checkpoint(
                path,
                {"settings": describe(1)},
                {
                    "history": [{"loss": 0.5}],
                    "module": dipa.ScalarSteps(3).state_dict(),
                    "seconds": 1.0,
                },
            )
        else:
            dipa.save(
                {"linear": MEMBERS["linear, low rank"], "scalar": lambda: dipa.ScalarSteps(3)}[
                    kind
                ](),
                path,
            )
        return path.read_bytes()


def loaded(kind: str, path: Path) -> list[tuple[str, object]]:
    """Everything a file gives back, in an order and form that can be compared."""
    if kind == "checkpoint":
        state = load_checkpoint(path, {"settings": describe(1)})
        return [
            ("history", state["history"]),
            ("seconds", state["seconds"]),
            *_tensors(state["module"]),
        ]
    module, record = dipa.load(path)
    return [
        ("record", record),
        ("header", json.dumps(module.header(), sort_keys=True)),
        *_tensors(module.state_dict()),
    ]


def _tensors(state: dict) -> list[tuple[str, object]]:
    return [(name, (tensor.dtype, tensor.tolist())) for name, tensor in sorted(state.items())]


@functools.cache
def undamaged(kind: str) -> list[tuple[str, object]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(saved(kind))
        return loaded(kind, path)


@tries(400)
@given(
    kind=st.sampled_from(["linear", "scalar", "network", "checkpoint"]),
    how=st.sampled_from(["flip", "flip", "flip", "cut", "grown", "bytes"]),
    place=st.floats(0, 1, exclude_max=True),
    early=st.booleans(),
    bit=st.integers(0, 7),
    content=st.binary(max_size=200),
)
def test_damaged_files(kind, how, place, early, bit, content):
    """One bit, a lost end, bytes after it, or other bytes: what was saved comes back, or the
    file is refused by its name.
    """
    whole = bytearray(saved(kind))
    at = int(place * (min(len(whole), 600) if early else len(whole)))
    if how == "flip":
        whole[at] ^= 1 << bit
    damaged = {"flip": whole, "cut": whole[:at], "grown": whole + content, "bytes": content}[how]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(damaged)

        def load():
            try:
                return loaded(kind, path)
            except dipa.InputError as error:
                assert str(path) in str(error)
                raise

        def same(found):
            assert found == undamaged(kind)

        result_or_clear_error(load, same)


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "kind": choice(
            [
                "linear",
                "scalar_steps",
                "convolutional_steps",
                "pointwise_steps",
                "linear_steps",
                "neural",
                "u-net",
                "end-to-end",
            ]
        ),
        "made_by": mostly(st.just({})),
        "network": mostly(
            st.fixed_dictionaries(
                {"name": choice(endtoend.NETWORKS), "img_size": st.just([1, 8, 8])}
            )
        ),
        "iterations": mostly(st.integers(1, 3), st.integers(-1, 9)),
        "basis": choice(["pixel", "matrix", "hadamard", "kronecker"]),
        "img_size": mostly(st.just([1, 2, 2])),
        "size": mostly(st.just(3)),
    },
)
TENSORS = st.dictionaries(
    st.sampled_from(["steps", "matrix", "basis.rows", "basis.index", "other"]),
    st.sampled_from(
        [
            torch.ones(3),
            torch.ones(3, 4, 4),
            torch.eye(4),
            torch.tensor([0, 9]),
            torch.tensor(1.0),
            torch.ones(0),
        ]
    ),
    max_size=3,
)


def is_json(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=True, sort_keys=True)
    except (TypeError, ValueError):
        return False
    return True


@tries(200)
@given(header=(HEADERS | JUNK).filter(is_json), tensors=TENSORS)
def test_foreign_files(header, tensors):
    """Files that are whole and say the wrong thing."""
    with tempfile.TemporaryDirectory() as folder:
        path, own = (
            Path(folder) / "file",
            {name: tensor.clone() for name, tensor in tensors.items()},
        )
        # as version 0.1.0 wrote them, without a checksum
        save_file(own, path, metadata={"record": json.dumps(header)})
        result_or_clear_error(lambda: dipa.load(path), lambda found: found[0].header())
