"""A learned preconditioner is left out for images that it does not know: they are reconstructed as
the plain solver does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from deepinv.physics import LinearPhysics

from ..adjoint import Measurements
from ..physics import lipschitz
from .loop import Result
from .proximal import PreconditionerLike, ProximalGradient, acting, weights


@dataclass(frozen=True)
class Guarded:
    r"""A preconditioner for the images that it trusts, the plain gradient for the others.

    Args:
        preconditioner: P.
        trusted: for which images it is used (B,).
        plain: what the gradient of the others is multiplied by, :math:`1/(\alpha L)`, so that they
            take steps of 1/L.
    """

    preconditioner: PreconditionerLike
    trusted: torch.Tensor
    plain: float

    def __call__(self, gradient: torch.Tensor, iterate: torch.Tensor, k: int) -> torch.Tensor:
        """The direction of each image; P is not called where it trusts none."""
        plain = self.plain * gradient
        if _may_branch() and not bool(self.trusted.any()):
            return plain
        P = getattr(self.preconditioner, "unchecked", self.preconditioner)
        return torch.where(self._which, P(gradient, iterate, k), plain)

    @property
    def _which(self) -> torch.Tensor:
        return self.trusted[:, None, None, None]

    def guarded(self, scheme: ProximalGradient, rule: str, restart: int) -> ProximalGradient:
        """The scheme with this preconditioner; images that are not trusted take the momentum of the
        rule of this name, Nesterov's in the place of none, and the whole prior.
        """
        if _may_branch() and bool(self.trusted.all()):
            return scheme
        learned = scheme.momentum
        plain = weights("nesterov" if rule == "none" else rule, len(learned), restart)
        number = scheme.start.new_tensor
        momentum = [
            torch.where(self._which, number(a), number(b))
            for a, b in zip(learned, plain, strict=True)
        ]
        decay = torch.where(self._which, number(scheme.prior_decay), number(0.0))
        return replace(scheme, preconditioner=self, momentum=momentum, prior_decay=decay)

    def told(self, result: Result) -> Result:
        """A result that says which images were trusted, and in words how many were not."""
        known = replace(result, trusted=self.trusted)
        kind = "unlike those the preconditioner was made of: reconstructed without it"
        words = f"; {known.untrusted} of {len(self.trusted)} images untrusted, {kind}"
        return replace(known, message=result.message + words) if known.untrusted else known


def _may_branch() -> bool:
    """Whether a tensor may decide what is computed: not in a graph that is being compiled."""
    return not torch.compiler.is_compiling()


def guard(
    preconditioner: PreconditionerLike | None,
    physics: LinearPhysics,
    y: Measurements,
    stepsize: object,
    start: torch.Tensor,
) -> Guarded | None:
    """The preconditioner for the images measured as ``y`` that it trusts; None where it cannot
    say.

    ``stepsize`` is that of the run, a number or a search; ``start`` an image of it.
    """
    asked = getattr(preconditioner, "trusts", None)
    trusted = asked(physics, y) if callable(asked) else None
    if trusted is None or preconditioner is None:
        return None
    norm = lipschitz(physics, tuple(start.shape[1:]), start)
    alpha = 0.0 if callable(stepsize) else float(cast(float, stepsize))
    scale = 1 / (alpha * norm) if alpha * norm > 0 else 1.0
    return Guarded(acting(preconditioner, physics), trusted, scale)
