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
# # Every preset
#
# A preset is one cell of a published table, one line of a figure, or a question of this project. It says what is special
# about a run; a *profile* (`smoke`, `small`, `paper`) says how large it is. This page is generated from the same tables that
# the command line reads: `dipa list` prints the presets, `dipa show PRESET --profile PROFILE` everything one resolves to.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from dipa import data, experiments, reports

presets = [experiments.describe(name) for name in experiments.names()]
runs = [run for folder in sorted(experiments.results_folder().iterdir()) for run in experiments.find_runs(folder)]
print(len(presets), "presets,", len(runs), "recorded runs")

# %% [markdown]
# ## By task
#
# *Where* names the table or figure of a paper, or what the preset is for where no paper has it. The loss is in the symbols of
# [Notation](notation.md), $g$ the data fidelity, empty where nothing is trained. *Recorded seeds* are those of the runs
# committed with this book (profile `small`). Seconds are wall-clock seconds of one run on CPU cores, empty where none was
# measured; baselines and teachers come from a cache once a run has made them, so the first run of a task costs more.

# %% tags=["hide-input"]
for task, title in (("single_pixel", "Single-pixel camera"), ("mri", "MRI"), ("super_resolution", "Super-resolution")):
    display(Markdown(f"**{title}**\n\n" + reports.preset_table([row for row in presets if row["task"] == task], runs)))

# %% [markdown]
# ## Profiles
#
# What the three profiles of one preset differ in, for the trained linear preconditioner of each task and for N-DIPA. Settings
# that are equal in all three are left out.

# %% tags=["hide-input"]
for name in ("l-dipa-supervised", "n-dipa", "mri-l-dipa-supervised", "sr-l-dipa-supervised"):
    display(Markdown(f"`{name}`\n\n" + reports.profile_table(name)))

# %% [markdown]
# ## Data sets
#
# `dipa data` says which are here. `DIPA_DATA` names the folder that holds the ones which do not come with a package.

# %% tags=["hide-input"]
_rows = [(f"`{name}`", source.about, source.get) for name, source in data.SOURCES.items()]
display(Markdown(reports.table(("data set", "what it is", "how to get it"), _rows)))

# %% tags=["remove-cell", "nbval-check-output"]
print(sorted({row["method"] for row in presets}))
