"""What a training is told: every value is checked, and says what follows from it."""

import dataclasses
import itertools

import pytest
from batteries import refuses

from dipa.settings import Budget, Differentiation, LossWeights, Variations

DATA_TERMS = "supervised, imitation, gradient, data_fidelity"


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(LossWeights)])
@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "1", None, True])
def test_weights_refuse(name, bad):
    refuses(lambda: LossWeights(**({"supervised": 1.0} | {name: bad})), f"losses.{name}", repr(bad))


def test_weights_need_a_data_term():
    refuses(LossWeights, "losses", DATA_TERMS)
    refuses(lambda: LossWeights(convergence=1.0, row_space=1.0), "losses", DATA_TERMS)


@pytest.mark.parametrize(
    ("weights", "needs", "active"),
    [
        ({"supervised": 1}, False, {"supervised": 1}),
        (
            {"supervised": 1, "convergence": 0.1, "row_space": 2},
            False,
            {"supervised": 1, "convergence": 0.1, "row_space": 2},
        ),
        ({"data_fidelity": 2}, False, {"data_fidelity": 2}),
        ({"imitation": 0.5}, True, {"imitation": 0.5}),
        ({"gradient": 1, "supervised": 1}, True, {"supervised": 1, "gradient": 1}),
    ],
)
def test_what_weights_say(weights, needs, active):
    made = LossWeights(**weights)
    assert made.needs_teacher is needs and made.active() == active


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        *itertools.product(("steps", "batch_size", "window", "checkpoint_every"), (0, 1.5, True)),
        ("patience", -1),
        ("optimizer", "sgd"),
        ("schedule", "platau"),
        *itertools.product(("learning_rate", "factor"), (0, -1, float("nan"))),
        ("factor", 1.5),
        *itertools.product(("weight_decay", "clip"), (-1, float("inf"))),
    ],
)
def test_budget_refuses(name, bad):
    refuses(lambda: Budget(**{name: bad}), f"budget.{name}", repr(bad))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"way": "forward"}, ("differentiation.way", "forward")),
        ({"tail": 0}, ("differentiation.tail", "0")),
    ],
)
def test_ways_to_differentiate_refuse(bad, words):
    refuses(lambda: Differentiation(**bad), *words)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("flip", 1),
        *itertools.product(("shift", "rotation", "zoom"), (-1, float("nan"), True, "1", 2e4)),
        ("rotation", 181),
        ("zoom", 1.5),
        ("border", "reflect"),
        *itertools.product(("copies",), (-1, 1.5, True)),
    ],
)
def test_variations_refuse(name, bad):
    refuses(lambda: Variations(**{name: bad}), f"variations.{name}", repr(bad))


@pytest.mark.parametrize(
    ("told", "active", "moves"),
    [
        ({}, False, False),
        ({"copies": 5, "border": "edge"}, False, False),
        ({"flip": True}, True, False),
        ({"shift": 0.5}, True, True),
        ({"rotation": 5}, True, True),
        ({"zoom": 0.1}, True, True),
    ],
)
def test_what_variations_say(told, active, moves):
    made = Variations(**told)
    assert (made.active, made.moves) == (active, moves)
