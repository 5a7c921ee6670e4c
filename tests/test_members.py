"""What the package has in its registries and classes is in :mod:`members`, which all batteries run
over.
"""

import inspect
import sys

import members
import pytest

from dipa import choices, endtoend, losses, operators, preconditioners, priors, storage
from dipa.experiments.tasks import TASKS


def of_dipa(kind: type) -> bool:
    """Whether a class is found where it says: other tests make some that are not."""
    place = sys.modules.get(kind.__module__)
    return kind.__module__.startswith("dipa.") and getattr(place, kind.__name__, None) is kind


def concrete(base: type) -> set[type]:
    """The classes of dipa below ``base`` that have no others of dipa below them."""
    below = {*filter(of_dipa, base.__subclasses__())}
    return set().union(*map(concrete, below)) if below else {base}


@pytest.fixture(scope="module")
def made():
    """The classes of all preconditioners and networks that the lists make."""
    makers = [*members.MEMBERS.values(), *members.PLANES.values()]
    makers += [lambda make=make: make(members.student(), members.SHAPE, 3) for make in fitted()]
    found = {type(make()) for make in makers} | {type(members.neural("mlp"))}
    found |= {type(make(members.SHAPE)) for make in members.STEP_NETWORKS.values()}
    return found | {type(endtoend.build(name, (1, 16, 16), **size)) for name, size in sizes()}


def fitted():
    return (members.FITTED | members.FITTED_FIXED).values()


def sizes():
    return members.END_TO_END.items()


def test_the_reader_of_classes():
    assert {priors.PnP, priors.RED} <= concrete(priors.DenoiserPrior)
    assert preconditioners.Identity in concrete(preconditioners.Preconditioner)


def test_every_preconditioner(made):
    assert concrete(preconditioners.Preconditioner) <= made
    fitting = {type(make(members.student(), members.SHAPE, 3)) for make in fitted()}
    assert concrete(preconditioners.Preconditioner) - fitting == {
        preconditioners.NeuralPreconditioner
    }


def test_every_form_of_a_linear_preconditioner():
    made = [make(members.student(), members.SHAPE, 3) for make in members.FITTED_LINEAR.values()]
    shapes = {tuple(P.matrix.shape) for P in made}
    assert len(shapes) == len(choices.FORMS)


def test_every_class_that_a_file_can_hold(made):
    known = {*filter(of_dipa, storage.KINDS.values())}
    assert len(known) > 6 and known <= made


def test_every_network_end_to_end():
    assert members.END_TO_END.keys() == endtoend.NETWORKS.keys()
    assert concrete(endtoend.EndToEnd) == {*endtoend.NETWORKS.values()}


def test_every_prior():
    assert {*members.PRIORS.values()} == concrete(priors.DenoiserPrior)


def test_every_loss():
    assert members.EVERY_LOSS.keys() == losses.TERMS.keys() and min(members.EVERY_LOSS.values()) > 0


def test_every_operator():
    """One family for each task, of which each shorter list has one; every function of
    dipa.operators that makes an operator is that of a family.
    """
    assert members.FAMILIES.keys() == TASKS.keys()
    makers = {
        name
        for name, function in vars(operators).items()
        if inspect.isfunction(function) and "noise_sigma" in inspect.signature(function).parameters
    }
    assert {name for name in makers if not name.endswith("_pair")} == members.FAMILIES.keys()
    assert {*operators.ORDERINGS} <= members.SINGLE_PIXEL.keys()
    for shorter in (members.SMALL, members.UNEVEN):
        kinds = {type(make()) for make in shorter.values()}
        for family in members.FAMILIES.values():
            assert {type(make()) for make in family.values()} <= kinds
