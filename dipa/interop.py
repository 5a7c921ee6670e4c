"""Our solver with its preconditioner as a deepinv model: ``model(y, physics)``."""

from __future__ import annotations

from typing import Any

import torch
from deepinv.optim import BaseOptim, OptimIterator
from deepinv.optim.data_fidelity import L2
from deepinv.optim.fixed_point import FixedPoint
from deepinv.optim.prior import Prior
from deepinv.physics import LinearPhysics
from torch import nn

from .checks import require, require_flag
from .physics import declared_size, image_size, numbers_of, require_applies, require_operator
from .solvers import FISTA, ProximalGradient, State, Stop
from .solvers.proximal import PreconditionerLike, acting, started, trained_of, weights
from .solvers.safeguard import Guarded, guard
from .solvers.setting import stepsize_of, warn_differences


class StepPrior(Prior):
    """One of our priors in a deepinv model: no explicit cost (deepinv then evaluates none), and
    ``step`` as ours.
    """

    def __init__(self, prior):
        super().__init__()
        self.explicit_prior, self.prior = False, prior
        denoiser = getattr(prior, "denoiser", None)
        self.denoiser = denoiser if isinstance(denoiser, nn.Module) else None
        is_module = isinstance(prior, nn.Module)
        held = [prior] if is_module else list(getattr(prior, "__dict__", {}).values())
        others = (part for part in held if isinstance(part, nn.Module) and part is not denoiser)
        self.others = nn.ModuleList(others)  # of a prior of one's own: they follow .to(...)

    def step(self, z: torch.Tensor, direction: torch.Tensor, stepsize: float) -> torch.Tensor:
        """The next iterate from the extrapolated point and the preconditioned gradient."""
        return self.prior.step(z, direction, stepsize)


class PreconditionedIteration(OptimIterator):
    r"""One iteration of :class:`dipa.FISTA` as deepinv runs it:
    :math:`x^k=\mathrm{prior}(z^k-\alpha P(\nabla f(z^k),z^k,k))`.

    deepinv counts from 0 and gives no count at all on the first call; P receives k from 1. A run
    ends where :class:`dipa.FISTA` ends it: an iterate that has diverged
    (:class:`dipa.solvers.Stop`) is dropped, and the one before kept from there on. Images that P
    does not trust are left out as there.
    """

    def __init__(self, preconditioner: PreconditionerLike | None, solver: FISTA):
        super().__init__(has_cost=False)
        self.preconditioner, self.solver = preconditioner, solver
        # as it acts with the operator that the model is made for: a compiled graph cannot make it
        self.bound: tuple[Any, Any] = (None, None)
        self.momentum = weights(solver.momentum, solver.iterations, solver.restart)
        self.stop = Stop(solver.iterations, solver.tolerance)

    def forward(self, X, cur_data_fidelity, cur_prior, cur_params, y, physics, *args, **kwargs):  # noqa: N803
        """``X["est"]`` holds this iterate and the one before, ``X["it"]`` the iterations done;
        both are returned renewed.
        """
        compiled = torch.compiler.is_compiling()
        if not compiled and bool(X.get("stopped", False)):
            return X
        before = State(X.get("it") or 0, X["est"][0], X["est"][-1])
        scheme = ProximalGradient(
            start=before.x,
            gradient=lambda z: cur_data_fidelity.grad(z, y, physics),
            measure=physics.A,
            prior_step=cur_prior.step,
            preconditioner=self._acting(physics),
            stepsize=cur_params["stepsize"],
            momentum=self.momentum,
            prior_decay=float(self.solver.prior_decay),
        )
        guarded = X["guarded"] if "guarded" in X else self._guarded(scheme, y, physics)
        if guarded is not None:
            scheme = guarded.guarded(scheme, self.solver.momentum, self.solver.restart)
        after = scheme.step(before)
        limits = X["limits"] if "limits" in X else self.stop.limits(before.x)
        gone = self.stop.diverged(after, limits)
        if not compiled and bool(gone):
            return X | {"stopped": True}
        settled = self.stop.settled(after) if self.stop.tolerance else torch.zeros_like(gone)
        known = {"it": after.k, "limits": limits, "guarded": guarded, "cost": None}
        if not compiled:
            return known | {"est": (after.x, before.x), "stopped": settled}
        # without a branch, which a compiled graph could not hold
        gone = gone | X["stopped"] if "stopped" in X else gone
        x, previous = (
            torch.where(gone, old, new)
            for old, new in zip(X["est"], (after.x, before.x), strict=True)
        )
        return known | {"est": (x, previous), "stopped": gone | settled}

    def _acting(self, physics: LinearPhysics) -> Any:
        known, preconditioner = self.bound
        return preconditioner if physics is known else acting(self.preconditioner, physics)

    def _guarded(self, scheme: ProximalGradient, y: Any, physics: LinearPhysics) -> Guarded | None:
        if not self.solver.safeguard:
            return None
        return guard(self.preconditioner, physics, y, scheme.stepsize, scheme.start)


