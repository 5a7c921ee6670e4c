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
# # The denoiser
#
# Everything in this book has to run offline, and deepinv's weights are a download. So the package carries a denoiser of its
# own: deepinv's grey DnCNN architecture (20 layers, 64 features) trained by this project on the BSDS500 training photographs at
# noise level 2/255 ([Zhang et al., 2017](references.md); [Arbelaez et al., 2011](references.md)). This page sets it beside
# deepinv's weights, measured in one run.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from dipa import denoisers, experiments, plots, reports

comparison = reports.cost.read(experiments.results_folder("denoiser"))["comparison"]
record = denoisers.training_record()

# %% [markdown]
# ## As a denoiser, and as a prior
#
# The first column: denoising the twelve photographs of Set12 at the noise level it was trained for. The others: as the prior of
# plug-and-play FISTA on the single-pixel camera with MNIST digits, without a preconditioner, at the student's and the teacher's
# ratio.

# %% tags=["hide-input"]
_names = list(comparison["results"])
_columns = list(comparison["results"][_names[0]])
_rows = [(name, *(f"{comparison['results'][name][column]:.2f}" for column in _columns)) for name in _names]
_rows.append(("difference", *(f"{comparison['difference'][column]:+.2f}" for column in _columns)))
display(Markdown(reports.table(("PSNR (dB)", *_columns), _rows)))
_made = comparison["manifest"]
display(
    Markdown(f"{comparison['what']} Commit {(_made['commit'] or '')[:10]}, {_made['threads']} threads, {_made['seconds']:.0f} s.")
)

# %% [markdown]
# ## How it was trained
#
# The record below is stored in the header of the weight file. `python scripts/train_denoiser.py` repeats it.

# %% tags=["hide-input"]
_recipe = record["recipe"] | {key: record[key] for key in ("photographs", "threads", "seconds")} | record["versions"]
display(Markdown(reports.table(("setting", "value"), [(f"`{key}`", str(value)) for key, value in _recipe.items()])))
plots.denoiser_training(record["training_psnr"])
plots.plt.show()

# %% tags=["remove-cell", "nbval-check-output"]
print({name: round(value, 2) for name, value in comparison["difference"].items()})
print(denoisers.fingerprint(denoisers.load())[:16] == comparison["sha256"]["dncnn-bsds500"][:16])

# %% [markdown]
# ## Limits
#
# - One noise level, grey images, natural photographs. It is a stand-in that works offline; the recorded runs of this book use
#   the papers' denoiser.
# - Denoising PSNR says little about use as a prior. In a trial that is not recorded, a network trained without
#   contrast-stretched patches (`stretched` above) was as good on Set12 and clearly worse on digits: it had never seen a
#   saturated background.
