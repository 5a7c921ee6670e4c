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

# %% [markdown]
# # Results: single-pixel camera
#
# Digits of 32 x 32 pixels (MNIST, the official files, bilinear resize), a student that measures a fifth of the Hadamard
# coefficients, a teacher that measures seven tenths, $K=20$ iterations, $\alpha_s=0.4$, $\alpha_t=0.7$, the denoiser of the
# papers (deepinv's DnCNN). Every number on this page is read from the run folders beside it; none is typed in. The papers'
# numbers come from one file with their sources.

# %% tags=["hide-input"]
import json
from pathlib import Path

from IPython.display import Markdown, display

from dipa import experiments, plots

tables = experiments.tables
runs = experiments.find_runs("results/single_pixel")
by_preset = tables.group(runs)
print(len(runs), "recorded runs")

# %% [markdown]
# ## Against the papers
#
# DIPA's Table 2 gives the student with $L_S$ (no $R$) and with $L_I$ and $R$; the heads of two of its columns are lost in the
# text available to this project, so this is a reading. Cells the papers do not print, or that were not run here, are empty.
# Both PSNR and its gain over the unpreconditioned baseline are compared, since the papers' baseline is itself lower than
# ours: they do not say how digits are resized nor in which order Hadamard rows are taken. PSNR is the authors' convention
# (of the mean squared error of a batch).

# %% tags=["hide-input"]
_trained = [name for name in experiments.names() if name.startswith("l-dipa")]
_baseline = tables.published("baseline", source="DIPA Table 2")[0]["value"]
display(Markdown(tables.paper_beside_ours(runs, ["baseline", *_trained], _baseline, "DIPA Table 2")))

# %% tags=["hide-input"]
_teacher = tables.published("l-dipa-supervised", "teacher")[0]
_ours = by_preset["l-dipa-supervised"][0].metrics["teacher"]
display(
    Markdown(
        f"The teacher: paper {_teacher['value']:.2f} dB ({_teacher['source']}), ours {_ours['psnr_batch_mse']:.2f} dB "
        f"(mean over images {_ours['psnr']:.2f} dB). The baseline of D2GP Table I is "
        f"{tables.published('baseline', source='D2GP Table I')[0]['value']:.2f} dB."
    )
)

# %% [markdown]
# ## Everything measured
#
# Two PSNR conventions, SSIM, and the audit: the residual $\|H\hat x-y\|/\|y\|$, and the error inside and outside
# the range of $H_s^\top$ relative to the image. Plus-minus is the standard deviation over seeds, with their number. The ridge
# rows are not trained: $P$ is the closed-form linear predictor of the image from its measurements. One keeps its whole guess of
# the null-space part, the other a share of it (`null_weight`, chosen on training digits), since the full guess overshoots on
# hard digits when it is repeated with momentum. The latter is where every trained row starts.

# %% tags=["hide-input"]
display(Markdown(tables.measured(runs, ["baseline", "baseline-adjoint", "ridge-full", "ridge", *_trained])))

# %% tags=["hide-input"]
_best = max((name for name in _trained if name in by_preset), key=lambda name: by_preset[name][0].metrics["student"]["psnr"])
_shown = by_preset[_best][0]
_ridge = by_preset["ridge"][0].metrics["student"]["psnr"]
_base = by_preset["baseline"][0].metrics["student"]["psnr"]
_student = _shown.metrics["student"]["psnr"]
_worst = min(by_preset[name][0].metrics["student"]["psnr"] for name in _trained if name in by_preset)
display(
    Markdown(
        f"At seed 0 the best variant, `{_best}`, gains {_student - _base:.2f} dB over the baseline; the untrained closed-form "
        f"predictor already gains {_ridge - _base:.2f} dB of these, and training adds {_student - _ridge:.2f} dB. The losses differ by "
        f"at most {_student - _worst:.2f} dB at this seed: compare the spread over seeds above."
    )
)

# %% [markdown]
# What limits the gain? Where the error is left, and whether the iteration was still moving when it stopped:

