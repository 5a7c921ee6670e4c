"""The one optimisation loop of all training: seeded batches, schedule, checkpoints, exact resume,
stops on what is not finite.

It trains any module on any objective of (image indices, step) and knows no operator, solver or
preconditioner. Under torchrun every process takes its share of each batch
(:mod:`dipa.training.parallel`); the first one writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from .. import memory, seeding
from ..cache import Identity
from ..checks import InputError, is_out_of_memory, require
from ..interrupt import Guard, Interrupted
from ..settings import Budget
from . import parallel
from .checkpoint import load_checkpoint, save_checkpoint
from .validation import Validation

WARM_UP = 0.05
# what torch says where a denoiser is itself a gradient whose graph is gone
TWICE = "backward through the graph a second time"
_ONCE = (
    "differentiation: got a way through a denoiser that cannot be differentiated again (one that "
    "is itself a gradient); allowed: Differentiation('straight_through')"
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
    budget: Budget
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
        budget: Budget,
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
            budget: steps, optimiser, schedule.
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
        optimizer = _optimizer(parameters, budget)
        path = Path(checkpoint) if checkpoint else None
        scheduler = _scheduler(optimizer, budget)
        training = cls(module, what, budget, optimizer, scheduler, path, identity)
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
        """Take the steps of the budget that are not yet taken, on batches drawn from ``count``
        images.

        ``objective(index, step)`` gives the mean loss of the images ``index`` with its record: the
        terms and ``psnr``. The history gains one record per step: step, loss, the objective's
        record, learning rate, gradient norm before clipping. ``report`` is called with each. Ctrl-C
        and SIGTERM save the last whole step and raise :class:`~dipa.interrupt.Interrupted`. So does
        too little memory, with :class:`InputError` that says how many images at once would fit, or
        what is ``less_memory``.
        """
        fewest = f"at least 1 for each of {parallel.size()} processes"
        require(
            self.budget.batch_size >= parallel.size(),
            "budget.batch_size",
            self.budget.batch_size,
            fewest,
        )
        parallel.wait()  # all have read the checkpoint before the first one writes
        began = time.monotonic() - self.seconds
        steps = range(len(self.history), self.budget.steps)
        hidden = not progress or parallel.rank() > 0
        bar = tqdm(
            total=self.budget.steps,
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
                    index = seeding.batch_indices(count, self.budget.batch_size, step, seed)
                    record = self._gradient(objective, index, step, less_memory)
                    with guard.whole():
                        self.history.append(
                            {"step": step + 1} | record | self._update(record["loss"], step)
                        )
                        self._look(step + 1)
                        self.seconds = time.monotonic() - began
                    if report:
                        report(self.history[-1])
                    if (
                        step + 1
                    ) % self.budget.checkpoint_every == 0 or step + 1 == self.budget.steps:
                        with guard.whole():
                            self._save()
                    bar.set_postfix(loss=f"{record['loss']:.4g}", PSNR=f"{record['psnr']:.2f} dB")
                    bar.update()
            except (Interrupted, Shortage):
                self._save()
                raise
        if self.validation:
            self.module.load_state_dict(self.validation.best)

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
            found = self._backward(objective, mine, step)
            if found is None:
                raise self._shortage(objective, mine, step, less_memory)
        loss, record = found
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
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.budget.clip or float("inf"))
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
        if self.budget.schedule != "plateau":
            self.scheduler.step()
        elif (step + 1) % self.budget.window == 0:
            recent = (
                [record["loss"] for record in self.history[-(self.budget.window - 1) :]]
                if self.budget.window > 1
                else []
            )
            self.scheduler.step(sum([*recent, loss]) / (len(recent) + 1))

    def _dump(self) -> dict[str, Any]:
        parts = {
            name: getattr(self, name).state_dict() for name in ("module", "optimizer", "scheduler")
        }
        looks = {"validation": self.validation.state_dict()} if self.validation else {}
        return parts | looks | {"history": self.history, "seconds": self.seconds}

    def _restore(self, saved: dict[str, Any]) -> None:
        for name in ("module", "optimizer", "scheduler"):
            getattr(self, name).load_state_dict(saved[name])
        if self.validation:
            self.validation.load_state_dict(saved["validation"])
        self.history, self.seconds = saved["history"], saved["seconds"]


def _optimizer(parameters: list[nn.Parameter], budget: Budget) -> torch.optim.Optimizer:
    makers = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return makers[budget.optimizer](
        parameters, lr=budget.learning_rate, weight_decay=budget.weight_decay
    )


def _scheduler(optimizer: torch.optim.Optimizer, budget: Budget) -> Any:
    if budget.schedule == "plateau":
        return torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=budget.factor, patience=budget.patience
        )
    if budget.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, budget.steps)
    if budget.schedule == "one_cycle":
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: one_cycle(step / budget.steps)
        )
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def one_cycle(progress: float) -> float:
    """The rate over its peak: up a line in the first 5 percent, then half a cosine to 1 percent."""
    if progress < WARM_UP:
        return progress / WARM_UP
    phase = (progress - WARM_UP) / (1 - WARM_UP)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase))
