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

source = os.environ.get("DIPA_SOURCE", "")  # where the package is when it is not installed: tools/publish.py writes it here
if importlib.util.find_spec("dipa") is None:  # on Colab and the like: install it; an installed torch stays
    source = source or input("Address of the dipa repository, or the path of a copy of it: ")
    get_ipython().run_line_magic("pip", f"install -q {'git+' * ('://' in source)}{source}")  # noqa: F821
from dipa.experiments import notebook

notebook.where()

# %% [markdown]
# # Results: magnetic resonance imaging
#
# Single-coil MRI as both papers set it up: slices of 50 x 50 pixels, complex images kept as two channels (real and imaginary
# part), whole columns of k-space kept or dropped by a mask of one-dimensional Gaussian density ([Gualdrón-Hurtado et al.,
# 2025](references.md); [Gualdrón-Hurtado et al., 2026](references.md)). The student keeps a fifth of the columns (acceleration
# factor AF = 5), the teacher all of them (AF = 1); $K=20$, $\alpha_s=0.4$, $\alpha_t=0.7$. A linear $P$ serves both channels,
# N-DIPA has one network for each, as the papers' parameter counts imply. Every number of ours is read from the recorded run
# folders, every number of the papers from one file with their sources.

# %% tags=["hide-input"]
import torch
from IPython.display import Markdown, display

from dipa import Hessian, Polynomial, analysis, experiments, plots
from dipa.experiments import recorded, tables

runs = experiments.find_runs(experiments.results_folder("mri"))
print(f"{len(runs)} recorded runs" if runs else "No run of this task is recorded: the columns of this project stay empty.")

# %% [markdown]
# ## The images are not the papers'
#
# The papers use knee slices of fastMRI ([Knoll et al., 2020](references.md)), which need a data use agreement. Here:
# T1-weighted brain slices of the collection Brain-Tumor-Progression of The Cancer Imaging Archive ([Schmainda and Prah,
# 2018](references.md); [Clark et al., 2013](references.md)) (nine patients, CC BY 3.0), training and test split by patient.
# Both are magnitude images: the imaginary part of the truth is zero, that of an iterate is not. So **compare gains over the
# baseline before PSNR**: another baseline shifts every row. All settings in which the recorded runs differ from this project's
# reading of the papers (profile `paper`); the others are the same:

# %% tags=["hide-input"]
_rows = tables.presets_of("D2GP Table I", "mri")
_dipa = ["mri-l-dipa-supervised", "mri-l-dipa-imitation-r"]
_fair = [name for name in experiments.names() if name.startswith("mri-") and experiments.describe(name)["table"] == "Fair play"]
display(Markdown(tables.differences(runs, [*_rows, *_dipa, "mri-ridge"])))

# %% [markdown]
# ## Against D2GP Table I
#
# One row per preconditioner of the table. PSNR is the authors' convention, of the mean squared error of a batch over both
# channels. Parameters of the full-linear row are fewer here because each $P_k$ is stored on what a gradient can reach
# ($n\times r$ instead of $n\times n$), which gives the same iterates.
#
# The four rows that learn something for each iteration are trained as their source does, on the data fidelity ([Ehrhardt et
# al., 2024](references.md)). It sees nothing of the null space: a smaller residual need not be a better image.

# %% tags=["hide-input"]
display(Markdown(tables.paper_beside_ours(runs, _rows, source="D2GP Table I", extras=("parameters",))))

# %% [markdown]
# ## L-DIPA and N-DIPA
#
# The cells of DIPA Table 1 for its own two methods are lost in the text available to this project. L-DIPA for this task also
# stands in DIPA Table 2 ($L_S$ without $R$; $L_I$ with $R$), N-DIPA in D2GP Table I; the column says which was used.

# %% tags=["hide-input"]
display(Markdown(tables.paper_beside_ours(runs, [*_dipa, "mri-n-dipa"], extras=("teacher", "parameters"))))

# %% [markdown]
# What the papers argue with are differences between rows. They stand here where one table prints both rows:

