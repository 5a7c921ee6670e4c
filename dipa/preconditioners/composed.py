"""Two preconditioners one behind the other, or beside one another: a network on top of a closed
form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from deepinv.physics import LinearPhysics

from ..checks import require, require_choice, require_kind
from ..storage import KINDS
from .base import Preconditioner, Traits

if TYPE_CHECKING:
    from typing_extensions import Self

ORDERS = ("behind", "beside")


class ComposedPreconditioner(Preconditioner):
    r"""A first preconditioner, such as a closed form, and a second one ``behind`` or ``beside`` it:

    .. math::
        d=P_2\big(P_1\nabla g\big)\qquad\text{or}\qquad d=P_1\nabla g+P_2\nabla g-\nabla g .

    Where the second starts as the identity, both start as the first alone, so that training begins
    at its quality: behind the closed form a network sees a whole image, not a data gradient. Of
    positively homogeneous parts, such as a linear one and a network with ``scaling="image"``, so is
    the composition: :math:`P(tg)=tP(g)` for t > 0, and P(0) = 0, so that nothing moves any more
    once the data are explained.

    Args:
        first: :math:`P_1`; a training leaves it as it is where its parameters are frozen
            (``first.requires_grad_(False)``).
        second: :math:`P_2`.
        order: ``behind`` or ``beside``.

    Raises:
        InputError: parts that are no preconditioners, another order; when saved, a fixed part,
            which is made of its operator and cannot be kept in a file.

    Source: this project's.
    """

    kind = "composed"

    def __init__(self, first: Preconditioner, second: Preconditioner, *, order: str = "behind"):
        super().__init__()
        require_kind("first", first, Preconditioner)
        require_kind("second", second, Preconditioner)
        require_choice("order", order, ORDERS)
        self.first, self.second, self.order = first, second, order
        parts = first.traits, second.traits
        self.traits = Traits(
            linear=all(part.linear for part in parts),
            iteration_dependent=any(part.iteration_dependent for part in parts),
        )

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The direction of both; the iterate is handed on."""
        direction = self.first.unchecked(gradient, iterate, k)
        if self.order == "behind":
            return self.second.unchecked(direction, iterate, k)
        return direction + self.second.unchecked(gradient, iterate, k) - gradient

    def on(self, physics: LinearPhysics) -> Preconditioner:
        """This P of parts that act with one operator; itself where neither is made of one."""
        first, second = self.first.on(physics), self.second.on(physics)
        if first is self.first and second is self.second:
            return self
        return ComposedPreconditioner(first, second, order=self.order)

    def check(self, images: torch.Tensor) -> None:  # noqa: D102
        for part in (self.first, self.second):
            part.check(images)

    def require_fits(self, images: torch.Tensor) -> None:  # noqa: D102
        for part in (self.first, self.second):
            part.require_fits(images)

    def header(self) -> dict[str, Any]:  # noqa: D102
        for name, part in (("first", self.first), ("second", self.second)):
            allowed = "one that a file can hold, when saved: a fixed one is made of its operator"
            require(part.kind in KINDS, name, type(part).__name__, allowed)
        parts = {"first": self.first, "second": self.second}
        described = {name: {"kind": part.kind} | part.header() for name, part in parts.items()}
        frozen = [name for name, part in parts.items() if _frozen(part)]
        return described | {"order": self.order} | ({"frozen": frozen} if frozen else {})

    @classmethod
    def rebuild(cls, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Self:
        """Both parts from their own headers and tensors; other tensors are refused."""
        parts = {}
        for name in ("first", "second"):
            part_header = dict(header[name])
            kind, prefix = KINDS[part_header.pop("kind")], f"{name}."
            held = {
                key.removeprefix(prefix): tensor
                for key, tensor in tensors.items()
                if key.startswith(prefix)
            }
            parts[name] = kind.rebuild(part_header, held)
        known = {f"{name}.{key}" for name, part in parts.items() for key in part.state_dict()}
        require(known == set(tensors), "tensors", sorted(set(tensors) - known), "none beside")
        first, second = (cast(Preconditioner, parts[name]) for name in ("first", "second"))
        for name in header.get("frozen", ()):
            parts[name].requires_grad_(False)
        return cls(first, second, order=header["order"])


def _frozen(part: Preconditioner) -> bool:
    """Whether a part has parameters, and none of them is trained."""
    return part.parameter_count == 0 and any(True for _ in part.parameters())
