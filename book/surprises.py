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
# # Surprises
#
# Things that were not what they seemed when these papers were built again: some about the methods, some about the software,
# some about the printed tables. Each can be seen below in a few lines. They change how the tables of this book should be read.

# %% tags=["hide-input"]
import statistics
from collections import defaultdict

import deepinv
import torch
from deepinv.physics.generator import GaussianMaskGenerator
from IPython.display import Markdown, display

import dipa
from dipa import analysis, data, denoisers, experiments, metrics, operators, plots, solvers
from dipa.analysis import relative_norm

tables = experiments.tables
denoiser = denoisers.load()
pnp = dipa.PnP(denoiser)

# %% [markdown]
# ## On a projector, classical preconditioners are stepsizes
#
# The single-pixel camera and complex MRI have $H^\top H=\Pi$, an orthogonal projector ([Operators](operators.ipynb)). Every
# gradient lies in its range, where $\Pi$ is the identity. So for every gradient
#
# $$(H^\top H+\lambda I)^{-1}\nabla g=\frac1{1+\lambda}\nabla g, \qquad p(H^\top H)\nabla g=p(1)\,\nabla g:$$
#
# the Hessian and the polynomial preconditioners {cite}`iyer2024polynomial` multiply the gradient by one number. The table gives
# that number $c$, and how far the direction is from $c\,\nabla g$. Only where eigenvalues differ is there anything to equalise.

# %% tags=["hide-input"]
systems = {
    "single pixel, ratio 0.2": operators.single_pixel((1, 32, 32), ratio=0.2),
    "MRI complex, AF 5": operators.mri((2, 50, 50), acceleration=5),
    "MRI real, AF 5": operators.mri((1, 50, 50), acceleration=5),
    "super-resolution, RF 4": operators.super_resolution((1, 110, 110), factor=4),
}
rows, apart = [], {}
for name, H in systems.items():
    noise = torch.randn(4, *H.img_size, generator=torch.Generator().manual_seed(0))
    gradient = H.A_adjoint_A(noise)
    makers = dipa.Hessian(H, regularization=0.1), dipa.Polynomial.chebyshev(H), dipa.Polynomial.l2(H)
    cells = []
    for number, preconditioner in enumerate(makers):
        direction = preconditioner(gradient, noise, 1)
        factor = ((direction * gradient).sum() / gradient.square().sum()).item()
        apart[name, number] = relative_norm(direction - factor * gradient, direction).mean().item()
        cells.append(f"{factor:.3f} ({apart[name, number]:.0e})")
    rows.append((name, *cells))
head = ("operator", "Hessian, $\\lambda=0.1$", "Chebyshev polynomial", "$\\ell_2$ polynomial")
display(Markdown(tables.markdown(head, rows)))
assert all((far < 1e-3) == (name.startswith("single") or "complex" in name) for (name, _), far in apart.items())

# %% [markdown]
# D2GP Table I prints rows for both. In its columns for the single-pixel camera and MRI, they can only say what another stepsize
# does (for the Hessian at the same $\alpha$: a shorter one), unless the operators were not those described, or the imaginary part
# was dropped.

# %% tags=["hide-input"]
rows = []
for task, prefix in (("single pixel", ""), ("MRI", "mri-"), ("super-resolution", "sr-")):
    values = [
        tables.published(prefix + name, source="D2GP Table I")[0]["value"] for name in ("baseline", "hessian", "polynomial")
    ]
    rows.append((task, *(f"{value:.2f}" for value in values)))
display(Markdown(tables.markdown(("PSNR (dB), D2GP Table I", "baseline", "Hessian", "polynomial"), rows)))

