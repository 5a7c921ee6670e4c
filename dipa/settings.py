"""What a training is told, as plain values checked at the door: weights of the losses, budget,
way to differentiate.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from .checks import (
    plain_fields,
    require,
    require_choice,
    require_flag,
    require_int,
    require_kind,
    require_number,
)
from .choices import WAYS

SCHEDULES = ("plateau", "cosine", "one_cycle", "constant")
BORDERS = ("zeros", "edge")


@dataclass(frozen=True)
class Variations:
    r"""How far the copies of an image may be from it (:func:`dipa.variations.varied`); by default
    not at all.

    Args:
        flip: mirrored left and right, or not, with equal chances.
        shift: up to so many pixels along each axis, parts of pixels too; >= 0.
        rotation: up to so many degrees either way, in [0, 180].
        zoom: up to 1 + zoom times larger or smaller, zoom in [0, 1].
        border: what comes from outside the image: ``zeros``, or its nearest pixel (``edge``).
        copies: varied copies of every image, beside itself, in a closed form; training varies
            every image anew each time it is drawn.

    Raises:
        InputError: a value out of range.
    """

    flip: bool = False
    shift: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    border: str = "zeros"
    copies: int = 0

    def __post_init__(self):
        plain_fields(self)
        require_flag("variations.flip", self.flip)
        require_number("variations.shift", self.shift, 0, 1e4)
        require_number("variations.rotation", self.rotation, 0, 180)
        require_number("variations.zoom", self.zoom, 0, 1)
        require_choice("variations.border", self.border, BORDERS)
        require_int("variations.copies", self.copies, 0)

    @property
    def moves(self) -> bool:
        """Whether copies lie between the pixels of their images."""
        return max(self.shift, self.rotation, self.zoom) > 0

    @property
    def active(self) -> bool:
        """Whether copies differ from their images at all."""
        return self.flip or self.moves


@dataclass(frozen=True)
class LossWeights:
    r"""Weights :math:`\lambda_S,\lambda_I,\lambda_G` of D2GP Eq. (3), of R (DIPA Eq. 13), the
    penalty and the data fidelity.

    A zero weight leaves its term out (it is then not computed). At least one of the first three or
    of ``data_fidelity`` must be positive.
    """

    supervised: float = 0.0
    imitation: float = 0.0
    gradient: float = 0.0
    convergence: float = 0.0
    row_space: float = 0.0
    data_fidelity: float = 0.0

    def __post_init__(self):
        plain_fields(self)
        for term in fields(self):
            require_number(f"losses.{term.name}", getattr(self, term.name), 0)
        given = self.supervised + self.imitation + self.gradient + self.data_fidelity
        require(
            given > 0,
            "losses",
            self,
            "at least one of supervised, imitation, gradient, data_fidelity above 0",
        )

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher's reconstructions or gradients enter."""
        return self.imitation > 0 or self.gradient > 0

    def active(self) -> dict[str, float]:
        """The terms with a positive weight."""
        weights = {term.name: getattr(self, term.name) for term in fields(self)}
        return {name: weight for name, weight in weights.items() if weight > 0}


@dataclass(frozen=True)
class Budget:
    r"""How long and how to optimise.

    Args:
        steps: optimiser steps; each draws ``batch_size`` images, so ``steps * batch_size``
            image-steps in all.
        batch_size: images a step; more than the data set holds means repeats.
        optimizer: ``adam``, or ``adamw`` with decoupled ``weight_decay``.
        learning_rate: initial rate.
        weight_decay: AdamW's decay (0.01 in the papers' MRI runs).
        clip: a gradient whose Euclidean norm over all parameters exceeds ``clip`` is scaled down to
            that norm; 0 switches it off.
        schedule: ``plateau`` (ReduceLROnPlateau on the mean loss of each window, as in the papers),
            ``cosine`` (to 0), ``one_cycle`` (up a line in the first 5 percent of the steps, then
            half a cosine to 1 percent) or ``constant``.
        window: steps between two looks of the plateau schedule.
        patience: windows without progress before the plateau schedule acts.
        factor: what the plateau schedule multiplies the rate by, below 1.
        checkpoint_every: steps between two checkpoints.
    """

    steps: int = 100
    batch_size: int = 16
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip: float = 1.0
    schedule: str = "plateau"
    window: int = 10
    patience: int = 3
    factor: float = 0.5
    checkpoint_every: int = 10

    def __post_init__(self):
        plain_fields(self)
        for name in ("steps", "batch_size", "window", "checkpoint_every"):
            require_int(f"budget.{name}", getattr(self, name), 1)
        require_int("budget.patience", self.patience, 0)
        require_choice("budget.optimizer", self.optimizer, ("adam", "adamw"))
        require_choice("budget.schedule", self.schedule, SCHEDULES)
        require_number("budget.learning_rate", self.learning_rate, 0, 1e38, open_low=True)
        require_number("budget.weight_decay", self.weight_decay, 0, 1e38)
        require_number("budget.clip", self.clip, 0)
        require_number("budget.factor", self.factor, 0, 0.999, open_low=True)


