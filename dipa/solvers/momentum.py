r"""Momentum rules: the weight :math:`\beta_k` in :math:`z^{k+1}=x^k+\beta_k(x^k-x^{k-1})`, k =
1, 2, ...
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice


def none() -> Iterator[float]:
    """Plain proximal gradient (ISTA): 0 for ever."""
    while True:
        yield 0.0


def nesterov() -> Iterator[float]:
    r"""Beck and Teboulle's rule, the printed D2GP Algorithm 1 (lines 5-6):
    :math:`\beta_k=(t_{k-1}-1)/t_k`, t_0 = 1.
    """
    t = 1.0
    while True:
        t_next = (1 + math.sqrt(1 + 4 * t * t)) / 2
        yield (t - 1) / t_next
        t = t_next


def chambolle_dossal(a: float = 3.0) -> Iterator[float]:
    r"""Chambolle and Dossal's rule :math:`\beta_k=(k-1)/(k+a)`: 0, 1/5, 2/6, ... for a = 3;
    iterates converge for a > 2.
    """
    k = 1
    while True:
        yield (k - 1) / (k + a)
        k += 1


def deepinv(a: float = 3.0) -> Iterator[float]:
    r"""What deepinv's FISTA runs, and so the authors' code: :math:`\beta_k=(k+a-2)/(k+a-1)`,
    i.e. 2/3, 3/4, 4/5, ...
    """
    k = 1
    while True:
        yield (k + a - 2) / (k + a - 1)
        k += 1


MOMENTA = {
    "none": none,
    "nesterov": nesterov,
    "chambolle_dossal": chambolle_dossal,
    "deepinv": deepinv,
}


def weights(rule: str, count: int, restart: int = 0) -> list[float]:
    r"""The first ``count`` weights of the rule of this name, begun again after every ``restart``
    iterations; 0 is never.

    Nothing passes from one stretch to the next: :math:`\beta_k=0` at k = restart, 2 restart, ...,
    so that ``restart`` iterations are an operator of x alone.
    """
    whole = MOMENTA[rule]()
    if not restart:
        return list(islice(whole, count))
    stretch = [*islice(whole, restart - 1), 0.0]
    return [stretch[k % restart] for k in range(count)]
