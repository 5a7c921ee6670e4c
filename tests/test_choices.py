"""What can be chosen is what is implemented."""

import pytest

from dipa import choices, data, networks, solvers
from dipa.operators.single_pixel import MASKS


@pytest.mark.parametrize(
    ("names", "registry"),
    [
        (choices.DATASETS, data.SOURCES),
        (choices.ORDERINGS, MASKS),
        (choices.MOMENTA, solvers.MOMENTA),
        (choices.STARTS, solvers.STARTS),
        (choices.BACKBONES, networks.BACKBONES),
    ],
    ids=["data sets", "orderings", "momenta", "starts", "backbones"],
)
def test_every_choice_is_implemented_and_nothing_else(names, registry):
    assert names == tuple(registry)
