"""The one loop of every solver: ``init``, ``step``, ``stop``. It knows no operator, prior,
preconditioner or training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from ..checks import in_a_row, require, require_int, require_kind, require_number, require_tensor


@dataclass(frozen=True)
class State:
    r"""A run after k iterations: what the next one needs, and what the last one did on its way.

    Attributes:
        k: iterations done.
        x: the iterate :math:`x^k`, (B, ...).
        previous: :math:`x^{k-1}`; the start itself at k = 0.
        z: the point :math:`z^k` at which iteration k took its gradient. This and what follows is
            None at the start, and for a scheme that has no such thing.
        gradient: :math:`\nabla g(z^k)`.
        direction: :math:`d^k=P(\nabla g(z^k),z^k,k)`.
        stepsize: :math:`\alpha_k`, one number, or one for each image (B, 1, 1, 1).
    """

    k: int
    x: torch.Tensor
    previous: torch.Tensor
    z: torch.Tensor | None = None
    gradient: torch.Tensor | None = None
    direction: torch.Tensor | None = None
    stepsize: float | torch.Tensor | None = None


class Scheme(Protocol):
    """An algorithm with its problem: where it begins, and how one iterate follows another."""

    def init(self) -> State:
        """The state at k = 0."""

    def step(self, state: State) -> State:
        """The state after one more iteration."""


@dataclass(frozen=True)
class Stop:
    r"""When a run ends.

    Args:
        iterations: K >= 0, the most there are.
        tolerance: the run has ``converged`` at
            :math:`\|x^k-x^{k-1}\|\le\mathrm{tolerance}\,\|x^k\|`, in every image of the batch; 0 is
            never.
        bound: the run has ``diverged`` at an iterate that is not finite or leaves [-bound, bound].
        growth: so it has where an image's largest magnitude exceeds ``growth`` times that of its
            start, or of an image in [0, 1] where the start is smaller.
    """

    iterations: int
    tolerance: float = 0.0
    bound: float = 1e6
    growth: float = 100.0

    def __post_init__(self):
        object.__setattr__(self, "iterations", require_int("iterations", self.iterations, 0))
        require_number("tolerance", self.tolerance, 0)
        require_number("bound", self.bound, 0)
        require_number("growth", self.growth, 1)

    def limits(self, start: torch.Tensor) -> torch.Tensor:
        """The magnitude that each image of a run from ``start`` may reach, (B,)."""
        return (self.growth * largest(start).clamp_min(1)).clamp_max(self.bound)

    def __call__(self, state: State, limits: torch.Tensor) -> tuple[str, str] | None:
        """Status and message where the run ends with this state, else None; ``limits`` as above."""
        if bool(self.diverged(state, limits)):
            limit = limits[~(largest(state.x) <= limits)].min().item()
            what = f"an iterate is not finite or exceeds {limit:.3g}; use a smaller stepsize"
            return "diverged", f"diverged at iteration {state.k}: {what}"
        if self.tolerance and state.k and bool(self.settled(state)):
            return (
                "converged",
                f"converged at iteration {state.k}: no image changed by more than "
                f"{self.tolerance:g}",
            )
        return (
            ("completed", f"completed {state.k} iterations") if state.k >= self.iterations else None
        )

    def diverged(self, state: State, limits: torch.Tensor) -> torch.Tensor:
        """Whether some image has left its limits, as a tensor; NaN has."""
        return ~(largest(state.x) <= limits).all()

    def settled(self, state: State) -> torch.Tensor:
        """Whether no image has changed by more than the tolerance, as a tensor."""
        change, whole = (
            tensor.detach().flatten(1).norm(dim=1) for tensor in (state.x - state.previous, state.x)
        )
        return (change <= self.tolerance * whole).all()


def largest(images: torch.Tensor) -> torch.Tensor:
    """The largest magnitude of each image (B, ...), NaN where one is in it: (B,)."""
    return images.detach().flatten(1).abs().amax(dim=1)


@dataclass(frozen=True)
class Result:
    """Outcome of one solve. Divergence is a result, not an exception.

    Attributes:
        x: reconstruction (B, C, H, W): the last iterate, or the last finite one after a divergence.
        status: ``completed``, ``converged`` (before the last iteration, see :class:`Stop`) or
            ``diverged``.
        message: the status in words.
        iterations: how many iterations ``x`` has been through.
        history: one record per iteration (the start is record 0), empty unless asked for.
        iterates: the start and every iterate, stacked (iterations + 1, B, C, H, W), or None unless
            asked for.
        trusted: which images the preconditioner knows as of its kind (B,); the others were
            reconstructed without it. None where it was not asked, or cannot say.
    """

    x: torch.Tensor
    status: str
    message: str
    iterations: int
    history: list[dict[str, Any]] = field(default_factory=list)
    iterates: torch.Tensor | None = None
    trusted: torch.Tensor | None = None

    @property
    def untrusted(self) -> int:
        """How many images were reconstructed without the preconditioner."""
        return 0 if self.trusted is None else int((~self.trusted).sum())


Observer = Callable[[State], "dict[str, Any] | None"]


def run(
    scheme: Scheme,
    stop: Stop,
    *,
    backward: int | None = None,
    observe: Sequence[Observer] = (),
    keep_iterates: bool = False,
) -> Result:
    """Take the steps of ``scheme`` until ``stop`` says that it is enough.

    Each observer sees the start and the state after every iteration but a diverged one; what they
    return is one record of the history. The last ``backward`` iterations can be differentiated
    (None: all, 0: none); those before are constants.
    """
    able = all(callable(getattr(scheme, name, None)) for name in ("init", "step"))
    require(able, "scheme", type(scheme).__name__, "an object with init() and step(state)")
    require_kind("stop", stop, Stop)
    backward = None if backward is None else require_int("backward", backward, 0)
    graded, tracked_after = (
        torch.is_grad_enabled(),
        0 if backward is None else stop.iterations - backward,
    )
    state = scheme.init()
    require_tensor("start", state.x)
    require(state.x.is_floating_point(), "start.dtype", state.x.dtype, "a real floating-point type")
    require(
        in_a_row(observe) and all(map(callable, observe)),
        "observe",
        observe,
        "callables observe(state) in a row",
    )
    seen, iterates = _History(observe), [state.x] if keep_iterates else []
    limits = stop.limits(state.x)
    seen(state)
    ended = ("completed", "completed 0 iterations") if stop.iterations == 0 else None
    while ended is None:
        with torch.set_grad_enabled(graded and state.k >= tracked_after):
            following = scheme.step(state)
        ended = stop(following, limits)
        if ended and ended[0] == "diverged":
            break
        state = following
        seen(state)
        if keep_iterates:
            iterates.append(state.x)
    status, message = ended
    return Result(
        state.x,
        status,
        message,
        state.k,
        seen.records,
        torch.stack(iterates) if keep_iterates else None,
    )


class _History:
    """The records of the observers: one for each state of which any of them returns something."""

    def __init__(self, observers: Sequence[Observer]):
        self.observers = observers
        self.records: list[dict[str, Any]] = []

    def __call__(self, state: State) -> None:
        records = [observer(state) for observer in self.observers]
        if any(record is not None for record in records):
            self.records.append(
                {name: value for record in records if record for name, value in record.items()}
            )