# %% [markdown]
# ## Super-resolution: what the start is worth
#
# The papers' baseline for super-resolution is far below those of the other tasks, and learned preconditioners lift it far.
# The table collects both. A photograph of 110 x 110 pixels, the factor 4 and the denoiser packaged here are enough to see where
# the low baseline comes from.
# The first reconstruction has the papers' settings and the start $H^\top y$ of deepinv. The last one starts from an
# interpolated image ({cite}`knutsson1993normalized`, $H^\top y$ divided by $H^\top H\mathbf 1$) and takes the stepsize $1/L$.
# **Nothing is learned in any of them.**

# %% tags=["hide-input"]
kept = ("sr-baseline", "sr-full-linear", "sr-l-dipa-supervised-r", "sr-n-dipa")
rows = [
    (row["source"], experiments.describe(row["preset"])["about"], f"{row['value']:.2f}")
    for name in kept
    for row in tables.published(name)
]
display(Markdown(tables.markdown(("source", "row", "PSNR (dB)"), rows)))

# %%
H = systems["super-resolution, RF 4"]
x = data.load("embedded", "test", size=110, count=1).images
y = H.A(x)
settings = [("adjoint", 0.4), ("adjoint", "1/L"), ("pseudo_inverse", "1/L"), ("interpolated", 0.4), ("interpolated", "1/L")]
found = {}
for start, stepsize in settings:
    solver = dipa.FISTA(prior=pnp, iterations=20, start=start)
    found[start, stepsize] = solver(y, H, stepsize=stepsize, iterates=True).iterates

# %% tags=["hide-input"]
named = {f"{start},\n$\\alpha$ = {stepsize}": iterates[-1, 0, 0].numpy() for (start, stepsize), iterates in found.items()}
plots.methods({"truth": x[0, 0].numpy()} | named)
plots.plt.show()
basis, rows, audits = H.range_basis(), [], {}
for (start, stepsize), iterates in found.items():
    ends = audits[start, stepsize] = [analysis.audit(iterates[k], x, y, H, basis) for k in (0, 20)]
    errors = [f"{end[key]:.2f}" for key in ("error_range", "error_null") for end in ends]
    psnrs = [f"{metrics.psnr(iterates[k], x).item():.1f}" for k in (0, 20)]
    rows.append((f"`{start}`", str(stepsize), *psnrs, *errors))
marks = ("at the start", "after 20")
head = ("start", "stepsize", *(f"{what} {mark}" for what in ("PSNR", "error in range", "error in null space") for mark in marks))
display(Markdown(tables.markdown(head, rows)))
best, papers = (metrics.psnr(found[key][-1], x).item() for key in (("interpolated", "1/L"), ("adjoint", 0.4)))
assert best > papers + 5
assert audits["adjoint", "1/L"][1]["error_range"] < 0.05 < audits["adjoint", "1/L"][1]["error_null"] / 4

# %% [markdown]
# Read the errors. With $1/L$ the error in the range all but vanishes from every start: $\|H\|^2$ is far below 1 here, so that $\alpha=0.4$ is
# a small part of $1/L$, but that is the smaller matter. Even the pseudo-inverse, which explains the data perfectly, ends where
# the adjoint does. What remains is the null-space error *of the start*. The range of this operator is a grid of blurred dots.

# %% tags=["hide-input"]
constant = torch.ones(1, 1, 110, 110)
unseen = relative_norm(constant - basis.project(constant), constant).item()
display(
    Markdown(
        f"Of a constant grey image, {unseen:.0%} (in norm) lies outside of it. A start in the range is therefore a grid of dots, and "
        f"a denoiser for weak noise takes the dots for texture: here it leaves "
        f"{audits['pseudo_inverse', '1/L'][1]['error_null'] / audits['pseudo_inverse', '1/L'][0]['error_null']:.0%} of the null-space "
        f"error after 20 iterations. The difference between the first and the last setting is **{best - papers:.1f} dB**."
    )
)

# %% [markdown]
# A preconditioner can write into the null space, and so repair in every iteration what the start has broken. How much of a
# learned gain is more than this repair is a question that [the results](results_super_resolution.ipynb) answer by giving both
# baselines.
#
# ## Super-resolution is not badly conditioned
#
# Decimation by 2 or more removes just those directions that the blur has damped. The blur alone (RF 1, the papers' *teacher*) is
# the badly conditioned member of the family.

