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
# # Results: single-pixel camera
#
# Digits of 32 x 32 pixels (MNIST ([Deng, 2012](references.md)), the official files, bilinear resize), a student that measures a
# fifth of the Hadamard coefficients, a teacher that measures seven tenths, $K=20$ iterations, $\alpha_s=0.4$, $\alpha_t=0.7$,
# the denoiser of the papers (deepinv's DnCNN) ([Gualdrón-Hurtado et al., 2025](references.md); [Gualdrón-Hurtado et al.,
# 2026](references.md)). Every number of ours is read from the recorded run folders; none is typed in. The papers'
# numbers come from one file with their sources.

# %% tags=["hide-input"]
from dipa import experiments, plots, reports

_ours = ["l-dipa-supervised-r", "l-dipa-imitation", "l-dipa-distilled", "l-dipa-distilled-r"]
_losses = ["l-dipa-supervised", "l-dipa-supervised-r", "l-dipa-imitation", "l-dipa-imitation-r", *_ours[2:]]
page = reports.ResultsPage("single_pixel", trained=_losses, drawn=["ridge", "l-dipa-supervised"])
print(page.count())

# %% [markdown]
# ## What differs from the papers
#
# All settings in which the recorded runs differ from this project's reading of the papers (profile `paper`); the others are
# the same.

# %% tags=["hide-input"]
reports.show(reports.differences(page.runs, page.compared))

# %% [markdown]
# ## Against D2GP Table I
#
# One row per preconditioner of the table. Cells the papers do not print, or that were not run here, are empty. Both PSNR and its
# gain over the unpreconditioned baseline are compared, since the papers' baseline is itself lower than ours: they do not say
# how digits are resized nor in which order Hadamard rows are taken. PSNR is the authors' convention (of the mean squared error
# of a batch). Parameters of the full-linear row are fewer here because each $P_k$ is stored on what a gradient can reach
# ($n\times r$ instead of $n\times n$), which gives the same iterates.
#
# The four rows that learn something for each iteration are trained as their source does, on the data fidelity ([Ehrhardt et
# al., 2024](references.md)). It sees nothing of the null space: a smaller residual need not be a better image.

# %% tags=["hide-input"]
reports.show_table(page)

# %% [markdown]
# Hessian and polynomial are stepsizes here: $H^\top H$ is an orthogonal projector, and any function of it multiplies every data
# gradient by one number, computed here from the operator; those two rows are the baseline with another $\alpha$.

# %%
print(page.stepsizes())

# %% [markdown]
# ## L-DIPA and N-DIPA
#
# The cells of DIPA Table 1 for its own two methods are lost in the text available to this project. L-DIPA stands in DIPA Table 2,
# with $L_S$ (no $R$) and with $L_I$ and $R$, for three teachers (ratios 0.5, 0.7, 0.9); the heads of two of its columns are lost,
# so which is which is a reading. Rows of other losses are this project's. N-DIPA stands in D2GP Table I.

# %% tags=["hide-input"]
_table2 = reports.presets_of("DIPA Table 2", "single_pixel")
reports.show_distilled(page, [*_table2[1:], *_ours, "n-dipa"])

# %% [markdown]
# What the papers argue with are differences between rows. They stand here where one table prints both rows. A margin of a few
# hundredths of a dB is less than the spread over seeds:

# %% tags=["hide-input"]
_pairs = [
    ("n-dipa", "n-dipa-supervised"),
    ("n-dipa", "full-linear"),
    ("l-dipa-supervised", "baseline"),
    ("l-dipa-supervised", "l-dipa-imitation-r"),
    ("l-dipa-supervised", "full-linear"),
    ("n-dipa", "l-dipa-supervised"),
    ("full-linear", "scalar"),
    ("hessian", "baseline"),
    ("ridge", "baseline"),
    ("l-dipa-supervised", "ridge"),
]
reports.show(reports.margins(page.runs, _pairs))

