"""The methods of a comparison: what each is, and the settings that validation chooses among."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import deepinv
import torch
from deepinv.physics import LinearPhysics
from torch import nn

from ..physics import lipschitz
from ..preconditioners import (
    CombinedSteps,
    ComposedPreconditioner,
    FourierSteps,
    Hessian,
    LinearPreconditioner,
    NeuralPreconditioner,
    Nystrom,
    Polynomial,
    Preconditioner,
    ScalarSteps,
)
from ..preconditioners.per_iteration import PerIteration
from ..priors import DenoiserPrior, PnP
from ..settings import Budget, Differentiation, LossWeights, Phase
from ..solvers import FISTA, MOMENTA
from ..solvers.proximal import Start
from ..training import Fit, distill, fit_ridge, fit_steps
from .curves import Curve, Group, modelled, solved

DAMPINGS = (0.01, 0.03, 0.1, 0.3, 1.0)  # of the inverses, in units of L
TIKHONOV = (1e-3, 3e-3, 1e-2, 3e-2, 0.1)  # in units of L
PROX = (1.0, 3.0, 10.0, 30.0)  # stepsizes of HQS and DRS, in units of 1/L
LEVELS = (0.002, 0.005, 0.01, 0.02, 0.05)  # of the total variation denoiser
# numbers in an image up to which a matrix is fitted: 32 x 32, with a budget 48 x 48
LARGE, LARGEST = 1024, 2304
FIT_PLANES = 24  # channels of all images that steps are fitted to in closed form, at most
PATIENCE = 4  # times K that a method may run which was not trained for K
TV_ITERATIONS = 30  # of the total variation denoiser inside
Run = Callable[[Group, int], Curve]


@dataclass(frozen=True)
class Way:
    """One setting of a method: in words; ``run(group, exactly)``, of so many iterations, or of 0 as
    many as make it better; the seconds it took to make and to fit, the numbers it has learned; a
    variant that is tried where this setting is the best of the method.
    """

    text: str
    run: Run
    setup: float = 0.0
    fit: float = 0.0
    numbers: int = 0
    variant: Way | None = None


@dataclass(frozen=True)
class Problem:
    """What is compared on: operator, images to fit on, teacher and budget of the trainings."""

    solver: FISTA
    physics: LinearPhysics
    images: torch.Tensor
    teacher: LinearPhysics | None
    budget: Budget | None
    seed: int

    @property
    def size(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def norm(self) -> float:
        """L."""
        return lipschitz(self.physics, self.size, self.images)

    @property
    def iterations(self) -> int:
        """K of what is fitted or trained."""
        return self.solver.iterations

    def from_zero(self) -> Problem:
        """With the start of what is fitted in closed form: what is not measured is then in the
        first gradient too.
        """
        return replace(self, solver=replace(self.solver, start="zero"))

    @cached_property
    def closed_forms(self) -> list[ClosedForm]:
        """The ridge predictor of the solver's own start and of zero; made once."""
        known = {_named(problem.solver.start): problem for problem in (self, self.from_zero())}
        return [ClosedForm.of(start, problem) for start, problem in known.items()]

    def phase(self, **options: Any) -> Phase:
        """A training with the budget: supervised, with a teacher imitating it too."""
        imitation = float(self.teacher is not None)
        losses = LossWeights(supervised=1.0, imitation=imitation)
        return Phase(cast(Budget, self.budget), losses, **options)

    def by(
        self, momentum: str, preconditioner: Any, stepsize: float | str = "1/L", times: int = 1
    ) -> Run:
        """The run of our solver with this momentum, ``times`` K iterations."""
        solver = replace(self.solver, momentum=momentum)
        count = self.iterations * times
        return lambda group, exactly: solved(
            solver, group, preconditioner, stepsize, count, exactly
        )


@dataclass(frozen=True)
class ClosedForm:
    """A fitted ridge predictor with the name of its start, its problem from there, and seconds."""

    start: str
    problem: Problem
    fit: Fit
    seconds: float

    @classmethod
    def of(cls, start: str, problem: Problem) -> ClosedForm:
        """Fitted; of several channels one predictor for all."""
        several, images = problem.size[0] > 1, problem.images
        make = partial(fit_ridge, problem.solver, problem.physics, images, planes=several)
        fit, seconds = timed(partial(make, seed=problem.seed))
        return cls(start, problem, fit, seconds)

    @property
    def P(self) -> LinearPreconditioner:  # noqa: N802
        """The predictor as a preconditioner."""
        return cast(LinearPreconditioner, self.fit.preconditioner)

    @property
    def quality(self) -> float:
        """PSNR on the images that its regularisation was chosen by."""
        return max(trial["psnr"] for trial in self.fit.record["trials"])


def total_variation(problem: Problem) -> FISTA:
    """The solver with deepinv's total variation denoiser, its level still to be chosen."""
    return replace(problem.solver, prior=_tv(LEVELS[0]))


def plain(problem: Problem) -> Iterator[Way]:
    """Steps of 1/L, with each momentum."""
    for momentum in MOMENTA:
        yield Way(momentum, problem.by(momentum, None, times=PATIENCE))


