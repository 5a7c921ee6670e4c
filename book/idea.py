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
# matches the teacher's ([Gualdrón-Hurtado et al., 2025](references.md); [Gualdrón-Hurtado et al., 2026](references.md)). Here
# $P$ is a matrix (L-DIPA).
#
# Below, a single-pixel camera measures a fifth of the Hadamard coefficients of photographs cut to 32 x 32 pixels; the
# teacher sees seven tenths. Training and test patches come from different photographs.

# %% tags=["hide-input"]
from IPython.display import HTML, Markdown, display

from dipa import experiments, plots, reports

# %% tags=["parameters"]
profile = "small"  # or smoke: seconds of training
seed = 0  # order of the training images
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps

# %% [markdown]
# One line trains the student, in a minute or two on two cores, or reads the finished run where there is one:

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
# prior knowledge (the denoiser, and what $P$ has learned) can fill.

# %% tags=["hide-input"]
head = ("run", "PSNR (dB)", "SSIM", "residual", "error in range", "error in null space")
rows = []
for role in plots.ROLES:
    numbers, audit = run.metrics[role], run.metrics[role]["audit"]
    audited = [f"{audit[name]:.3f}" for name in ("residual", "error_range", "error_null")]
    rows.append((role, f"{numbers['psnr']:.2f}", f"{numbers['ssim']:.3f}", *audited))
display(Markdown(reports.table(head, rows)))
display(
    Markdown(
        f"Means over {run.manifest['counts']['test']} test patches. The student gains **{reports.gain(run):.2f} dB** over the "
        f"baseline. It was trained for {run.manifest['training_seconds']:.0f} s ({run.place}), after the teacher's "
        f"run, on {run.config.data.train_count} patches; the run folder is `{run.path.name}`."
    )
)

# %% tags=["remove-cell", "nbval-check-output"]
means = [run.metrics[role]["psnr"] for role in plots.ROLES]
print(means == sorted(means))

# %% [markdown]
# ## The same on digits
#
# How much $P$ can add depends on how far the measured part of an image predicts the rest. Small pieces of photographs say
# little about their own fine detail, so the gain above is small. Handwritten digits say much more; the papers use those. This
# is a recorded run on MNIST with the papers' denoiser, from [the results](results_single_pixel.ipynb).

# %% tags=["hide-input"]
_found = experiments.find_runs(experiments.results_folder("single_pixel"))
recorded = reports.first_seeds(_found, ["l-dipa-imitation"])
if "l-dipa-imitation" in recorded:
    digits = recorded["l-dipa-imitation"]
    plots.reconstructions(digits.examples, index=3)
    plots.plt.show()
    display(
        Markdown(
            f"Mean over {digits.manifest['counts']['test']} test digits: baseline {digits.metrics['baseline']['psnr']:.2f} dB, "
            f"student {digits.metrics['student']['psnr']:.2f} dB, teacher {digits.metrics['teacher']['psnr']:.2f} dB."
        )
    )

# %% [markdown]
# ## Limits, and things to try
#
# - $H_s$ is an orthogonal projector here, so there is no ill-conditioning to cure: what $P$ learns is a linear guess of the
#   null-space part from the measured part. [The results](results_single_pixel.ipynb) set this closed-form guess beside the
#   trained one.
# - $P$ belongs to its operator, its denoiser and its kind of images. It is not a general inverse.
# - Try `profile = "smoke"`, another `seed`, or train a variant in [the training notebook](train.ipynb).