# %% [markdown]
# ## Everything measured
#
# Two PSNR conventions, SSIM, and the audit: the residual $\|H\hat x-y\|/\|y\|$, and the error inside and outside
# the range of $H_s^\top$ relative to the image. Plus-minus is the standard deviation over seeds, with their number. The ridge
# rows are not trained: $P$ is the closed-form linear predictor of the image from its measurements. One keeps its whole guess of
# the null-space part, the other a share of it (`null_weight`, chosen on training digits), since the full guess overshoots on
# hard digits when it is repeated with momentum. The latter is where every L-DIPA row starts. `n-dipa-composed` is a network
# behind the former, trained one iteration at a time ([a page of its own](behind.ipynb)).
#
# The falsification test reruns the first test images for three times the trained $K$. It fails a preconditioner whose run grows
# or diverges (*stable*), whose image no longer explains the data (*consistent*), or whose null-space error exceeds that of the
# run without it (*no drift*) ([Pith, 2026](references.md)). Runs recorded before the test existed have no entry.

# %% tags=["hide-input"]
reports.show_measured(page, also=[*_table2, "n-dipa-composed"])

# %% [markdown]
# ## Iteration by iteration
#
# Means over all test digits, for the rows of D2GP Table I, the closed form and L-DIPA. Below them the residual of the falsification
# test, beyond the trained $K$, for the runs that have it.

# %% tags=["hide-input"]
reports.show_curves(page)

# %% [markdown]
# ## Which loss
#
# The student's mean PSNR after each iteration, for the baseline, the closed form and each loss of L-DIPA. Lines that cannot be
# told apart belong to losses that end in the same place.

# %% tags=["hide-input"]
_order = ["baseline", "ridge-full", "ridge", *_losses]
if page.runs:
    plots.compare({name: run.metrics["student"]["curve"]["psnr"] for name, run in reports.first_seeds(page.runs, _order).items()})
    plots.plt.show()

# %% [markdown]
# ## Digits
#
# One test digit by each method, then the first test digits for the best variant of L-DIPA, on one grey scale.

# %% tags=["hide-input"]
reports.show_images(page, 3, without=["pointwise"])

# %% tags=["hide-input"]
_shown = reports.best_run(page.runs, _losses)
if _shown:
    plots.gallery(_shown.examples)
    plots.plt.show()

# %% [markdown]
# ## Which ordering
#
# "The first Hadamard rows" depends on how rows are ordered, and the papers do not say. The baseline of each ordering, same
# images and solver. `sequency` is today's meaning in deepinv; `sequency_permutation` and `sequency_rows` are what the word
# meant in earlier releases.

# %% tags=["hide-input"]
_rows, _by_preset = [], reports.by_preset(page.runs)
for name in [name for name in experiments.names() if name.startswith("baseline") and name != "baseline-adjoint"]:
    for run in _by_preset.get(name, []):
        _numbers = run.metrics["baseline"], run.metrics["teacher"]
        _rows.append((run.config.task.ordering, *(f"{n[key]:.2f}" for n in _numbers for key in ("psnr", "psnr_batch_mse"))))
_head = ("ordering", "baseline PSNR", "baseline (batch MSE)", "teacher PSNR", "teacher (batch MSE)")
reports.show(reports.table(_head, _rows))

# %% [markdown]
# ## What makes a training step cheap
#
# Two kernels against the straightforward ones, timed side by side in one run of `benchmarks/kernels.py`: the Hadamard transform
# as two matrix products against deepinv's butterflies, and the denoiser's forward and backward pass in bfloat16 against
# float32.

# %% tags=["hide-input"]
_bench = reports.cost.read(experiments.results_folder("benchmarks"))["kernels"]
_labels = {
    "transform_32": "$H^\\top H$, 32 x 32",
    "transform_128": "$H^\\top H$, 128 x 128",
    "bf16_32": "denoiser forward + backward, 32 x 32",
}
_rows = [(label, f"{_bench[key]['ratio']:.1f}") for key, label in _labels.items()]
reports.show(reports.table(("kernel", "times faster"), _rows), reports.cost.measured_on(_bench))

# %% [markdown]
# ## Where the numbers come from
#
# One line per run folder; the last part of its name is the hash of its configuration, by which the first tables name it. The
# two cores were shared with other work during some runs, so seconds are upper bounds.

# %% tags=["hide-input"]
reports.show(reports.provenance(page.runs))

# %% tags=["remove-cell", "nbval-check-output"]
print(page.numbers())

# %% [markdown]
# ## Limits
#
# - One size, one task, a short budget: the papers train for many more image-steps at a much smaller learning rate.
# - The L-DIPA rows start from the closed form, the papers' from the identity. Rows that start from the identity (all of D2GP's)
#   can lose to these for that reason alone.
# - Seeds change the order of the training images only: the operators, the test images and the denoiser are the same. Most rows
#   have one seed.