@dataclass(frozen=True)
class Differentiation:
    r"""How the gradient of a loss at :math:`\hat x=x^K` with respect to P's parameters
    :math:`\theta` is computed.

    With :math:`s^k=F_\theta(s^{k-1},k)` one iteration on the state :math:`s=(x,z)`, and :math:`J^k`
    its Jacobian in s, the exact gradient is a sum over the iterations,

    .. math::
        \sum_{k=1}^{K}\partial_\theta F(s^{k-1},k)^\top\,(J^{k+1})^\top\cdots(J^{K})^\top
        \,\nabla\ell(\hat x).

    ``unrolled``
        All of it, by plain automatic differentiation: every feature map of the K iterations is
        kept.
    ``checkpointed``
        All of it, to the same bits, keeping the iterates and one bit per feature of a frozen DnCNN;
        other denoisers and nonlinear preconditioners are computed again in the backward pass. The
        default.
    ``truncated``
        The last ``tail`` terms of the sum; the iterations before run without gradient and keep
        nothing.
    ``jacobian_free``
        The last term alone: Jacobian-free backpropagation, at a fixed point the first term of the
        Neumann series.
    ``restart``
        Momentum starts again every ``tail`` iterations, so that ``tail`` of them are one operator
        of x alone, applied :math:`K/\mathrm{tail}` times; Jacobian-free backpropagation through its
        last application.
    ``straight_through``
        Every term, with the identity in the place of the denoiser's Jacobian in each :math:`J^k`:
        the denoiser, which is most of the cost, has no backward pass. Not in the papers; for a weak
        denoiser its Jacobian is close to the identity.

    ``restart`` trains with another momentum than the solver's, which then runs as it is.

    Args:
        way: one of the six.
        tail: iterations the gradient goes through, for ``truncated`` and ``restart``; at least 1, K
            or more is all, and for ``restart`` a divisor of K where it is less.

    Raises:
        InputError: another way, or a tail below 1. In training: a ``restart`` whose tail does not
            divide K; a way that would never train the first parameters of a P with parameters of
            its own for every iteration.

    Source: D2GP Algorithm 2 unrolls; Fung et al., "JFB: Jacobian-free backpropagation for implicit
    networks", 2022; restart: Davy, Briceno-Arias and Pustelnik, "Restarted contractive operators to
    learn at equilibrium", 2025 (its abstract; read as above).
    """

    way: str = "checkpointed"
    tail: int = 5

    def __post_init__(self):
        plain_fields(self)
        require_choice("differentiation.way", self.way, WAYS)
        require_int("differentiation.tail", self.tail, 1)

    @property
    def exact(self) -> bool:
        """Whether the gradient is that of the whole run."""
        return self.way in ("unrolled", "checkpointed")

    @property
    def less_memory(self) -> str:
        """What to say to whom this way takes too much memory."""
        if self.way == "unrolled":
            return (
                "differentiation.way 'checkpointed' gives the same gradient in a fraction of "
                "the memory"
            )
        return (
            "differentiation.way 'truncated' with a small tail keeps less"
            if self.way == "checkpointed"
            else ""
        )

    @property
    def backward(self) -> int | None:
        """How many of the last iterations carry gradients; None for all."""
        if self.exact or self.way == "straight_through":
            return None
        return 1 if self.way == "jacobian_free" else self.tail


