"""What every result page of the book shows, for the recorded runs of one task: which presets,
the figures of them, and the cells that are the same on each page.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure

from .. import plots
from ..analysis import as_stepsize
from ..checks import in_a_row, require, require_choice
from ..experiments import describe, names, resolve
from ..experiments.results import find_runs, results_folder
from ..preconditioners import Hessian, Polynomial
from .compare import paper_beside_ours
from .paper import presets_of
from .runs import (
    best_in_words,
    curves,
    long_residuals,
    measured,
    not_recorded,
    reconstructions,
)

PREFIXES = {"single_pixel": "", "mri": "mri-", "super_resolution": "sr-"}
# the one table with rows of every task: without a preconditioner, Hessian, polynomial, then trained
# ones
TABLE = "D2GP Table I"
UNTRAINED = 3
STEPSIZE = 1e-3  # what one number may leave of a preconditioned gradient, relative


class ResultsPage:
    """The recorded runs of one task and the presets that its page shows of them.

    A figure is drawn where there are runs to draw, else None is returned.

    Args:
        task: ``single_pixel``, ``mri`` or ``super_resolution``.
        trained: presets that stand beside the rows of D2GP Table I: the L-DIPA of this task.
        drawn: presets that figures show beside those rows.

    Attributes:
        runs: the recorded runs of the task.
        rows: the presets of D2GP Table I.
        compared: these, ``trained`` and the closed form: what is set beside the papers.
        shown: ``rows``, what no paper has (the table "Fair play", images of the same size), and
            ``trained``.

    Raises:
        InputError: another task, or a preset that is none.
    """

    def __init__(self, task: str, trained: Sequence[str], drawn: Sequence[str] = ()):
        require_choice("task", task, PREFIXES)
        for key, presets in (("trained", trained), ("drawn", drawn)):
            require(in_a_row(presets), key, presets, "a list of presets")
            for name in presets:
                resolve(name)
        self.baseline, self.hessian, self.closed_form = (
            PREFIXES[task] + name for name in ("baseline", "hessian", "ridge")
        )
        self.runs = find_runs(results_folder(task))
        self.rows, self.trained = presets_of(TABLE, task), [*trained]
        self.compared, self.drawn = [*self.rows, *trained, self.closed_form], [*self.rows, *drawn]
        fair = [
            row["name"]
            for row in map(describe, names())
            if (row["task"], row["table"]) == (task, "Fair play")
        ]
        size = resolve(self.baseline).task.size
        self.shown = [
            *self.rows,
            *(name for name in fair if resolve(name).task.size == size),
            *trained,
        ]

    def count(self) -> str:
        """How many runs are recorded, in words."""
        missing = "No run of this task is recorded: the columns of this project stay empty."
        return f"{len(self.runs)} recorded runs" if self.runs else missing

    def stepsizes(self) -> str:
        """By how much Hessian and polynomial multiply every data gradient, from the operator
        itself; a line each.

        Raises:
            InputError: an operator for which they are more than stepsizes.
        """
        config = resolve(self.hessian)
        physics, _ = config.task.pair()
        gradient = physics.A_adjoint_A(
            torch.rand(1, *physics.img_size, generator=torch.Generator().manual_seed(0))
        )
        fixed = {
            "Hessian": Hessian(
                physics, regularization=config.preconditioner.damping * physics.norm_sq
            ),
            "polynomial": Polynomial.l2(physics, degree=config.preconditioner.degree),
        }
        lines = []
        for name, preconditioner in fixed.items():
            factor, left = as_stepsize(preconditioner, gradient)
            require(
                left < STEPSIZE,
                name,
                f"{left:.3g} of it left",
                f"a stepsize: less than {STEPSIZE:g} left by one number",
            )
            lines.append(f"{name}: every gradient times {factor:.3f}")
        return "\n".join(lines)

    def best_in_words(self) -> str:
        """The best trained variant, see :func:`~dipa.reports.runs.best_in_words`."""
        return best_in_words(
            self.runs, [*self.rows[UNTRAINED:], *self.trained], self.closed_form, self.baseline
        )

    def iterations(self) -> Figure | None:
        """PSNR and residual of each iteration, for the presets drawn."""
        return plots.iterations(curves(self.runs, self.drawn), self.drawn) if self.runs else None

    def long_residuals(self) -> Figure | None:
        """The residual of the falsification test, beyond the trained K, for the presets drawn
        that were put to it.
        """
        lines = long_residuals(self.runs, self.drawn)
        return plots.compare(lines, "residual", log=True, order=self.drawn) if lines else None

    def images(self, index: int, without: Sequence[str] = ()) -> Figure | None:
        """Test image ``index`` by each preset drawn, but for those in ``without``."""
        presets = [name for name in self.drawn if name not in without]
        return plots.methods(reconstructions(self.runs, presets, index)) if self.runs else None

    def numbers(self) -> str:
        """PSNR of student and teacher, a run a line."""
        numbers = {
            run.path.name: [run.metrics[role]["psnr"] for role in ("student", "teacher")]
            for run in self.runs
        }
        return "\n".join(
            f"{name} {student:.2f} {teacher:.2f}" for name, (student, teacher) in numbers.items()
        )


# --- cells ----------------------------------------------------------------------------------------


def show(*texts: str) -> None:
    """Show tables or sentences in Markdown below a cell, one after the other."""
    from IPython.display import Markdown, display  # of a notebook; the package does not need it

    for text in texts:
        display(Markdown(text))


def show_table(page: ResultsPage) -> None:
    """The rows of D2GP Table I beside the runs of the page, with the counts of parameters."""
    show(paper_beside_ours(page.runs, page.rows, source=TABLE, extras=("parameters",)))


def show_distilled(page: ResultsPage, presets: Sequence[str]) -> None:
    """L-DIPA and N-DIPA beside their runs: each of ``presets`` with the first source that prints
    it, the PSNR of its teacher and the counts of parameters.
    """
    show(paper_beside_ours(page.runs, presets, extras=("teacher", "parameters")))


def show_measured(page: ResultsPage, also: Sequence[str] = ()) -> None:
    """All that was measured, which presets are not recorded (of those shown and of ``also``),
    and the best trained variant in words.
    """
    missing = not_recorded(page.runs, [*page.shown, *also])
    show(measured(page.runs, page.shown), missing, page.best_in_words())


def show_curves(page: ResultsPage) -> None:
    """Two figures: PSNR and residual of each iteration, then the residual of the falsification
    test.
    """
    page.iterations()
    plots.plt.show()
    page.long_residuals()
    plots.plt.show()


def show_images(page: ResultsPage, index: int, without: Sequence[str] = ()) -> None:
    """Test image ``index`` by each preset drawn, see :meth:`ResultsPage.images`."""
    page.images(index, without)
    plots.plt.show()
