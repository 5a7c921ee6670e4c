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
# # Train one variant
#
# This notebook runs one variant and is its report. [papermill](https://papermill.readthedocs.io) runs it in batch:
#
# ```bash
# papermill book/train.ipynb report.ipynb \
#   -p method l-dipa -p loss supervised -p profile small -p seed 1
# papermill book/train.ipynb report.ipynb -p preset mri-n-dipa -p profile small
# ```
#
# `preset` is any name that `dipa list` prints: each row and figure of the papers, on the three tasks. Without it, `method`,
# `loss` and `regulariser` choose a variant of the single-pixel camera.
#
# The method: the preconditioner $P$ of plug-and-play FISTA is trained on
#
# $$\lambda_S\|\hat x_s - x\|^2 + \lambda_I\|\hat x_s-\hat x_t\|^2 +
# \lambda_G\big|1-S_c(P\nabla g_s(\hat x_s),\nabla g_t(\hat x_t))\big|^2 + \lambda_R\,R(P)$$
#
# with the gradient flowing through all $K$ iterations ([Gualdrón-Hurtado et al., 2025](references.md); [Gualdrón-Hurtado et
# al., 2026](references.md)); [Notation](notation.md) lists the symbols.

# %%
from IPython.display import Markdown, display

from dipa import experiments, plots, reports

_known = set(globals())

# %% [markdown]
# ## Parameters
#
# papermill's values are injected after the next cell. A misspelt name stops the notebook with the list of valid ones.

# %% tags=["parameters"]
preset = ""  # a name from `dipa list`; empty: the next three choose
method = "l-dipa"  # baseline, ridge (closed form) or l-dipa (trained)
loss = "imitation+gradient"  # or supervised, imitation (l-dipa)
regulariser = False  # add the convergence regulariser R (l-dipa)
profile = ""  # smoke (seconds, offline), small (minutes) or paper; empty: small where there is a GPU, else smoke
seed = 0  # order of the training images, measurement noise
settings = ""  # overrides, such as "training.steps=10"
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
out = ""  # folder of run folders; empty: DIPA_RUNS, else runs

# %%
_parameters = experiments.notebook.parameters(globals(), _known)

# %% [markdown]
# ## The run
#
# Teacher once, then the training steps, then the test images. A finished run is read, an interrupted one continues.

# %% tags=["remove-stderr"]
run = experiments.notebook.train(**_parameters)

# %% tags=["hide-input"]
_roles = [(role, f"{run.metrics[role]['psnr']:.2f}", f"{run.metrics[role]['psnr_batch_mse']:.2f}") for role in plots.ROLES]
display(Markdown(reports.table(("run", "PSNR (dB)", "PSNR of the batch MSE (dB)"), _roles)))
display(
    Markdown(
        f"Preset `{run.config.preset}`, profile `{run.config.profile}`, seed {run.config.seed}: the student gains "
        f"**{reports.gain(run):.2f} dB** over the baseline on {run.manifest['counts']['test']} test images, after "
        f"{run.config.training.steps if run.history else 0} training steps of {run.config.training.batch_size} images "
        f"({run.manifest['training_seconds']:.0f} s on {run.place})."
    )
)

# %% [markdown]
# In profile `smoke` these numbers only show that everything runs: the training is far too short to mean more.

# %% tags=["remove-cell", "nbval-check-output"]
print(run.config.preset, run.config.seed)
print(sorted(path.name for path in run.path.iterdir()))
print(all(run.metrics[role]["status"] == "completed" for role in plots.ROLES))

# %% [markdown]
# ## Would the review refute it?
#
# The falsification test of a preconditioner, over three times the trained number of iterations: does the run stay stable,
# does its image still explain the measurements, does its null-space error stay below the baseline's?

# %% tags=["hide-input"]
_found = run.metrics["student"].get("falsification", {"checks": {}})
print("\n".join(f"{name}: {'yes' if held else 'no'}" for name, held in _found["checks"].items()))

# %% [markdown]
# ## Training
#
# Loss and PSNR of each training batch. Batches differ, so the curves are rough.

# %% tags=["hide-input"]
if run.history:
    plots.training(run.history)
    plots.plt.show()

# %% [markdown]
# ## Test images
#
# The first test images: truth, baseline, student, teacher, with the PSNR of each.

# %% tags=["hide-input"]
plots.gallery(run.examples)
plots.plt.show()

# %% tags=["hide-input"]
plots.curves(run.metrics)
plots.plt.show()

# %% [markdown]
# ## The preconditioner
#
# For a linear preconditioner, a corner of the learned $P$ as a matrix on pixels. The unpreconditioned algorithm has the
# identity here; the low-rank form shows the identity projected on what $H_s$ can see.

# %% tags=["hide-input"]
if run.config.method in ("ridge", "l-dipa"):
    plots.matrix(run.preconditioner().dense(), "P, upper left corner")
    plots.plt.show()

# %% [markdown]
# ## The configuration
#
# Everything that decides the numbers above, as stored in the run folder.

# %% tags=["hide-input"]
display(Markdown(f"```yaml\n# {run.path.name}\n{(run.path / 'config.yaml').read_text()}```"))