# %% tags=["hide-input"]
rows, condition = [], {}
for factor in (4, 3, 2, 1):
    values = operators.super_resolution((1, 110, 110), factor=factor).values
    condition[factor], largest = (values.max() / values.min()).item(), values.max().item() ** 2
    paper_step = 0.4 if factor == 4 else 0.7
    cells = (f"{condition[factor]:.3g}", f"{largest:.3f}", f"{1 / largest:.2f}", f"{paper_step} = {paper_step * largest:.2f} / L")
    rows.append((f"RF {factor}, {'student' if factor == 4 else 'teacher'}", *cells))
head = ("operator", "$\\kappa(H)$ on the range", "$L=\\lVert H\\rVert^2$", "$1/L$", "the papers' stepsize")
display(Markdown(tables.markdown(head, rows)))
assert max(condition[factor] for factor in (2, 3, 4)) < 10 < condition[1] / 100

# %% [markdown]
# ## FISTA in deepinv is not the printed FISTA
#
# D2GP prints Nesterov's weights (Algorithm 1, lines 5 and 6). DIPA (Sec. 4) says that it uses deepinv's FISTA. In deepinv 0.5.0
# the weights are $(k+a-2)/(k+a-1)$, by default with $a=3$: 2/3 in the first iteration, where the printed rule and the one that
# deepinv's documentation cites {cite}`chambolle2015fista` have 0. Which of our rules reproduces deepinv's own result?

# %%
H = systems["single pixel, ratio 0.2"]
x = data.load("embedded", "test", size=32, count=6).images
y = H.A(x)
reference = deepinv.optim.FISTA(
    data_fidelity=deepinv.optim.L2(),
    prior=deepinv.optim.PnP(denoiser),
    stepsize=0.4,
    sigma_denoiser=2 / 255,
    max_iter=20,
    early_stop=False,
)(y, H)
by_rule = {rule: dipa.FISTA(prior=pnp, momentum=rule)(y, H, stepsize=0.4).x for rule in solvers.MOMENTA}

# %% tags=["hide-input"]
distance = {rule: relative_norm(answer - reference, reference).mean().item() for rule, answer in by_rule.items()}
rows = [(f"`{r}`", f"{metrics.psnr(by_rule[r], x).mean():.2f}", f"{distance[r]:.0e}") for r in by_rule]
display(Markdown(tables.markdown(("momentum", "PSNR after 20 iterations (dB)", "relative distance from deepinv's FISTA"), rows)))
assert distance["deepinv"] < 1e-4 < min(distance[rule] for rule in distance if rule != "deepinv")

# %% [markdown]
# For 20 iterations the heavier weights are an advantage. In the long run they are too heavy: they correspond to a friction below
# the one that the theory of accelerated methods needs {cite}`su2016ode`. [PnP and RED](pnp_red.ipynb) has the curves, and the same
# page shows that deepinv's RED is another algorithm than the one printed.
#
# Which weights made the papers' numbers is an inference. There is a public evaluation script with the papers' settings ($K=20$,
# $\alpha_s=0.4$, $\alpha_t=0.7$, a matrix applied to the gradient). It starts from $H^\top y$ and passes $a=3$ to an iteration of its
# own, whose code we have not seen. We take it for the authors' and its weights for deepinv's; it names neither.
#
# ## What is a PSNR
#
# The papers give PSNR to two decimals and no formula. Three choices enter. The first two can move it by more than the losses and
# teachers of their tables do.
#
# - **Mean over images, or of a batch.** The script mentioned above computes one PSNR from the mean squared error of a whole
#   batch and averages over batches; this book calls that the authors' convention. By Jensen's inequality that is never above
#   the mean over images, and it depends on the batch size.
# - **Two channels, or the modulus.** For complex images the squared error can be averaged over $2HW$ numbers or taken of
#   the modulus. Where the imaginary part is nearly right the first is 3 dB higher.
# - **Clipping** to [0, 1] before the comparison. Not done here.