def levels(problem: Problem) -> Iterator[Way]:
    """Steps of 1/L with Nesterov's momentum, with each level of total variation."""
    for level in LEVELS:
        solver = replace(problem, solver=replace(problem.solver, prior=_tv(level)))
        yield Way(f"level {level:g}", solver.by("nesterov", None, times=PATIENCE))


def hessian(problem: Problem) -> Iterator[Way]:
    """Newton's direction, which with a denoiser is HQS with constant weights."""
    for damping in DAMPINGS:
        level = damping * problem.norm
        make = partial(Hessian, problem.physics, problem.size, regularization=level)
        P, seconds = timed(partial(make, max_iter=50, tol=1e-3))
        yield _with_and_without(problem, f"{damping:g} L", P, seconds)


def polynomial(problem: Problem) -> Iterator[Way]:
    """Polynomials of the Gram of degree 4."""
    for name, make in (("Chebyshev", Polynomial.chebyshev), ("L2", Polynomial.l2)):
        P, seconds = timed(partial(make, problem.physics, img_size=problem.size))
        yield _with_and_without(problem, name, P, seconds)


def nystrom(problem: Problem) -> Iterator[Way]:
    """Sketches of a tenth of the pixels, at most 256."""
    rank = max(1, min(256, problem.images[0].numel() // 10))
    for damping in DAMPINGS:
        level = damping * problem.norm
        make = partial(Nystrom, problem.physics, problem.size, rank=rank, seed=problem.seed)
        P, seconds = timed(partial(make, regularization=level))
        yield _with_and_without(problem, f"{damping:g} L", P.to(problem.images), seconds)


def tikhonov(problem: Problem) -> Iterator[Way]:
    """Tikhonov's solution, no denoiser, by conjugate gradients where there is no closed form."""
    bare = replace(problem.solver, prior=cast(PnP, _Nothing()), start="zero", momentum="none")
    for damping in TIKHONOV:
        P = Hessian(problem.physics, problem.size, regularization=damping * problem.norm)
        yield Way(f"{damping:g} L", partial(_solved, bare, P))


def ridge(problem: Problem) -> Iterator[Way]:
    """The closed-form linear predictor, from each start."""
    for form in problem.closed_forms:
        numbers = form.P.parameter_count
        for momentum in ("none", problem.solver.momentum):
            run = form.problem.by(momentum, form.fit)
            yield Way(f"{form.start}, {momentum}", run, 0.0, form.seconds, numbers)


def scalars(problem: Problem) -> Iterator[Way]:
    """One number an iteration."""
    yield from _fitted(problem, ScalarSteps(problem.iterations))


def filters(problem: Problem) -> Iterator[Way]:
    """A radial filter an iteration."""
    yield from _fitted(problem, FourierSteps(problem.iterations, radial=True))


def polynomials(problem: Problem) -> Iterator[Way]:
    """A polynomial of the Gram an iteration."""
    yield from _fitted(problem, CombinedSteps(problem.iterations, widths=()))


def combined(problem: Problem) -> Iterator[Way]:
    """Polynomials and Gaussians an iteration."""
    yield from _fitted(problem, combined_steps(problem))


def combined_steps(problem: Problem) -> CombinedSteps:
    """For the operator; of colours mixed."""
    return CombinedSteps(problem.iterations, mixed=problem.size[0] > 2)


def l_dipa(problem: Problem) -> Iterator[Way]:
    """One matrix: the closed form that is best on held-out images, trained through the solve."""
    form, began = max(problem.closed_forms, key=lambda form: form.quality), time.perf_counter()
    P = copy.deepcopy(form.P)
    phase = problem.phase(differentiation=Differentiation("straight_through"))
    way = _trained(form.problem, P, phase, began - form.seconds)
    yield replace(way, text=f"{form.start}, {way.text}")


def n_dipa(problem: Problem) -> Iterator[Way]:
    """A small network behind the combined steps, each iteration alone before the denoiser."""
    problem, began = problem.from_zero(), time.perf_counter()
    first, size = _steps(problem, combined_steps(problem)), problem.size
    second = NeuralPreconditioner("convnext", img_size=size, features=16, blocks=2, code_dim=32)
    P = ComposedPreconditioner(first.requires_grad_(False), second.to(problem.images))
    phase = problem.phase(stretch=1, before_prior=True, teacher_iterates=True)
    yield _trained(problem, P, phase, began)


def prox(algorithm: type, problem: Problem) -> Iterator[Way]:
    """deepinv's HQS or DRS with the proximity operator of the data fidelity, from the start of our
    solver: deepinv's own, the adjoint, has the units of the operator.
    """
    for factor in PROX:

        def make(iterations: int, stepsize: float = factor / problem.norm) -> Any:
            return algorithm(
                data_fidelity=deepinv.optim.L2(),
                prior=deepinv.optim.PnP(denoiser=_EachChannel(problem.solver.prior)),
                stepsize=stepsize,
                sigma_denoiser=problem.solver.prior.sigma,
                max_iter=iterations,
            )

        run = partial(modelled, make, problem.solver.start, problem.iterations * PATIENCE)
        yield Way(f"{factor:g} / L", run)


@dataclass(frozen=True)
class Method:
    """A method by name: its family, its settings, and why it may be left out."""

    name: str
    family: str
    ways: Callable[[Problem], Iterator[Way]]
    needs: str = ""

    def absent(self, problem: Problem) -> str:
        """Why it is left out; empty where it is not."""
        if "denoiser" in self.needs and not isinstance(problem.solver.prior, DenoiserPrior):
            return f"a prior by its denoiser, not {type(problem.solver.prior).__name__}"
        if "budget" in self.needs and problem.budget is None:
            return "no budget was given"
        most = LARGE if problem.budget is None else LARGEST
        large = problem.images[0].numel() > most
        reason = f"more than {most:,} numbers in an image"
        return reason if "matrix" in self.needs and large else ""


FITTED, TRAINED = "closed form", "trained"
METHODS = (
    Method("1/L", "untrained", plain),
    Method("Hessian", "untrained", hessian),
    Method("polynomial", "untrained", polynomial),
    Method("Nyström", "untrained", nystrom),
    Method("CG-Tikhonov", "untrained", tikhonov),
    Method("HQS", "deepinv", partial(prox, deepinv.optim.HQS), "denoiser"),
    Method("DRS", "deepinv", partial(prox, deepinv.optim.DRS), "denoiser"),
    Method("learned scalars", FITTED, scalars),
    Method("learned filters", FITTED, filters),
    Method("learned polynomials", FITTED, polynomials),
    Method("combined steps", FITTED, combined),
    Method("ridge", FITTED, ridge, "matrix"),
    Method("L-DIPA", TRAINED, l_dipa, "budget, matrix"),
    Method("N-DIPA", TRAINED, n_dipa, "budget"),
)
WITH_TV = ("1/L", "HQS", "learned filters", "combined steps")  # also run with total variation


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """What ``make`` gives, and the seconds it took."""
    began = time.perf_counter()
    return make(), time.perf_counter() - began


def _named(start: Start) -> str:
    return getattr(start, "__name__", "own start") if callable(start) else start


def _tv(level: float) -> PnP:
    return PnP(deepinv.models.TVDenoiser(n_it_max=TV_ITERATIONS), sigma=level)


def _with_and_without(problem: Problem, text: str, P: Any, seconds: float) -> Way:  # noqa: N803
    """A preconditioner that stands for the inverse: steps of 1; without momentum where it is the
    best.
    """
    runs = {name: problem.by(name, P, 1.0, PATIENCE) for name in ("none", "chambolle_dossal")}
    without, with_it = (Way(f"{text}, {name}", run, seconds) for name, run in runs.items())
    return replace(with_it, variant=without)


def _fitted(problem: Problem, steps: PerIteration) -> Iterator[Way]:
    """Steps in closed form, and their run beyond K."""
    problem, began = problem.from_zero(), time.perf_counter()
    P = _steps(problem, steps)
    seconds, momentum = time.perf_counter() - began, problem.solver.momentum
    run = problem.by(momentum, P, times=PATIENCE)
    yield Way(momentum, run, 0.0, seconds, P.parameter_count)


def _steps(problem: Problem, steps: PerIteration) -> PerIteration:
    """Fitted to a few images: they have few numbers."""
    images = problem.images[: max(1, FIT_PLANES // problem.size[0])]
    fit_steps(steps.to(images), problem.solver, problem.physics, images, seed=problem.seed)
    return steps


def _trained(problem: Problem, preconditioner: Preconditioner, phase: Phase, began: float) -> Way:
    """P by distillation, and its run; the best P on images held out is kept, its start included."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(distill|images): ")  # the table says it
        fit = distill(
            problem.solver,
            preconditioner,
            problem.physics,
            problem.teacher,
            problem.images,
            phases=[phase],
            seed=problem.seed,
            progress=False,
        )
    run, seconds = problem.by(problem.solver.momentum, fit), time.perf_counter() - began
    return Way(problem.solver.momentum, run, 0.0, seconds, preconditioner.parameter_count)


def _solved(solver: FISTA, preconditioner: Any, group: Group, exactly: int) -> Curve:
    """One step of 1 from zero by the inverse: Tikhonov's solution."""
    return solved(solver, group, preconditioner, 1.0, 1)


class _Nothing:
    """No prior."""

    def step(self, z: torch.Tensor, direction: torch.Tensor, stepsize: float) -> torch.Tensor:
        """The step alone."""
        return z - stepsize * direction


class _EachChannel(nn.Module):
    """A prior's denoiser as deepinv's algorithms call one."""

    def __init__(self, prior: PnP):
        super().__init__()
        self.prior = prior

    def forward(self, x: torch.Tensor, sigma: Any = None, **_: Any) -> torch.Tensor:
        """The denoiser on each channel alone, at the prior's own level."""
        return self.prior.denoise(x)
