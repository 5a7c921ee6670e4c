"""The contract every preconditioner keeps, what a saved one says about itself, and the identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..checks import foreign, require, require_tensor
from ..physics import require_like
from ..storage import require_same_sizes

KINDS: dict[str, type[Preconditioner]] = {}  # every learned class by the name files know it by; a class joins by naming its kind
MAX_NUMBERS = 2**32  # of one preconditioner: sixteen gigabytes in float32


@dataclass(frozen=True)
class Traits:
    """What a method may rely on: is P linear in the gradient, and does it change with the iteration number."""

    linear: bool
    iteration_dependent: bool


class Preconditioner(nn.Module):
    r"""``P(gradient, iterate, k) -> direction``: images (B, C, H, W) in and out, k the iteration from 1.

    A preconditioner says *where* to go; the stepsize :math:`\alpha` says how far, and neither looks at the other.
    Every image of a batch is treated alone.

    A class that sets ``kind`` can be saved and loaded: ``header()`` and ``state_dict()`` are then all it takes to
    rebuild one. Fixed preconditioners leave ``kind`` empty: they are made from their operator.
    """

    kind: str = ""
    traits: Traits

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        if cls.__dict__.get("kind"):
            KINDS[cls.kind] = cls

    def __call__(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The direction; images that do not fit this preconditioner are refused."""
        require_tensor("gradient", gradient, "a tensor (B, C, H, W)")
        got = f"{tuple(gradient.shape)}, {gradient.dtype} on {gradient.device}"
        with foreign("gradient", got, f"images that this {type(self).__name__} takes"):
            return super().__call__(gradient, iterate, k)

    @property
    def parameter_count(self) -> int:
        """Number of trainable numbers."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def check(self, images: torch.Tensor) -> None:
        """Refuse images (B, C, H, W) that this preconditioner cannot work on, before a run starts: dtype and device."""
        require_like("preconditioner", self, images)

    def header(self) -> dict[str, Any]:
        """Plain values which with ``state_dict()`` rebuild this preconditioner: by default the constructor's arguments."""
        raise TypeError(f"{type(self).__name__} does not define header")

    @classmethod
    def rebuild(cls, header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Preconditioner:
        """The inverse of ``header()`` and ``state_dict()``, in the dtype of the tensors; strict about names and shapes.

        The header's sizes are compared on the device ``meta`` first, where a module takes no memory: a header is a promise.
        """
        with torch.device("meta"):
            promised = cls(**header).state_dict()
        require_same_sizes(promised, tensors)
        preconditioner = cls(**header)
        dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), None)
        preconditioner.to(dtype=dtype).load_state_dict(tensors)
        return preconditioner


class Identity(Preconditioner):
    """P = I: the unpreconditioned baseline."""

    traits = Traits(linear=True, iteration_dependent=False)

    def forward(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The gradient itself."""
        return gradient


def as_planes(images: torch.Tensor, img_size: tuple[int, int, int]) -> torch.Tensor:
    """Images (B, C, H, W) as images of ``img_size``: themselves, or (B C, 1, H, W) where that has one channel.

    So parameters of size (1, H, W) treat every channel as an image of its own (the papers' complex MRI images: one P
    for real and imaginary parts). Raises :class:`InputError` where the sizes do not fit.
    """
    channels, *sides = img_size
    fits = list(images.shape[2:]) == sides and channels in (1, images.shape[1])
    require(fits, "gradient.shape", tuple(images.shape), f"(B, {channels if channels > 1 else 'C'}, {sides[0]}, {sides[1]})")
    return images.reshape(-1, *img_size)
