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
# # The idea in one page
#
# A camera measures $y = Hx$: far fewer numbers than the image $x$ has pixels. Plug-and-play FISTA reconstructs $x$ by
# repeating two steps, a gradient step on the data fidelity $g(z)=\tfrac12\|Hz-y\|^2$ and a denoiser $D$:
#
# $$x^{k} = D\big(z^{k} - \alpha\,\nabla g(z^{k})\big), \qquad \nabla g(z) = H^\top(Hz-y), \qquad
# z^{k+1} = x^k + \beta_k\,(x^k - x^{k-1}).$$
#
# The gradient can only move $z$ inside the range of $H^\top$. What $H$ does not see is left to the denoiser, and with few
# measurements that is not enough. **DIPA** replaces the gradient by $P\,\nabla g$ and *learns* the preconditioner $P$ from a
# **teacher**: the same algorithm, run on the same training images through a better operator $H_t$ that exists in simulation
# only. The **student** keeps the real operator $H_s$; $P$ is trained, through all iterations, so that the student's result
# matches the teacher's ([Gualdrón-Hurtado et al., 2025](references.md); [Gualdrón-Hurtado et al., 2026](references.md)). $P$ is a
# matrix (L-DIPA) or a network that sees the iteration (N-DIPA).

# %% tags=["hide-input"]
from IPython.display import HTML, Markdown, display

from dipa import experiments, plots, reports
from dipa.experiments.own_images import untrained

# %% [markdown]
# ## What the book found
#
# Recorded runs on the three tasks of the papers. One test image of each, the one with the median gain of those that are kept: the
# *papers' baseline* is the algorithm above without $P$; the best *without learning* changes its start, its step or takes a
# preconditioner made of $H$ alone; the *closed form* is a matrix $P$ fitted to clean images in one pass; behind it stands a *network*
# that is told the iteration; the *teacher* measures what the student does not. PSNR is $-10\log_{10}$ of the mean squared error of
# images in [0, 1], in dB: 3 dB are half of the error.

# %% tags=["hide-input"]
_runs = {task: experiments.find_runs(experiments.results_folder(task)) for task in reports.STORIES}
_benchmarks = reports.cost.read(experiments.results_folder("benchmarks"))
plots.beside_the_truth(reports.examples(_runs))
plots.plt.show()
display(Markdown(reports.at_a_glance(_runs)))
display(Markdown("\n".join(f"- {sentence}" for sentence in reports.findings(_runs, _benchmarks))))

# %% [markdown]
# Means over all test images; D2GP's table, and the column before it, are from the mean squared error of a batch. How each run was
# made, and what does not come out as printed, is on the pages of [results](results_single_pixel.ipynb).
#
# ## Watch it work
#
# Now live, with what the package brings: a single-pixel camera measures a fifth of the Hadamard coefficients (patterns of $\pm1$) of
# photographs cut to 32 x 32 pixels; the teacher sees seven tenths. $P$ is a matrix. Training and test patches come from different photographs. Small
# pieces of photographs say little about their own fine detail, so what can be learned here is small.

# %% tags=["parameters"]
profile = "small"  # or smoke: seconds of training
seed = 0  # order of the training images
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps

# %% [markdown]
# One line trains the student, in a few minutes on two cores, or reads the finished run where there is one:

# %% tags=["remove-stderr"]
config = experiments.resolve("idea", profile, seed=seed)
run = experiments.run(config, device=device)

# %% [markdown]
# ## What it does to an image
#
# Top: a test patch and three reconstructions on one grey scale. Bottom: their absolute errors on one colour scale. The
# baseline is the student's algorithm without $P$.

# %% tags=["hide-input"]
plots.reconstructions(run.examples, index=0)
plots.plt.show()

# %% [markdown]
# ## Iteration by iteration
#
# The mean PSNR over all test patches after each iteration. All three runs use the same denoiser and the same number of
# iterations; the student and the baseline use the same measurements.

# %% tags=["hide-input"]
plots.curves(run.metrics)
plots.plt.show()

# %% [markdown]
# The same as a film, for one patch. It needs no running kernel.

# %% tags=["hide-input"]
HTML(plots.player(run.examples))

# %% [markdown]
# ## What was measured
#
# The numbers of this run. *Residual* says how well the reconstruction explains the measurements. The error is split into the
# part inside the range of $H^\top$, which the measurements determine, and the part in the null space of $H$, which only
# prior knowledge (the denoiser, and what $P$ has learned) can fill. Two lines take no training: steps of $1/L$, $L=\|H\|^2$, which
# is what a library does by default, and the closed form at which the training of $P$ begins.

# %% tags=["hide-input"]
head = ("run", "PSNR (dB)", "SSIM", "residual", "error in range", "error in null space")
rows = []
for role in plots.ROLES:
    numbers, audit = run.metrics[role], run.metrics[role]["audit"]
    audited = [f"{audit[name]:.3f}" for name in ("residual", "error_range", "error_null")]
    rows.append((role, f"{numbers['psnr']:.2f}", f"{numbers['ssim']:.3f}", *audited))
free = untrained(run)
rows[1:1] = [(name, f"{psnr:.2f}", "", "", "", "") for name, psnr in free.items()]
display(Markdown(reports.table(head, rows)))
display(
    Markdown(
        f"Means over {run.manifest['counts']['test']} test patches. The student gains **{reports.gain(run):.2f} dB** over the "
        f"baseline, and {run.metrics['student']['psnr'] - max(free.values()):+.2f} dB over the best that takes no training. It was trained for {run.manifest['training_seconds']:.0f} s ({run.place}), after the teacher's "
        f"run, on {run.config.data.train_count} patches; the run folder is `{run.path.name}`."
    )
)

# %% tags=["remove-cell", "nbval-check-output"]
means = [run.metrics[role]["psnr"] for role in plots.ROLES]
print(means == sorted(means))

# %% [markdown]
# ## Limits, and things to try
#
# - $H_s$ is an orthogonal projector here, so there is no ill-conditioning to cure: what $P$ learns is a linear guess of the
#   null-space part from the measured part. Its training starts at the best such guess in closed form, and a matrix has little left to
#   learn from there; what a network behind it adds is in the table above.
# - $P$ belongs to its operator, its denoiser and its kind of images. It is not a general inverse.
# - Try `profile = "smoke"`, another `seed`, or train a variant in [the training notebook](train.ipynb).
