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
# # Results: magnetic resonance imaging
#
# Single-coil MRI as both papers set it up: slices of 50 x 50 pixels, complex images kept as two channels (real and imaginary
# part), whole columns of k-space kept or dropped by a mask of one-dimensional Gaussian density ([Gualdrón-Hurtado et al.,
# 2025](references.md); [Gualdrón-Hurtado et al., 2026](references.md)). The student keeps a fifth of the columns (acceleration
# factor AF = 5), the teacher all of them (AF = 1); $K=20$, $\alpha_s=0.4$, $\alpha_t=0.7$. A linear $P$ serves both channels,
# N-DIPA has one network for each, as the papers' parameter counts imply. Every number of ours is read from the recorded run
# folders, every number of the papers from one file with their sources.

# %% tags=["hide-input"]
from dipa import reports

_dipa = ["mri-l-dipa-supervised", "mri-l-dipa-imitation-r"]
page = reports.ResultsPage("mri", trained=_dipa, drawn=["mri-ridge", "mri-ridge-varied", "mri-n-dipa-composed", *_dipa])
print(page.count())

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
reports.show(reports.differences(page.runs, page.compared))

# %% [markdown]
# ## Against D2GP Table I
#
# One row per preconditioner of the table, counted and trained as on [the single-pixel page](results_single_pixel.ipynb). PSNR is
# the authors' convention, of the mean squared error of a batch over both channels.

# %% tags=["hide-input"]
reports.show_table(page)

# %% [markdown]
# ## L-DIPA and N-DIPA
#
# The cells of DIPA Table 1 for its own two methods are lost in the text available to this project. L-DIPA for this task also
# stands in DIPA Table 2 ($L_S$ without $R$; $L_I$ with $R$), N-DIPA in D2GP Table I; the column says which was used.

# %% tags=["hide-input"]
reports.show_distilled(page, [*_dipa, "mri-n-dipa"])

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
    ("mri-n-dipa-composed", "mri-baseline"),
    ("mri-n-dipa-composed", "mri-ridge-varied"),
    ("mri-l-dipa-supervised", "mri-ridge"),
]
reports.show(reports.margins(page.runs, _pairs))

# %% [markdown]
# ## Hessian and polynomial are stepsizes here
#
# With complex images $H^\top H$ is an orthogonal projector. Any function of it multiplies every data gradient by one number,
# so those two rows are the baseline with another $\alpha$. The number, computed from the operator itself:

# %%
print(page.stepsizes())

# %% [markdown]
# ## Everything measured
#
# With the rows no paper has, for fair play: the closed form (ridge: $P$ is the linear predictor of the image from its
# measurements, no training), other starts and steps of the baseline. *Modulus* is the PSNR of the magnitude image; where the
# error of the imaginary part is small, the PSNR over both channels is up to 3 dB higher, since that channel is half of the
# numbers. The residual is $\|H\hat x-y\|/\|y\|$; the error inside and outside the range of $H_s^\top$ is relative to the image.
#
# The falsification test, over three times the trained $K$, is the one of [the single-pixel page](results_single_pixel.ipynb).

# %% tags=["hide-input"]
reports.show_measured(page)

# %% [markdown]
# ## Iteration by iteration
#
# Means over all test slices. The residual falls for every variant and says little about PSNR: the columns that were measured
# are explained early, what differs is the guess of the others. Below them the residual of the falsification test, beyond the
# trained $K$.

# %% tags=["hide-input"]
reports.show_curves(page)

# %% [markdown]
# ## One slice
#
# Magnitude images of one test slice on one grey scale, PSNR of the magnitude below.

# %% tags=["hide-input"]
reports.show_images(page, 1, without=("mri-scalar", "mri-pointwise"))

# %% [markdown]
# ## Where the numbers come from

# %% tags=["hide-input"]
reports.show(reports.provenance(page.runs))

# %% tags=["remove-cell", "nbval-check-output"]
print(page.numbers())

# %% [markdown]
# ## Limits
#
# - Other images than the papers', fewer of them, and few enough patients that the spread over patients is not known.
# - One seed. It fixes the order of the training images; the mask is the same in every run.
# - Training is short. Rows that start from the identity (all of D2GP's) can lose to rows that start from the closed form for
#   this reason alone; the closed form itself needs no training.
