"""The one optimisation loop of all training: seeded batches, schedule, checkpoints, exact resume,
stops on what is not finite.

It trains any module on any objective of (image indices, step) and knows no operator, solver or
preconditioner. Under torchrun every process takes its share of each batch
(:mod:`dipa.training.parallel`); the first one writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from .. import memory
from ..cache import Identity
from ..checks import InputError, is_out_of_memory, require
from ..interrupt import Guard, Interrupted
from ..settings import Budget
from . import parallel
from .checkpoint import load_checkpoint, save_checkpoint
from .schedules import Plan, optimizer_of, scheduler_of
from .validation import Validation

# what torch says where a denoiser is itself a gradient whose graph is gone
TWICE = "backward through the graph a second time"
_ONCE = (
    "differentiation: got a way through a denoiser that cannot be differentiated again (one that "
    "is itself a gradient); allowed: dipa.training.Differentiation('straight_through')"
)
Record = dict[str, float]
Objective = Callable[[torch.Tensor, int], tuple[torch.Tensor, Record]]


class Shortage(InputError):
    """Too little memory for a training step: the steps before are saved."""


@dataclass(frozen=True)
class Fit:
    """What training made: the trained module, one history record per step, and plain values
    that say how.
    """

    trained: nn.Module | None
    history: list[Record]
    record: dict[str, Any]

    @property
    def preconditioner(self) -> nn.Module | None:
        """What was trained, by the name of what :func:`~dipa.training.distill` trains."""
        return self.trained

    @property
    def network(self) -> nn.Module | None:
        """What was trained, by the name of what :func:`~dipa.training.train_network` trains."""
        return self.trained


@dataclass
class Training:
    """One training run: everything a resumed run needs to continue as if never stopped."""

    module: nn.Module
    what: str
    plan: Plan
    optimizer: torch.optim.Optimizer
    scheduler: Any
    checkpoint: Path | None
    identity: Identity
    history: list[Record] = field(default_factory=list)
    seconds: float = 0.0
    validation: Validation | None = None

    @classmethod
    def start(
        cls,
        module: nn.Module,
        budgets: Budget | Sequence[Budget],
        *,
        name: str,
        what: str,
        identity: Identity,
        checkpoint: str | Path | None,
        validation: Validation | None = None,
    ) -> Training:
        """A run at its beginning, or where the file ``checkpoint`` left it.

        Args:
            module: what is trained, in place; its frozen parameters stay as they are.
            budgets: steps, optimiser, schedule; of several, each begins where the one before ended,
                with a fresh optimiser.
            name: the caller's argument that holds ``module``, for error messages.
            what: a name of the module for messages and the progress bar.
            identity: ties the checkpoint to all that shapes the run.
            checkpoint: the file to save to and resume from, None for none.
            validation: looks at held-out images; the module ends as the best it saw, and training
                may stop early.

        Raises:
            InputError: a module without trainable parameters; a damaged checkpoint or one of
                another run.
        """
        parameters = [p for p in module.parameters() if p.requires_grad]
        require(len(parameters) > 0, name, type(module).__name__, "one with trainable parameters")
        plan = Plan((budgets,) if isinstance(budgets, Budget) else tuple(budgets))
        optimizer = optimizer_of(parameters, plan.budgets[0])
        path = Path(checkpoint) if checkpoint else None
        scheduler = scheduler_of(optimizer, plan.budgets[0])
        training = cls(module, what, plan, optimizer, scheduler, path, identity)
        training.validation = validation
        saved = load_checkpoint(path, identity) if path else None
        if saved:
            training._restore(saved)
        return training

    def run(
        self,
        objective: Objective,
        *,
        count: int,
        seed: int,
        less_memory: str = "",
        progress: bool = True,
        report: Callable[[Record], None] | None = None,
    ) -> None:
        """Take the steps of the budgets that are not yet taken, on batches drawn from ``count``
        images.

        ``objective(index, step)`` gives the mean loss of the images ``index`` with its record: the
        terms and ``psnr``. The history gains one record per step: step, of several budgets the
        number of the phase, loss, the objective's record, learning rate, gradient norm before
        clipping. ``report`` is called with each. Ctrl-C
        and SIGTERM save the last whole step and raise :class:`~dipa.interrupt.Interrupted`. So does
        too little memory, with :class:`InputError` that says how many images at once would fit, or
        what is ``less_memory``.
        """
        fewest = f"at least 1 for each of {parallel.size()} processes"
        least = min(budget.batch_size for budget in self.plan.budgets)
        require(least >= parallel.size(), "budget.batch_size", least, fewest)
        parallel.wait()  # all have read the checkpoint before the first one writes
        began = time.monotonic() - self.seconds
        steps = range(len(self.history), self.plan.steps)
        hidden = not progress or parallel.rank() > 0
        bar = tqdm(
            total=self.plan.steps,
            initial=steps.start,
            desc=f"training {self.what}",
            unit="step",
            disable=hidden,
        )
        with Guard() as guard, bar:
            try:
                if not self.history:
                    self._look(0)
                for step in steps:
                    if self.validation and self.validation.exhausted:
                        break
                    self._begin(step)
                    index = self.plan.batch(count, step, seed)
                    record = self._gradient(objective, index, step, less_memory)
                    with guard.whole():
                        self.history.append(
                            self._place(step) | record | self._update(record["loss"], step)
                        )
                        self._look(step + 1)
                        self.seconds = time.monotonic() - began
                    if report:
                        report(self.history[-1])
                    every = self._budget(step).checkpoint_every
                    if (step + 1) % every == 0 or step + 1 == self.plan.steps:
                        with guard.whole():
                            self._save()
                    bar.set_postfix(loss=f"{record['loss']:.4g}", PSNR=f"{record['psnr']:.2f} dB")
                    bar.update()
            except (Interrupted, Shortage):
                self._save()
                raise
        if self.validation:
            self.module.load_state_dict(self.validation.best)

    def _budget(self, step: int) -> Budget:
        return self.plan.budgets[self.plan.place(step)[0]]

    def _begin(self, step: int) -> None:
        """A fresh optimiser where ``step`` is the first of a later budget."""
        number, within = self.plan.place(step)
        if number and not within:
            self._fresh(self.plan.budgets[number])

    def _fresh(self, budget: Budget) -> None:
        self.optimizer = optimizer_of(self._parameters(), budget)
        self.scheduler = scheduler_of(self.optimizer, budget)

    def _place(self, step: int) -> Record:
        place: Record = {"step": step + 1}
        several = len(self.plan.budgets) > 1
        return place | ({"phase": self.plan.place(step)[0] + 1} if several else {})

    def _look(self, step: int) -> None:
        if self.validation and self.validation.due(step):
            self.validation.look(self.module, step)

    def _gradient(
        self, objective: Objective, index: torch.Tensor, step: int, less_memory: str
    ) -> Record:
        """Leave the gradient of the batch's mean loss at the parameters; returns the loss and
        the objective's record.
        """
        mine = parallel.share(index)
        with parallel.together():
            computed = self._backward(objective, mine, step)
            if computed is None:
                raise self._shortage(objective, mine, step, less_memory)
        loss, record = computed
        names, weight = ("loss", *record), len(mine) / len(index)
        numbers = torch.tensor([loss.item(), *record.values()], dtype=torch.float64)
        parallel.average([numbers], weight)
        parallel.average([p.grad for p in self._parameters() if p.grad is not None], weight)
        return dict(zip(names, numbers.tolist(), strict=True))

    def _backward(
        self, objective: Objective, index: torch.Tensor, step: int
    ) -> tuple[torch.Tensor, Record] | None:
        """Leave the gradient of the images' mean loss at the parameters; loss and record, None
        where memory is too little.
        """
        self.optimizer.zero_grad(set_to_none=True)
        try:
            loss, record = objective(index, step)
            if not loss.requires_grad:
                raise InputError(
                    f"training: the loss does not depend on the trainable parameters of {self.what}"
                )
            loss.backward()
        except (RuntimeError, MemoryError) as error:
            if TWICE in str(error):
                raise InputError(_ONCE) from error
            if not is_out_of_memory(error):
                raise
            return None
        return loss.detach(), record

    def _shortage(
        self, objective: Objective, index: torch.Tensor, step: int, less_memory: str
    ) -> Shortage:
        """What to say about too little memory: how many of these images at once fit, found by
        trying halves.
        """
        place, fit = self._parameters()[0].device, len(index) // 2
        memory.release(place)
        while fit and self._backward(objective, index[:fit], step) is None:
            fit //= 2
            memory.release(place)
        self.optimizer.zero_grad(set_to_none=True)
        ways = ([f"training.batch_size {fit * parallel.size()} fits"] if fit else []) + (
            [less_memory] if less_memory else []
        )
        what = f"the {len(index)} images of training step {step + 1}"
        return Shortage(
            f"device: {place} has too little memory for {what}; "
            f"{'; '.join(ways) or 'not even one image fits'}"
        )

    def _update(self, loss: float, step: int) -> Record:
        """One optimiser step; returns its rate and the gradient norm before clipping. What is
        not finite is refused.
        """
        rate, parameters = self.optimizer.param_groups[0]["lr"], self._parameters()
        norm = torch.nn.utils.clip_grad_norm_(parameters, self._budget(step).clip or float("inf"))
        if not (math.isfinite(loss) and bool(torch.isfinite(norm))):
            raise InputError(
                f"training: loss or gradient is not finite at step {step + 1}; lower the "
                f"learning rate or set clip"
            )
        self.optimizer.step()
        # a GPU is waited for once
        if not bool(torch.stack([torch.isfinite(p).all() for p in parameters]).all()):
            raise InputError(
                f"training: {self.what} is not finite after step {step + 1}; lower the "
                f"learning rate"
            )
        self._schedule(loss, step)
        return {"learning_rate": rate, "gradient_norm": norm.item()}

    def _parameters(self) -> list[nn.Parameter]:
        return [p for p in self.module.parameters() if p.requires_grad]

    def _save(self) -> None:
        if self.checkpoint and parallel.rank() == 0:
            save_checkpoint(self.checkpoint, self.identity, self._dump())

    def _schedule(self, loss: float, step: int) -> None:
        budget, (_, within) = self._budget(step), self.plan.place(step)
        if budget.schedule != "plateau":
            self.scheduler.step()
        elif (within + 1) % budget.window == 0:
            before = len(self.history) - (budget.window - 1)
            recent = [record["loss"] for record in self.history[before:]]
            self.scheduler.step(sum([*recent, loss]) / (len(recent) + 1))

    def _dump(self) -> dict[str, Any]:
        parts = {
            name: getattr(self, name).state_dict() for name in ("module", "optimizer", "scheduler")
        }
        looks = {"validation": self.validation.state_dict()} if self.validation else {}
        return parts | looks | {"history": self.history, "seconds": self.seconds}

    def _restore(self, saved: dict[str, Any]) -> None:
        if saved["history"]:
            self._fresh(self._budget(len(saved["history"]) - 1))
        for name in ("module", "optimizer", "scheduler"):
            getattr(self, name).load_state_dict(saved[name])
        if self.validation:
            self.validation.load_state_dict(saved["validation"])
        self.history, self.seconds = saved["history"], saved["seconds"]