# %% tags=["hide-input"]
answers = by_rule["nesterov"]
batches = {size: metrics.psnr_batch_mse(answers, x, size) for size in (1, 2, 3, 6)}
assert (
    metrics.psnr(answers, x).mean().item() - batches[6] > 0.1 and abs(batches[1] - metrics.psnr(answers, x).mean().item()) < 1e-3
)
head = ("the same reconstructions, single pixel", "mean over images", *(f"of batches of {size}" for size in (2, 3, 6)))
rows = [("PSNR (dB)", f"{batches[1]:.2f}", *(f"{batches[size]:.2f}" for size in (2, 3, 6)))]
display(Markdown(tables.markdown(head, rows)))
slices = data.load("embedded-mri", "test", size=50, channels=2, count=1).images
teacher = operators.mri((2, 50, 50), acceleration=2)
rows = []
for name, H in (("AF 2", teacher), ("AF 5", systems["MRI complex, AF 5"])):
    scores = metrics.summary(dipa.FISTA(prior=pnp)(H.A(slices), H, stepsize=0.4).x, slices, 1)
    rows.append((f"PnP-FISTA, {name}", f"{scores['psnr']:.2f}", f"{scores['psnr_magnitude']:.2f}"))
blurred = torch.nn.functional.avg_pool2d(slices, 3, 1, 1) * torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
scores = metrics.summary(blurred, slices, 1)
assert abs(scores["psnr"] - scores["psnr_magnitude"] - 3.01) < 0.01
rows.append(("a wrong real part, an exact imaginary part", f"{scores['psnr']:.2f}", f"{scores['psnr_magnitude']:.2f}"))
display(Markdown(tables.markdown(("PSNR (dB), MRI", "over both channels", "of the modulus"), rows)))

# %% [markdown]
# Tables of this book that stand beside the papers use the batch convention, and say so; all others the mean over images.
#
# ## Masks are nested by accident
#
# deepinv's mask generators own their random numbers. `torch.manual_seed`, which that script calls, does not reach them: a
# fresh generator always draws the same first mask, and two generators made with different acceleration factors start from the
# same seed.

# %%
first_masks = []
for seed in (0, 1, 2):
    torch.manual_seed(seed)
    first_masks.append(GaussianMaskGenerator((50, 50), acceleration=5).step()["mask"])
assert all(torch.equal(mask, first_masks[0]) for mask in first_masks)

# %% [markdown]
# Student and teacher masks drawn so are nested: each column of the student is one of the teacher's. With separate seeds they are
# not, and the student measures columns of which its teacher knows nothing. The papers do not say how they drew the two. Here
# nesting is an argument (`mri_pair(..., nested=True)`), and a preset trains without it. Columns of an AF 5 student that its
# teacher lacks, over mask seeds:

# %% tags=["hide-input"]
rows = []
seeds = range(10)
for acceleration in (2, 3):
    lacking = defaultdict(list)
    for seed in seeds:
        drawn = {"acceleration": 5, "teacher_acceleration": acceleration, "mask_seed": seed}
        pairs = {
            f"mri_pair, nested={nested}": operators.mri_pair((2, 50, 50), **drawn, nested=nested) for nested in (True, False)
        }
        equal = (operators.mri((2, 50, 50), acceleration=factor, mask_seed=seed) for factor in (5, acceleration))
        for way, (student, teacher) in {"generators of one seed": equal, **pairs}.items():
            lacking[way].append(int((student.mask * (1 - teacher.mask))[0, 0, 0].sum()))
    assert not any(lacking["mri_pair, nested=True"]) and statistics.mean(lacking["mri_pair, nested=False"]) > 1
    columns = int(student.mask[0, 0, 0].sum())
    rows += [
        (f"AF {acceleration}", f"`{way}`" if "=" in way else way, str(columns), f"{min(n)} to {max(n)}" if any(n) else "0")
        for way, n in lacking.items()
    ]
