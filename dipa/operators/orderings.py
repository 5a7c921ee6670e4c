r"""Which Hadamard rows a single-pixel camera measures first: pure functions (shape, m) -> mask of m
ones.

Four orderings are deepinv's own (0.5.0), ``cake_cutting`` with ties broken the same way on every
processor. Two more are what the word "sequency" meant in earlier
releases, kept because published single-pixel results depend on it:

``sequency``
    today's deepinv: one-dimensional Walsh order of the column-major flattened image.
``sequency_permutation``
    deepinv 0.3.1 to 0.4.0 (``ordering="old_sequency"``): a one-dimensional bit-reversed Gray-code
    permutation.
``sequency_rows``
    deepinv between releases 0.3.0 and 0.3.1, as vendored by the papers' group
    (juliogr7/DistillPool): the first m entries, row by row, of the grid whose rows and columns
    follow that same permutation. (Releases up to 0.3.0 kept a block of more than m coefficients,
    448 for m = 205 at 32 x 32; it is no ordering and is not offered.)
"""

from __future__ import annotations

import numpy as np
import torch
from deepinv.physics import SinglePixelCamera
from deepinv.physics.singlepixel import cake_cutting_seq, get_permutation_list, sequency_order

from ..checks import require, require_choice, require_int
from ..choices import ORDERINGS
from .sizes import POWER_OF_TWO, operator_sides, power_of_two

DEEPINV_ORDERINGS = ("zig_zag", "xy", "sequency")


def _deepinv(ordering: str):
    def mask(height: int, width: int, m: int) -> torch.Tensor:
        return SinglePixelCamera(m, (1, height, width), ordering=ordering).mask[0, 0]

    return mask


def _cake_cutting(height: int, width: int, m: int) -> torch.Tensor:
    """deepinv's, whose sort leaves the order of functions with equally many pieces to the
    processor: here they keep their sequence.
    """
    pieces = [count for i in range(1, height + 1) for count in cake_cutting_seq(i, height)]
    order = np.argsort(pieces, kind="stable")
    index = torch.as_tensor(np.asarray(sequency_order(height * width))[order][:m])
    mask = torch.zeros(width * height)
    mask[index] = 1
    return mask.reshape(width, height).T


def _sequency_permutation(height: int, width: int, m: int) -> torch.Tensor:
    mask = torch.zeros(width * height)
    mask[get_permutation_list(height * width)[:m]] = 1
    return mask.reshape(width, height).T


def _sequency_rows(height: int, width: int, m: int) -> torch.Tensor:
    mask, entry = torch.zeros(height, width), torch.arange(m)
    mask[
        get_permutation_list(height)[entry // width], get_permutation_list(width)[entry % width]
    ] = 1
    return mask


MASKS = {name: _deepinv(name) for name in DEEPINV_ORDERINGS}
MASKS |= {"cake_cutting": _cake_cutting}
MASKS |= {"sequency_permutation": _sequency_permutation, "sequency_rows": _sequency_rows}


def hadamard_mask(height: int, width: int, m: int, ordering: str) -> torch.Tensor:
    """Mask (height, width) with ``m`` ones on the 2-D Hadamard coefficients that come first in
    ``ordering``.

    Raises :class:`InputError` for sides that are no powers of two (or, for ``cake_cutting``,
    differ), another m or ordering.
    """
    _, height, width = operator_sides((1, height, width), power_of_two, POWER_OF_TWO)
    m = require_int("m", m, 1, height * width)
    require_choice("ordering", ordering, ORDERINGS)
    require(
        height == width or ordering != "cake_cutting",
        "height and width",
        (height, width),
        "equal for 'cake_cutting'",
    )
    return MASKS[ordering](height, width, m).contiguous()