@dataclass(frozen=True)
class Phase:
    r"""One part of a training: what is compared with what, through which iterations the gradient
    goes, and for how long.

    A training is a list of phases. Each begins where the one before ended, with a fresh optimiser:

    ``Phase(iterations=1, before_prior=True)``
        the first iteration alone. :math:`z^1-\alpha P(\nabla g(z^1),z^1,1)` is compared, so neither
        the denoiser nor a solve is run: a step costs one call of P.
    ``Phase(stretch=1)``
        every iteration alone, on the run's own iterates: the losses are compared after each, and
        no gradient passes from one to the one before.
    ``Phase(iterations=8)``
        the first eight iterations, exactly.
    ``Phase()``
        the whole solve, as in the papers. What is compared is :math:`x^K`.

    Args:
        budget: steps, optimiser, schedule.
        losses: weights of the terms.
        differentiation: how the gradient of a run is computed; a way through all iterations (of a
            stretch) where more than the end of the run is compared.
        iterations: that the student runs, at most the solver's K; 0 is K.
        stretch: iterations between two comparisons, a divisor of the number that is run; the loss
            is the mean of all comparisons. 0 compares once, at the end.
        before_prior: compare what the prior is given, :math:`z^k-\alpha P(\nabla g(z^k),z^k,k)`, in
            the place of what it makes of it, :math:`x^k`.
        teacher_iterates: the imitation loss compares with the teacher's iterate of the same k (the
            teacher then runs along, uncached), not with its output. With ``stretch`` or
            ``before_prior`` the gradient loss compares the direction of iteration k with the
            teacher's gradient at the same point, :math:`H_t^\top H_t(z^k-x)`.

    Raises:
        InputError: a number out of range, a stretch that does not divide the iterations or whose
            way leaves some of them out.

    Source: the phases are this project's; one update for each iteration on the iterates' own
    states is the cumulative training of "Accelerating Optimization Algorithms With Dynamic
    Parameter Selections Using CNNs" (arXiv 1902.02449).
    """

    budget: Budget = field(default_factory=Budget)
    losses: LossWeights = field(default_factory=lambda: LossWeights(supervised=1.0))
    differentiation: Differentiation = field(default_factory=Differentiation)
    iterations: int = 0
    stretch: int = 0
    before_prior: bool = False
    teacher_iterates: bool = False

    def __post_init__(self):
        plain_fields(self)
        for name, kind in (
            ("budget", Budget),
            ("losses", LossWeights),
            ("differentiation", Differentiation),
        ):
            require_kind(f"phase.{name}", getattr(self, name), kind)
        for name in ("iterations", "stretch"):
            require_int(f"phase.{name}", getattr(self, name), 0)
        for name in ("before_prior", "teacher_iterates"):
            require_flag(f"phase.{name}", getattr(self, name))
        require(
            not self.along or self.differentiation.backward is None,
            "phase.differentiation.way",
            self.differentiation.way,
            "checkpointed, unrolled or straight_through where iterations on the way are compared",
        )
        require(
            not self.before_prior or self.losses.row_space + self.losses.convergence == 0,
            "phase.losses",
            self.losses.active(),
            "before the prior: supervised, imitation, gradient and data_fidelity",
        )

    def length(self, iterations: int) -> int:
        """How many of a solver's iterations are run; more than it has, or a stretch that does not
        divide them, are refused.
        """
        run = self.iterations or iterations
        allowed = f"at most the solver's {iterations}"
        require(run <= iterations, "phase.iterations", self.iterations, allowed)
        whole = not self.stretch or run % self.stretch == 0
        require(whole, "phase.stretch", self.stretch, f"a divisor of the {run} iterations")
        return run

    @property
    def along(self) -> bool:
        """Whether iterations on the way are compared, or what goes into the prior."""
        return self.stretch > 0 or self.before_prior or self.teacher_iterates

    @property
    def needs_targets(self) -> bool:
        """Whether the outputs or gradients of whole runs of the teacher enter."""
        gradient = self.losses.gradient > 0 and not self.along
        return gradient or (self.losses.imitation > 0 and not self.teacher_iterates)
