# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% tags=["remove-cell"]
import importlib.util
import os

source = os.environ.get("DIPA_SOURCE", "")  # where the package is when it is not installed: scripts/publish.py writes it here
if importlib.util.find_spec("dipa") is None:  # on Colab and the like: install it; an installed torch stays
    source = source or input("Address of the dipa repository, or the path of a copy of it: ")
    get_ipython().run_line_magic("pip", f"install -q {'git+' * ('://' in source)}{source}")  # noqa: F821
from dipa.experiments import notebook

notebook.where()

# %% [markdown]
# # A network behind the closed form
#
# The papers' [N-DIPA](n_dipa.ipynb) starts at the plain solver, and each step of its training runs a whole solve, forward and
# backward. Neither has to be. With $R$ the [closed form](l_dipa.ipynb), which costs no training, and $\mathcal{N}$ a network that
# starts as the identity,
#
# $$P(g) = \mathcal{N}\big(R\,g,\ \phi(k)\big)$$
#
# starts at the quality of $R$, and the network sees a whole image from the first step on, not a data gradient
# (`ComposedPreconditioner`). It divides by the size of its input and multiplies by it again (`scaling="image"`), so that
# $P(tg)=tP(g)$ for $t>0$ and $P(0)=0$: where the data are explained nothing moves any more. And it is trained in phases
# (`dipa.training.Phase`):
#
# 1. the first iteration alone, compared with the clean image *before* the denoiser: one call of the network, no solve;
# 2. every iteration alone, on the iterates of the run itself, again before the denoiser: no gradient passes from one iteration
#    to the one before.
#
# No gradient ever goes through a denoiser, and none through more than one iteration. The solver has no momentum here.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from dipa import experiments, plots, reports
from dipa.reports import goals

_there = reports.by_preset(experiments.find_runs(experiments.results_folder(), deep=True))
_camera = experiments.find_runs(experiments.results_folder("single_pixel"))
recorded, _outputs = reports.by_preset(_camera), reports.cost.read(experiments.results_folder("benchmarks"))


def _shown(presets):
    """Table and curves of the recorded runs of these presets."""
    display(Markdown(reports.phases_table([run for name in presets for run in _there.get(name, [])])))
    curves = reports.curves(_camera, [name for name in presets if name in recorded])
    if curves:
        plots.compare({name: curve["psnr"] for name, curve in curves.items()}, "PSNR, test images (dB)")
        plots.plt.show()


# %% tags=["hide-input"]
_shown(["baseline", "ridge-full", "n-dipa-supervised", "n-dipa", "n-dipa-pretrained", "n-dipa-composed"])

# %% [markdown]
# The columns count images that a training step looked at: in the first phase through one iteration, in the second and in the
# papers' training through all K of them. An image through one iteration costs one call of the network forward and backward; one
# through the whole solve, exactly, K calls of network and denoiser, forward and backward. The conventions of PSNR are those of
# [the results](results_single_pixel.ipynb). `n-dipa` and `n-dipa-composed` differ in the network, the images, the momentum and
# the losses too (the latter uses no teacher), so the table shows what the recipe reaches, not what each part of it adds, but for the
# second phase: `n-dipa-pretrained` is the first one alone, and does without it. Both curves are highest early and fall slowly.
#
# ## A prior whose share decays
#
# Why they fall: once the data are explained $P(0)=0$, and what is left of an iteration is the denoiser, applied again and again. It
# smooths what $P$ has put where $H$ sees nothing, and no gradient brings that back. A prior that withdraws does not
# (`FISTA(prior_decay=tau)`): with $v^k=z^k-\alpha P(\nabla g(z^k),\phi(k))$,
#
# $$x^{k} = v^{k} + k^{-\tau}\,\big(D(v^{k})-v^{k}\big).$$
#
# At $\tau=0$ this is the papers' solver. For $\tau\le 1$ the shares sum to infinity, so that the prior still chooses among the images
# that explain the data (for convex functions this is the descent method of [Solodov (2007)](references.md)), but it has to leave alone
# what it cannot improve early on. The second phase is not needed then: `n-dipa-decayed` is trained on its first iteration alone.
#
# ```python
# network = dipa.NeuralPreconditioner("unet", img_size=(1, 32, 32), features=21, blocks=3)
# P = dipa.ComposedPreconditioner(closed_form.requires_grad_(False), network)
# solver = dipa.FISTA(prior, momentum="none", start="zero", prior_decay=1.0)
# budget = dipa.Budget(steps=8000, batch_size=32, learning_rate=1e-3, schedule="one_cycle")
# phase = dipa.Phase(budget, iterations=1, before_prior=True)
# fit = dipa.distill(solver, P, student, None, images, phases=[phase])
# ```

