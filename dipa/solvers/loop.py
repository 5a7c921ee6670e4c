"""The one loop of every solver. It receives functions and knows no operator, prior, preconditioner or training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from ..checks import answer, require, require_int, require_number, require_tensor

Step = Callable[[torch.Tensor, int], torch.Tensor]
Observer = Callable[[int, torch.Tensor, torch.Tensor], dict]


@dataclass(frozen=True)
class Result:
    """Outcome of one solve. Divergence is a result, not an exception.

    Attributes:
        x: reconstruction (B, C, H, W): the last iterate, or the last finite one after a divergence.
        status: ``completed`` or ``diverged``.
        message: the status in words.
        iterations: how many iterations ``x`` has been through.
        history: one record per iteration (the start is record 0), empty unless asked for.
        iterates: the start and every iterate, stacked (iterations + 1, B, C, H, W), or None unless asked for.
    """

    x: torch.Tensor
    status: str
    message: str
    iterations: int
    history: list[dict] = field(default_factory=list)
    iterates: torch.Tensor | None = None


def run(
    step: Step,
    start: torch.Tensor,
    momentum: Iterator[float],
    iterations: int,
    *,
    backward: int | None = None,
    observe: Observer | None = None,
    keep_iterates: bool = False,
    bound: float = 1e6,
) -> Result:
    r"""Iterate :math:`x^k=\mathrm{step}(z^k,k)`, :math:`z^{k+1}=x^k+\beta_k(x^k-x^{k-1})` from :math:`x^0=z^1=` ``start``.

    ``observe(k, x, previous)`` returns the history record of iteration k. The loop stops as ``diverged`` at the first
    iterate that is not finite or leaves [-bound, bound], and returns the iterate before it. The last ``backward``
    iterations can be differentiated (None: all, 0: none); those before are constants.
    """
    require_tensor("start", start)
    require(start.is_floating_point(), "start.dtype", start.dtype, "a real floating-point type")
    require(isinstance(momentum, Iterator), "momentum", momentum, "an iterator of weights, such as MOMENTA['nesterov']()")
    iterations, bound = require_int("iterations", iterations, 0), require_number("bound", bound, 0)
    backward = None if backward is None else require_int("backward", backward, 0)
    graded, untracked = torch.is_grad_enabled(), 0 if backward is None else iterations - backward
    x = z = start
    history = [observe(0, x, x)] if observe else []
    iterates = [x] if keep_iterates else []
    status, message, done = "completed", f"completed {iterations} iterations", iterations
    for k in range(1, iterations + 1):
        with torch.set_grad_enabled(graded and k > untracked):
            x_next = answer("step", step, z, k)
            if not bool((x_next.detach().abs() <= bound).all()):  # NaN compares false
                status, done = "diverged", k - 1
                message = f"diverged at iteration {k}: an iterate is not finite or exceeds {bound:g}; use a smaller stepsize"
                break
            z = x_next + next(momentum) * (x_next - x)
        x, previous = x_next, x
        if observe:
            history.append(observe(k, x, previous))
        if keep_iterates:
            iterates.append(x)
    return Result(x, status, message, done, history, torch.stack(iterates) if keep_iterates else None)
