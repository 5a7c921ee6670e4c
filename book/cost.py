# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,-all
#     formats: ipynb,py:percent
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
# # What training costs
#
# The papers name the cost of training as their main limitation: one step runs the solver for K iterations and then goes back
# through all of them. This page says what a step costs here, what it costs the straightforward way, and what is given up for
# speed. The straightforward way is deepinv alone: its FISTA unrolled under automatic differentiation, in float32, the teacher
# run again for every batch, P started as the identity with a learning rate of $10^{-5}$ (the authors' script). Both compute the
# same loss, to rounding; a test compares them.
#
# Every number below is read from the output of a script in `benchmarks/`, which times the two ways in turns within one run. The
# ratios are what to look at: seconds are those of one machine. The first table holds what this project aimed at, and says where it
# falls short.

# %% tags=["hide-input"]
from IPython.display import Markdown, display

from dipa import experiments, plots, reports
from dipa.reports import cost, goals

measured = cost.read(experiments.results_folder("benchmarks"))
runs = experiments.find_runs(experiments.results_folder("single_pixel"))
measured["growth"] = cost.growth(measured["memory"])
measured["recorded"] = cost.psnr_lost(runs, "l-dipa-supervised", "l-dipa-straight-through")
display(Markdown(goals.targets_table(measured, goals.SPEED)))

# %% [markdown]
# ## One training step
#
# L-DIPA on the single-pixel camera, 32 x 32, batch 16, K = 20. Three things make the step cheap. The teacher runs once per image,
# because its result does not depend on P. The denoiser runs in bfloat16. And the denoiser's backward pass can be left out
# (`straight_through`, below). The *floor* is what no exact step can avoid: K passes of the denoiser, forward and backward to its
# input.

# %% tags=["hide-input"]
WORK = {
    "reference": "straightforward step (deepinv, float32)",
    "exact": "this package, exact gradient",
    "fast": "this package, the faster way",
    "floor": "K denoiser passes, forward and backward (bf16)",
    "solve": "a solve without gradient (bf16)",
    "calls": "K denoiser calls (bf16)",
}
step = measured["training_l_dipa"]
display(Markdown(cost.seconds_table(step, WORK)))
display(Markdown(cost.measured_on(step)))

# %% tags=["hide-input"]
display(
    Markdown(
        f"The faster way is `{step['settings']['way']}`. After {step['settings']['train_steps']} training steps from the same start, "
        f"on the same batches, its test PSNR is {step['psnr_difference']:+.3f} dB from that of "
        f"exact unrolling in float32; the exact way in bfloat16 is {step['exact_psnr_difference']:+.3f} dB from it."
    )
)

# %% [markdown]
# N-DIPA, the published network (858,758 parameters). Here the network is most of the step, and the reference runs the same code
# for it, so that the ratio is that of precision, caching and the way to differentiate alone. Its maps of all
# iterations would fill the memory at larger batches, so the exact way computes them again in the backward pass.

# %% tags=["hide-input"]
network = measured["training_n_dipa"]
found = reports.first_seeds(runs, ["n-dipa-supervised", "n-dipa-truncated-5"])
network_psnr = ", ".join(f"`{name}` {run.metrics['student']['psnr']:.2f} dB" for name, run in found.items())
display(Markdown(cost.seconds_table(network, WORK)))
display(
    Markdown(
        f"The faster way is `{network['settings']['way']}`, with the last {network['settings']['tail']} iterations. Recorded runs of a "
        f"smaller network (150 steps, digits): {network_psnr}. {cost.measured_on(network)}"
    )
)

# %% [markdown]
# ## Ways to differentiate a solve
#
# With $s^k=F_\theta(s^{k-1},k)$ one iteration on the state $s=(x,z)$ and $J^k$ its Jacobian, the exact gradient is a sum over
# iterations, $\sum_k \partial_\theta F(s^{k-1},k)^\top (J^{k+1})^\top\cdots(J^{K})^\top\nabla\ell(\hat x)$. `unrolled` and
# `checkpointed` compute all of it, `truncated(T)` its last T terms, `jacobian_free` the last one, and `restart(T)` the terms since
# momentum last began anew. `straight_through` has all terms, with the identity in the place of the denoiser's Jacobian: this
# denoiser is trained for a noise level of 2/255 and changes its input little. The cosine is that to the exact gradient in float32;
# time and memory are those of a forward and backward pass over plain unrolling's, in the same precision (bfloat16).