# %% tags=["hide-input"]
_audit, _curve = _shown.metrics["student"]["audit"], _shown.metrics["student"]["curve"]["psnr"]
_share = _audit["error_null"] ** 2 / (_audit["error_null"] ** 2 + _audit["error_range"] ** 2)
_steps = [record["psnr"] for record in _shown.history]
_tenth = max(len(_steps) // 10, 1)
_first, _last = sum(_steps[:_tenth]) / _tenth, sum(_steps[-_tenth:]) / _tenth
display(
    Markdown(
        f"Of the squared error of `{_best}`, {100 * _share:.1f} % lies in the null space of $H_s$, which the measurements cannot "
        f"correct. Its last five iterations added {_curve[-1] - _curve[-6]:.2f} dB. Over the {len(_steps)} training steps the PSNR of "
        f"a batch rose from {_first:.2f} to {_last:.2f} dB (means of the first and last {_tenth} steps)."
    )
)

# %% [markdown]
# ## Which loss
#
# The student's mean PSNR after each iteration, for the baseline, the closed form and each loss.

# %% tags=["hide-input"]
_order = ["baseline", "ridge-full", "ridge", *_trained]
plots.compare({name: by_preset[name][0].metrics["student"]["curve"]["psnr"] for name in _order if name in by_preset})
plots.plt.show()

# %% tags=["hide-input"]
plots.gallery(_shown.examples)
plots.plt.show()

# %% [markdown]
# ## Which ordering
#
# "The first Hadamard rows" depends on how rows are ordered, and the papers do not say. The baseline of each ordering, same
# images and solver. `sequency` is today's meaning in deepinv; `sequency_permutation` and `sequency_rows` are what the word
# meant in earlier releases.

# %% tags=["hide-input"]
_rows = []
for name in [name for name in experiments.names() if name.startswith("baseline") and name != "baseline-adjoint"]:
    for run in by_preset.get(name, []):
        _numbers = run.metrics["baseline"], run.metrics["teacher"]
        _rows.append((run.config.task.ordering, *(f"{n[key]:.2f}" for n in _numbers for key in ("psnr", "psnr_batch_mse"))))
_head = ("ordering", "baseline PSNR", "baseline (batch MSE)", "teacher PSNR", "teacher (batch MSE)")
display(Markdown(tables.markdown(_head, _rows)))

# %% [markdown]
# ## What makes a training step cheap
#
# Two kernels against the straightforward ones, timed side by side in one run of `benchmarks/kernels.py`: the Hadamard transform
# as two matrix products against deepinv's butterflies, and the denoiser's forward and backward pass in bfloat16 against
# float32.

# %% tags=["hide-input"]
_bench = json.loads(Path("results/benchmarks/kernels.json").read_text())
_labels = {
    "transform_32": "$H^\\top H$, 32 x 32",
    "transform_128": "$H^\\top H$, 128 x 128",
    "bf16_32": "denoiser forward + backward, 32 x 32",
}
_made = _bench["manifest"]
display(
    Markdown(
        tables.markdown(("kernel", "times faster"), [(label, f"{_bench[key]['ratio']:.1f}") for key, label in _labels.items()])
    )
)
display(Markdown(f"Measured on {_made['device']}, {_made['threads']} threads, commit {(_made['commit'] or '')[:10]}."))

# %% [markdown]
# ## Where the numbers come from
#
# One line per run folder; the last part of its name is the hash of its configuration, by which the first table names it. The
# two cores were shared with other work during some runs, so seconds are upper bounds.

# %% tags=["hide-input"]
display(Markdown(tables.provenance(runs)))

# %% tags=["remove-cell", "nbval-check-output"]
for _run in runs:
    print(_run.path.name, f"{_run.metrics['student']['psnr']:.2f}", f"{_run.metrics['teacher']['psnr']:.2f}")

# %% [markdown]
# ## Limits
#
# - One size, one task, one teacher, a short budget: the papers train for many more image-steps at a much smaller learning rate.
# - The trained rows start from the closed form, the papers' from the identity.
# - Seeds change the order of the training images only: the operators, the test images and the denoiser are the same.