display(Markdown(tables.markdown(("teacher", "how the masks are drawn", "columns of the student", "lacking"), rows)))

# %% [markdown]
# ## The printed tables
#
# One file of this project holds the published numbers, with their tables, the doubts about them, and how symbols were
# read that the available text of DIPA has lost. Everything below is listed from that file.
#
# **The same cell, printed with different values.** A quantity called `student` is the PSNR of the row, of a baseline's row too.

# %% tags=["hide-input"]
values = tables.paper_values()
cells = defaultdict(dict)
for row in values:
    cells[row["preset"], row["quantity"], row.get("shift")].setdefault(row["value"], []).append(row["source"])
rows = []
for (preset, quantity, _), printed in cells.items():
    if len(printed) > 1:
        versions = "; ".join(f"{value:.2f} ({', '.join(sources)})" for value, sources in printed.items())
        rows.append(
            (experiments.describe(preset)["task"].replace("_", " "), experiments.describe(preset)["about"], quantity, versions)
        )
display(Markdown(tables.markdown(("task", "row", "quantity", "printed"), rows)))

# %% [markdown]
# **Teachers.** A teacher has no $P$ and is not trained, so in one table it should be one number per teacher. Where it is
# printed several times with different values, the spread may be what a repeated evaluation gives in that pipeline: then it is a
# free estimate of its error bar.

# %% tags=["hide-input"]
printed = defaultdict(list)
for row in (row for row in values if row["quantity"] == "teacher"):
    config = experiments.resolve(row["preset"], "paper")
    printed[row["source"], config.task, config.solver.prior, config.data.name].append(row["value"])
rows, spreads = [], []
for (source, task, prior, _), several in printed.items():
    if len(set(several)) > 1:
        spreads.append(max(several) - min(several))
        rows.append(
            (source, f"{prior.upper()}, RF {task.teacher_factor}", ", ".join(f"{v:.2f}" for v in several), f"{spreads[-1]:.2f}")
        )
display(Markdown(tables.markdown(("source", "teacher", "printed", "spread (dB)"), rows)))

# %% [markdown]
# **Doubts**, cell by cell:

# %% tags=["hide-input"]
notes = defaultdict(list)
for row in (row for row in values if "note" in row and not row["note"].startswith("printed ")):
    notes[row["source"], row["quantity"], row["note"]].append(row)
rows = []
for (source, quantity, note), doubted in notes.items():
    about = "; ".join(dict.fromkeys(experiments.describe(row["preset"])["about"] for row in doubted))
    numbers = ", ".join(dict.fromkeys(f"{row['value']:.2f}" for row in doubted))
    rows.append((source, about, quantity, numbers, note))
display(Markdown(tables.markdown(("source", "row", "quantity", "printed", "what does not fit"), rows)))

# %% [markdown]
# **Readings.** What the text lost, what we put in its place, and for how many numbers. If a reading is wrong, the comparison of
# those numbers is wrong with it.

# %% tags=["hide-input"]
readings, places = defaultdict(int), defaultdict(dict)
for row in (row for row in values if "reading" in row):
    readings[row["reading"]] += 1
    places[row["reading"]][row["source"]] = True
rows = [(reading, ", ".join(places[reading]), str(count)) for reading, count in readings.items()]
display(Markdown(tables.markdown(("reading", "source", "numbers"), rows)))
display(Markdown(f"*{sum(readings.values())} of the {len(values)} published numbers in the file rest on a reading.*"))

# %% [markdown]
# Where the two papers differ in formulas, not in numbers, the last section of [Notation](notation.md) says which one is used.
#
# ## Limits
#
# - A doubt is not a proof: some of these values may be right for reasons the text does not give.
# - The super-resolution comparison is one photograph with our denoiser; the papers use CelebA and deepinv's.