# %% tags=["hide-input"]
_behind = ["n-dipa-pretrained", "n-dipa-composed", "n-dipa-decayed-narrow", "n-dipa-decayed"]
_shown(["baseline", "baseline-decayed", "ridge-full", "ridge-decayed", *_behind])

# %% [markdown]
# It is no remedy for everything: the plain solver and the closed form live on what the denoiser does in late iterations, and lose by
# it. The better $P$, the less there is left for the prior.
#
# ## Few images
#
# The same recipe on the other two tasks, where images are few: every step varies the images that it draws, and the closed form in
# front is made of varied copies ([few images](l_dipa.ipynb)):

# %% tags=["hide-input"]
_names = ["mri-baseline", "mri-ridge", "mri-ridge-varied", "mri-n-dipa-supervised", "mri-n-dipa-composed"]
_names += ["sr-baseline", "sr-baseline-interpolated", "sr-ridge", "sr-ridge-varied"]
_shown([*_names, "sr-n-dipa-supervised", "sr-n-dipa-composed"])

# %% [markdown]
# So most of the gain needs no training at all, and the rest no solve. In dB of mean PSNR, one column on top of the other:

# %% tags=["hide-input"]
_parts = {
    "single-pixel camera": ("baseline", "ridge-full", "n-dipa-decayed"),
    "MRI": ("mri-baseline", "mri-ridge-varied", "mri-n-dipa-composed"),
    "super-resolution": ("sr-baseline", "sr-ridge-varied", "sr-n-dipa-composed"),
}
_rows = []
for task, names in _parts.items():
    plain, closed, learned = (_there[name][0].metrics["student"]["psnr"] for name in names)
    _rows.append((task, f"{plain:.2f}", f"{closed - plain:+.2f}", f"{learned - closed:+.2f}", f"{learned:.2f}"))
display(Markdown(reports.table(("task", "plain solver", "closed form", "network behind it", "together"), _rows)))

# %% [markdown]
# Of MRI the imaginary part of the truth is zero in these images, and a $P$ on both channels learns it: PSNR over both channels
# gains by that alone. The modulus, on [the page of results](results_mri.ipynb), is the number to compare.
#
# ## What a preconditioner does not know
#
# Closed form and network guess what the mask does not see from the images they were made of. On images of another kind that
# guess is wrong, and the measurements tell: their spectrum is another, and the first step leaves more of the gradient than it
# did in training. A learned preconditioner keeps these numbers (`dipa.preconditioners.trust`), and the solver leaves it out for
# images it does not know, one by one. Here the recorded `n-dipa-decayed`, which was trained on digits, meets others
# (`benchmarks/other_images.py`), with the plain solver of the same stepsize, Nesterov's momentum and the whole prior beside it:

# %% tags=["hide-input"]
_others = _outputs["other_images"]
display(Markdown(reports.images_table(_others)))
_long = ", ".join(f"{value:.2f} dB at k = {k}" for k, value in _others["long"].items())
display(
    Markdown(
        f"Strokes on black keep their gain, turned, thicker or thinner; negatives, photographs and faces are left to the plain "
        f"solver. With the decaying prior it stays where it is far beyond the trained K; on the digits: {_long}. "
        f"Run `{_others['settings']['run']}`. "
        f"{reports.cost.measured_on(_others)}"
    )
)

# %% [markdown]
# ## Aimed at and reached
#
# What this project set itself to reach with trainings that fit two cores, and what is recorded, a mean over seeds where there are
# several. The first aim is what D2GP Table I prints for N-DIPA:

# %% tags=["hide-input"]
_reached = goals.trained([run for runs in _there.values() for run in runs], _outputs)
display(Markdown(goals.targets_table({"trained": _reached}, goals.QUALITY)))
_steps = _outputs["quality_n_dipa"]["settings"]["reference_steps"]
display(
    Markdown(
        f"Read *times sooner* with care: the straightforward loop had {_steps} steps, and the closed form is past what it gained then "
        "before any training, in about the second that its seconds are rounded to."
    )
)