class _Iterations(FixedPoint):
    """deepinv's loop; compiled, without its progress bar, which no graph can hold."""

    def forward(self, *args, init=None, x_gt=None, compute_metrics=False, **kwargs):
        if compute_metrics or not torch.compiler.is_compiling():
            return super().forward(
                *args, init=init, x_gt=x_gt, compute_metrics=compute_metrics, **kwargs
            )
        X = self.init_iterate_fn(*args, init, cost_fn=self.iterator.cost_fn)  # noqa: N806
        for k in range(self.max_iter):
            X = self.single_iteration(X, k, *args, **kwargs)  # noqa: N806
        return X, None


def to_deepinv(
    solver: FISTA,
    preconditioner: PreconditionerLike | None,
    physics: LinearPhysics,
    stepsize: float | str | None = None,
    *,
    img_size: tuple[int, int, int] | None = None,
    unfold: bool = False,
) -> BaseOptim:
    r"""A deepinv model that runs ``solver`` with ``preconditioner``: ``model(y, physics)`` is our
    reconstruction.

    The start, the momentum rule, the prior and the number of iterations are those of ``solver``;
    deepinv's stopping rule is off, its metrics work. A preconditioner (or denoiser) that is a
    module is part of the model: its tensors are in ``state_dict()`` and follow ``.to(...)``.
    ``fixed_point.iterator`` serves in any other :class:`deepinv.optim.BaseOptim`.

    Args:
        solver: the algorithm.
        preconditioner: ``P(gradient, iterate, k)`` with k from 1, the
            :class:`~dipa.training.Fit` of one, or None. One that was made in another setting is one
            warning that names what differs.
        physics: the operator the stepsize is for; ``"1/L"`` is evaluated here, once.
        stepsize: a positive number or ``"1/L"``; None is the one P was made with, else ``"1/L"``.
        img_size: (C, H, W), for ``"1/L"`` and an operator that does not carry its size.
        unfold: keep the graph, so that gradients reach the preconditioner; deepinv's own parameters
            stay fixed.

    Raises:
        InputError: a solver that is no FISTA, a stepsize that is neither positive nor ``"1/L"``.
    """
    preconditioner = trained_of(preconditioner)
    require(isinstance(solver, FISTA), "solver", type(solver).__name__, "a dipa.FISTA")
    require_operator("physics", physics)
    allowed = "None, or a callable P(gradient, iterate, k)"
    require(
        preconditioner is None or callable(preconditioner),
        "preconditioner",
        preconditioner,
        allowed,
    )
    stepsize = stepsize_of(preconditioner) if stepsize is None else stepsize
    size = image_size(physics, img_size) if isinstance(stepsize, str) and stepsize == "1/L" else ()
    if size:
        require_applies("physics", physics, size, several=True)
    unfold = require_flag("unfold", unfold)
    require(
        not callable(stepsize),
        "stepsize",
        stepsize,
        "a positive number or '1/L': deepinv's parameters are numbers",
    )
    alpha = solver.stepsize(stepsize, physics, size)
    known = size or (declared_size(physics) if img_size is None else image_size(physics, img_size))
    if known:
        blank = numbers_of(physics, known).new_zeros(1, *known)
        warn_differences(preconditioner, solver, physics, alpha, blank)
    iterator = PreconditionedIteration(preconditioner, solver)
    iterator.bound = (physics, acting(preconditioner, physics))
    prior = StepPrior(solver.prior)
    model = BaseOptim(
        iterator,
        params_algo={"stepsize": alpha},
        data_fidelity=L2(),
        prior=prior,
        max_iter=solver.iterations,
        early_stop=False,
        custom_init=lambda y, physics: (started(solver.start, y, physics),) * 2,
        unfold=unfold,
        trainable_params=[],
    )
    model.fixed_point.__class__ = _Iterations
    if not unfold:  # deepinv registers the prior's tensors with ``unfold`` alone
        iterator.denoiser, iterator.others = prior.denoiser, prior.others
    return model.eval()
