"""Several operators of one kind, side by side in a batch: what is fitted on them serves others like
them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from deepinv.physics import LinearPhysics

from ..adjoint import Measurements
from ..checks import require
from ..operators.measure import measure
from ..physics import lipschitz, require_adjoint


class Family(LinearPhysics):
    r"""Operators :math:`H_m/\sqrt{L_m}` side by side: of a batch of M times ``count`` images the
    first ``count`` belong to the first operator, and so on.

    In these units every L is 1, as it is for an operator alone with steps of 1/L. Measurements are
    flattened, and padded with zeros to the longest.

    Args:
        operators: deepinv's, on the same images, each with one tensor of measurements.
        images: clean images (count, C, H, W), seen by every operator.

    Raises:
        InputError: no operators; one of them that is not linear or whose adjoint is none, by its
            number.
    """

    norm_sq = 1.0

    def __init__(self, operators: Sequence[LinearPhysics], images: torch.Tensor):
        super().__init__()
        require(len(operators) > 0, "physics", "no operators", "at least one")
        size, self.count = tuple(images.shape[1:]), len(images)
        self.operators, self.scales, self.shapes = list(operators), [], []
        for number, physics in enumerate(operators):
            name = f"physics[{number}]"
            require_adjoint(name, physics, images)
            norm = lipschitz(physics, size, images)
            require(norm > 0, name, f"L = {norm:g}", "an operator that measures something")
            measured = physics.A(images[:1])
            single = isinstance(measured, torch.Tensor)
            require(single, name, type(measured).__name__, "one tensor of measurements")
            self.scales.append(1 / math.sqrt(norm))
            self.shapes.append((tuple(measured.shape[1:]), measured.is_complex()))
        self.longest = max(math.prod(shape) * (1 + doubled) for shape, doubled in self.shapes)

    def A(self, x: torch.Tensor, **_: object) -> torch.Tensor:  # noqa: N802
        """The measurements of each image by its operator."""
        return self._padded([physics.A(part) for physics, part in self._shared(x)])

    def A_adjoint(self, y: torch.Tensor, **_: object) -> torch.Tensor:  # noqa: N802
        """The adjoint of each measurement by its operator."""
        images = []
        for number, (physics, part) in enumerate(self._shared(y)):
            shape, doubled = self.shapes[number]
            flat = part[:, : math.prod(shape) * (1 + doubled)]
            whole = flat.reshape(-1, *shape, 2) if doubled else flat.reshape(-1, *shape)
            measured = torch.view_as_complex(whole.contiguous()) if doubled else whole
            images.append(self.scales[number] * physics.A_adjoint(measured))
        return torch.cat(images)

    def measured(self, images: torch.Tensor, seed: int) -> torch.Tensor:
        """What each operator measures of all images, with its noise: (M count, ...)."""
        return self._padded(
            [
                measure(physics, images, seed=seed, stream=f"noise of operator {number}")
                for number, physics in enumerate(self.operators)
            ]
        )

    def _shared(self, batch: torch.Tensor) -> list[tuple[LinearPhysics, torch.Tensor]]:
        return list(zip(self.operators, batch.split(self.count), strict=True))

    def _padded(self, several: list[Measurements]) -> torch.Tensor:
        rows = []
        for scale, part in zip(self.scales, several, strict=True):
            flat = (torch.view_as_real(part) if part.is_complex() else part).flatten(1)
            rows.append(scale * F.pad(flat, (0, self.longest - flat.shape[1])))
        return torch.cat(rows)