# %% tags=["hide-input"]
_pairs = [
    ("mri-n-dipa", "mri-n-dipa-supervised"),
    ("mri-n-dipa", "mri-full-linear"),
    ("mri-l-dipa-supervised", "mri-baseline"),
    ("mri-l-dipa-supervised", "mri-full-linear"),
    ("mri-n-dipa", "mri-l-dipa-supervised"),
    ("mri-full-linear", "mri-scalar"),
    ("mri-hessian", "mri-baseline"),
    ("mri-polynomial", "mri-baseline"),
    ("mri-ridge", "mri-baseline"),
    ("mri-l-dipa-supervised", "mri-ridge"),
]
display(Markdown(tables.margins(runs, _pairs)))

# %% [markdown]
# ## Hessian and polynomial are stepsizes here
#
# With complex images $H^\top H$ is an orthogonal projector. Any function of it multiplies every data gradient by one number,
# so those two rows are the baseline with another $\alpha$. The cell computes the number from the operator itself:

# %%
physics, _ = experiments.resolve("mri-hessian").task.pair()
chosen = experiments.resolve("mri-hessian").preconditioner
gradient = physics.A_adjoint(physics.A(torch.rand(1, *physics.img_size, generator=torch.Generator().manual_seed(0))))
fixed = {
    "Hessian": Hessian(physics, regularization=chosen.damping * physics.norm_sq),
    "polynomial": Polynomial.l2(physics, degree=chosen.degree),
}
for name, preconditioner in fixed.items():
    factor, left = analysis.as_stepsize(preconditioner, gradient)
    assert left < 1e-3
    print(f"{name}: every gradient times {factor:.3f}")

# %% [markdown]
# ## Everything measured
#
# With the rows no paper has, for fair play: the closed form (ridge: $P$ is the linear predictor of the image from its
# measurements, no training), other starts and steps of the baseline. *Modulus* is the PSNR of the magnitude image; where the
# error of the imaginary part is small, the PSNR over both channels is up to 3 dB higher, since that channel is half of the
# numbers. The residual is $\|H\hat x-y\|/\|y\|$; the error inside and outside the range of $H_s^\top$ is relative to the image.
#
# The falsification test reruns the first test images for three times the trained $K$. It fails a preconditioner whose run grows
# or diverges (*stable*), whose image no longer explains the data (*consistent*), or whose null-space error exceeds that of the
# run without it (*no drift*) ([Pith, 2026](references.md)).

# %% tags=["hide-input"]
display(Markdown(tables.measured(runs, [*_rows, *_fair, *_dipa])))
display(Markdown(tables.not_recorded(runs, [*_rows, *_fair, *_dipa])))

# %% tags=["hide-input"]
display(Markdown(tables.reading(runs, [*_rows[3:], *_dipa], "mri-ridge", "mri-baseline")))

# %% [markdown]
# ## Iteration by iteration
#
# Means over all test slices. The residual falls for every variant and says little about PSNR: the columns that were measured
# are explained early, what differs is the guess of the others.

# %% tags=["hide-input"]
_drawn = [*_rows, "mri-ridge", *_dipa]
if runs:
    plots.iterations(recorded.curves(runs, _drawn), _drawn)
    plots.plt.show()

# %% [markdown]
# The residual of the falsification test, beyond the trained $K$:

# %% tags=["hide-input"]
if recorded.long_residuals(runs, _drawn):
    plots.compare(recorded.long_residuals(runs, _drawn), "residual", log=True, order=_drawn)
    plots.plt.show()

# %% [markdown]
# ## One slice
#
# Magnitude images of one test slice on one grey scale, PSNR of the magnitude below.

# %% tags=["hide-input"]
_seen = [name for name in _drawn if name not in ("mri-scalar", "mri-pointwise")]
if runs:
    plots.methods(recorded.reconstructions(runs, _seen, index=1))
    plots.plt.show()

# %% [markdown]
# ## Where the numbers come from

# %% tags=["hide-input"]
display(Markdown(tables.provenance(runs)))

# %% tags=["remove-cell", "nbval-check-output"]
for _run in runs:
    print(_run.path.name, f"{_run.metrics['student']['psnr']:.2f}", f"{_run.metrics['teacher']['psnr']:.2f}")

# %% [markdown]
# ## Limits
#
# - Other images than the papers', fewer of them, and few enough patients that the spread over patients is not known.
# - One seed. It fixes the order of the training images; the mask is the same in every run.
# - Training is short. Rows that start from the identity (all of D2GP's) can lose to rows that start from the closed form for
#   this reason alone; the closed form itself needs no training.