# %% tags=["hide-input"]
PRESETS = {
    "checkpointed": "l-dipa-supervised",
    "truncated(10)": "l-dipa-truncated-10",
    "truncated(5)": "l-dipa-truncated-5",
    "truncated(2)": "l-dipa-truncated-2",
    "jacobian_free": "l-dipa-jacobian-free",
    "straight_through": "l-dipa-straight-through",
    "restart(5)": "l-dipa-restart-5",
}
ways = measured["ways"]
display(Markdown(cost.ways_table(ways, runs, PRESETS)))
display(Markdown(cost.measured_on(ways)))

# %% [markdown]
# The PSNR is that of recorded runs (profile `small`, 150 steps of 16 digits, tested with the same plain solver and all K
# iterations); all of them start from the closed form. `restart(5)` trains in another solver, whose momentum begins anew every fifth
# iteration; its run was tested in both, the first row is the plain one (PSNR in dB):

# %% tags=["hide-input"]
display(Markdown(reports.shift_table(runs, [PRESETS["restart(5)"]], metric="psnr")))

# %% [markdown]
# **The default is `checkpointed`.** It is exact, and for the papers' denoiser it costs nothing: the Jacobian of a frozen network of
# convolutions and ReLUs depends on its input through the signs of its features alone, so one bit is kept where automatic
# differentiation keeps a number, and nothing is computed twice. Another gradient is a choice to make knowingly: it is another
# descent direction, and this table says how far it leads. The cosines are low and the trainings close: single batches near the
# edge of stability dominate the exact gradient, and clipping takes their length away.

# %% [markdown]
# ## Memory

# %% tags=["hide-input"]
memory = measured["memory"]
rows = [
    (f"{size} x {size}, batch {batch}", *(f"{memory[size]['peak_mib'][name]:.0f}" for name in ("plain", "float32", "bf16")))
    for size, batch in (("32", 16), ("128", 4))
]
head = ("K = 20", "plain unrolling, float32 (MiB)", "default, float32 (MiB)", "default, bf16 (MiB)")
display(Markdown(reports.table(head, rows)))
display(
    Markdown(
        f"At 128 x 128 and batch 16 the default peaks at {memory['128']['batch_16_mib']:.0f} MiB. Plain unrolling does not fit there; "
        f"the line through its peaks at batches 2 and 4 leads to {memory['128']['plain_batch_16_mib']:.0f} MiB. At batch 4 much of "
        "the default's memory is P's own: its matrix, the matrix's gradient and the term that is added to it."
    )
)

# %% tags=["hide-input"]
rows = [(f"`{way}`", *(f"{peak:.0f}" for peak in peaks.values())) for way, peaks in memory["growth"].items()]
head = ("peak memory (MiB), 32 x 32, batch 16", *(f"K = {k}" for k in next(iter(memory["growth"].values()))))
display(Markdown(reports.table(head, rows)))
display(Markdown(cost.measured_on(memory)))

# %% [markdown]
# ## How cost grows
#
# Slopes of log-log fits, time and memory of one forward and backward pass; for image sides the abscissa is the number of pixels, so
# that 1 is linear. L-DIPA's matrix has $n\,m$ entries, the square of the number of pixels at a fixed ratio.

# %% tags=["hide-input"]
SERIES = {
    "n_dipa_side": "image side, N-DIPA",
    "n_dipa_iterations": "iterations K, N-DIPA",
    "n_dipa_batch": "batch, N-DIPA",
    "l_dipa_side": "image side, L-DIPA",
    "l_dipa_iterations": "iterations K, L-DIPA",
    "l_dipa_batch": "batch, L-DIPA",
}
scaling = measured["scaling"]
display(Markdown(cost.scaling_table(scaling, SERIES)))
display(Markdown(cost.measured_on(scaling)))

# %% [markdown]
# ## Time to quality
#
# Seconds count training and the closed form it starts from, not the tests in between. An empty cell was not reached by the end of
# the run; the last row is the paper's gain for L-DIPA on this camera.

# %% tags=["hide-input"]
quality = measured["quality"]
COURSES = {"straightforward": "straightforward", "ours": "this package"}
display(Markdown(cost.reached_table(quality, COURSES)))
display(Markdown(cost.measured_on(quality)))

# %% tags=["hide-input"]
gained = []
for name, points in quality["courses"].items():
    steps, seconds, psnr = points[-1]
    gained.append(
        f"{COURSES[name]}: {psnr - quality['baseline']:+.2f} dB over the baseline after {steps} image-steps and {seconds} s"
    )
gained.append(
    f"DIPA Table 2 prints {reports.paper_gain('l-dipa-supervised', 'DIPA Table 2'):+.2f} dB, in the authors' PSNR convention"
)
display(Markdown("; ".join(gained) + "."))
every = quality["settings"]["every"]
lines = {"this package": [psnr for _, _, psnr in quality["courses"]["ours"]]}
figure = plots.compare(lines, "test PSNR (dB)", xlabel=f"tests, one every {every} steps of 16 images")
plots.plt.show()

# %% [markdown]
# Most of the gain is the closed form, which needs no training; straight-through training then climbs for a hundred steps and stays.
# Neither way comes near the paper's gain on these digits: the [results](results_single_pixel.ipynb) show the same for every loss, and
# say where the remaining error is.
#
# A network behind the closed form goes on from there, and [its first iteration](behind.ipynb) is all that has to be trained. Beside it
# the straightforward loop with a ConvNeXt that starts at the plain solver:

# %% tags=["hide-input"]
behind = measured["quality_n_dipa"]
display(Markdown(cost.reached_table(behind, COURSES)))
_ends = "; ".join(
    f"{COURSES[name]}: {points[-1][2]:.2f} dB after {points[-1][1]} s" for name, points in behind["courses"].items()
)
display(Markdown(f"Where they ended: {_ends} (baseline {behind['baseline']:.2f} dB). {cost.measured_on(behind)}"))

# %% [markdown]
# ## Finding the recipe
#
# What network, how wide, which rate and batch? Sixteen recipes for the first iteration had the same seconds of one core; the better
# half by images held out began again with twice the time, and so on (`benchmarks/recipes.py`; successive halving,
# [Jamieson and Talwalkar, 2016](references.md)). PSNR after a whole run of K = 20 with a prior whose share decays:

# %% tags=["hide-input"]
recipes = measured["recipes"]
display(Markdown(cost.trials_table(recipes)))
display(Markdown(f"The closed form alone: {recipes['closed form']:.2f} dB. {cost.measured_on(recipes)}"))

# %% [markdown]
# What wins in minutes does not win in half an hour: the preset `n-dipa-decayed-narrow` is the recipe that was left, and
# `n-dipa-decayed`, a larger U-Net at the smaller rate, passes it when both are trained for longer
# ([a network behind the closed form](behind.ipynb)).

# %% [markdown]
# ## The same bits
#
# The same seed, machine, versions and number of threads give the same bits. Another number of threads adds numbers in another
# order: the difference below is that of the reconstructed test images after six training steps, relative.

# %% tags=["hide-input"]
determinism = measured["determinism"]
rows = [
    (precision, count, "yes" if found["again"] else "no", f"{found['P']:.1e}", f"{found['images']:.1e}")
    for precision, counts in determinism["runs"].items()
    for count, found in counts.items()
]
head = ("precision", "threads", "same bits again", "P, against one thread", "images, against one thread")
display(Markdown(reports.table(head, rows)))
display(Markdown(cost.measured_on(determinism)))

# %% tags=["hide-input"]
faults = measured["faults"]
display(
    Markdown(
        f"A training killed at any moment ends in these bits too: `make faults` sent {faults['SIGKILL']} SIGKILLs, "
        f"{faults['SIGTERM']} SIGTERMs and {faults['SIGINT']} SIGINTs at random moments, {faults['SIGKILL while writing']} of the "
        f"first while a file was being written; all {faults['finished']} runs ended bitwise as the uninterrupted one."
    )
)

# %% [markdown]
# ## Measure it yourself
#
# ```bash
# python benchmarks/training.py --data mnist --denoiser dncnn-deepinv --json training.json   # --method n-dipa for the network
# python benchmarks/ways.py; python benchmarks/memory.py --large; python benchmarks/scaling.py
# python benchmarks/quality.py; python benchmarks/determinism.py; make faults
# ```
#
# `--device cuda` runs the same files on a GPU. Several devices train one preconditioner with
# `torchrun --nproc-per-node 2 -m dipa.cli run l-dipa-supervised`; the result is that of one process with the same batch, to
# rounding. Sweeps are better spread as one run per device.
