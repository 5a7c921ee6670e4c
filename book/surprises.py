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
# # Surprises
#
# Things that were not what they seemed when these papers were built again: some about the methods, some about the software,
# some about the printed tables. Each can be seen below in a few lines. They change how the tables of this book should be read.

# %% tags=["hide-input"]
import itertools

import deepinv
import torch
from deepinv.physics.generator import GaussianMaskGenerator
from IPython.display import Markdown, display

import dipa
from dipa import analysis, data, denoisers, metrics, operators, plots, reports, solvers
from dipa.analysis import relative_norm

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps

# %% tags=["hide-input"]
place = notebook.place(device)
denoiser = denoisers.load().to(place)
pnp = dipa.PnP(denoiser)

# %% [markdown]
# ## On a projector, classical preconditioners are stepsizes
#
# The single-pixel camera and complex MRI have $H^\top H=\Pi$, an orthogonal projector ([Operators](operators.ipynb)). Every
# gradient lies in its range, where $\Pi$ is the identity. So for every gradient
#
# $$(H^\top H+\lambda I)^{-1}\nabla g=\frac1{1+\lambda}\nabla g, \qquad p(H^\top H)\nabla g=p(1)\,\nabla g:$$
#
# the Hessian and the polynomial preconditioners ([Iyer et al., 2024](references.md)) multiply the gradient by one number.
# The table gives that number $c$, and how far the direction is from $c\,\nabla g$. Only where eigenvalues differ is there
# anything to equalise.

# %% tags=["hide-input"]
systems = {
    "single pixel, ratio 0.2": operators.single_pixel((1, 32, 32), ratio=0.2),
    "MRI complex, AF 5": operators.mri((2, 50, 50), acceleration=5),
    "MRI real, AF 5": operators.mri((1, 50, 50), acceleration=5),
    "super-resolution, RF 4": operators.super_resolution((1, 110, 110), factor=4),
}
systems = {name: H.to(place) for name, H in systems.items()}
fits = {}
for name, H in systems.items():
    gradient = H.A_adjoint_A(torch.randn(4, *H.img_size, generator=torch.Generator().manual_seed(0)).to(place))
    makers = dipa.Hessian(H, regularization=0.1), dipa.Polynomial.chebyshev(H), dipa.Polynomial.l2(H)
    fits[name] = [analysis.as_stepsize(preconditioner, gradient) for preconditioner in makers]
head = ("operator", "Hessian, $\\lambda=0.1$", "Chebyshev polynomial", "$\\ell_2$ polynomial")
rows = [(name, *(f"{factor:.3f} ({left:.0e})" for factor, left in found)) for name, found in fits.items()]
display(Markdown(reports.table(head, rows)))
for name, found in fits.items():
    assert all((left < 1e-3) == (name.startswith("single") or "complex" in name) for _, left in found)

# %% [markdown]
# D2GP Table I prints rows for both. In its columns for the single-pixel camera and MRI, they can only say what another stepsize
# does (for the Hessian at the same $\alpha$: a shorter one), unless the operators were not those described, or the imaginary part
# was dropped.

# %% tags=["hide-input"]
made = [prefix + name for prefix in ("", "mri-", "sr-") for name in ("baseline", "hessian", "polynomial")]
display(Markdown(reports.printed_psnr(made, "D2GP Table I")))

# %% [markdown]
# ## Super-resolution: what the start is worth
#
# The papers' baseline for super-resolution is far below those of the other tasks, and learned preconditioners lift it far. The
# table collects both. A photograph of 110 x 110 pixels, the factor 4 and the denoiser packaged here are enough to see where the
# low baseline comes from. The first reconstruction has the papers' settings and the start $H^\top y$ of deepinv. The last one
# starts from an interpolated image (([Knutsson and Westin, 1993](references.md)), $H^\top y$ divided by $H^\top H\mathbf 1$)
# and takes the stepsize $1/L$. **Nothing is learned in any of them.**

# %% tags=["hide-input"]
display(Markdown(reports.printed_psnr(("sr-baseline", "sr-full-linear", "sr-l-dipa-supervised-r", "sr-n-dipa"))))

# %%
H = systems["super-resolution, RF 4"]
x = data.load("embedded", "test", size=110, count=1).images.to(place)
y = H.A(x)
settings = [("adjoint", 0.4), ("adjoint", "1/L"), ("pseudo_inverse", "1/L"), ("interpolated", 0.4), ("interpolated", "1/L")]
found = {}
for start, stepsize in settings:
    solver = dipa.FISTA(prior=pnp, iterations=20, start=start)
    found[start, stepsize] = solver(y, H, stepsize=stepsize, iterates=True).iterates

# %% tags=["hide-input"]
named = {f"{start},\n$\\alpha$ = {stepsize}": iterates[-1, 0, 0] for (start, stepsize), iterates in found.items()}
plots.methods({"truth": x[0, 0]} | named)
plots.plt.show()
basis, rows, audits = H.range_basis(), [], {}
for (start, stepsize), iterates in found.items():
    ends = audits[start, stepsize] = [analysis.audit(iterates[k], x, y, H, basis) for k in (0, 20)]
    errors = [f"{end[key]:.2f}" for key in ("error_range", "error_null") for end in ends]
    psnrs = [f"{metrics.psnr(iterates[k], x).item():.1f}" for k in (0, 20)]
    rows.append((f"`{start}`", str(stepsize), *psnrs, *errors))
marks = ("at the start", "after 20")
head = ("start", "stepsize", *(f"{what} {mark}" for what in ("PSNR", "error in range", "error in null space") for mark in marks))
display(Markdown(reports.table(head, rows)))
best, papers = (metrics.psnr(found[key][-1], x).item() for key in (("interpolated", "1/L"), ("adjoint", 0.4)))
assert best > papers + 5
assert audits["adjoint", "1/L"][1]["error_range"] < 0.05 < audits["adjoint", "1/L"][1]["error_null"] / 4

# %% [markdown]
# Read the errors. With $1/L$ the error in the range all but vanishes from every start: $\|H\|^2$ is far below 1 here, so that $\alpha=0.4$ is
# a small part of $1/L$, but that is the smaller matter. Even the pseudo-inverse, which explains the data perfectly, ends where
# the adjoint does. What remains is the null-space error *of the start*. The range of this operator is a grid of blurred dots.

# %% tags=["hide-input"]
constant = torch.ones(1, 1, 110, 110, device=place)
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
display(Markdown(reports.table(head, rows)))
assert max(condition[factor] for factor in (2, 3, 4)) < 10 < condition[1] / 100

# %% [markdown]
# ## FISTA in deepinv is not the printed FISTA
#
# D2GP prints Nesterov's weights (Algorithm 1, lines 5 and 6). DIPA (Sec. 4) says that it uses deepinv's FISTA. In deepinv 0.5.0
# the weights are $(k+a-2)/(k+a-1)$, by default with $a=3$: 2/3 in the first iteration, where the printed rule and the one that
# deepinv's documentation cites ([Chambolle and Dossal, 2015](references.md)) have 0. Which of our rules reproduces deepinv's
# own result?

# %%
H = systems["single pixel, ratio 0.2"]
x = data.load("embedded", "test", size=32, count=6).images.to(place)
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
display(Markdown(reports.table(("momentum", "PSNR after 20 iterations (dB)", "relative distance from deepinv's FISTA"), rows)))
assert distance["deepinv"] < 1e-4 < min(distance[rule] for rule in distance if rule != "deepinv")

# %% [markdown]
# For 20 iterations the heavier weights are an advantage. In the long run they are too heavy: they correspond to a friction
# below the one that the theory of accelerated methods needs ([Su et al., 2016](references.md)). [PnP and RED](pnp_red.ipynb)
# has the curves, and the same page shows that deepinv's RED is another algorithm than the one printed.
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
found = {"mean over images": metrics.psnr(answers, x).mean().item()}
found |= {f"of batches of {size}": metrics.psnr_batch_mse(answers, x, size) for size in (2, 3, 6)}
rows = [("PSNR (dB)", *(f"{psnr:.2f}" for psnr in found.values()))]
display(Markdown(reports.table(("the same reconstructions, single pixel", *found), rows)))
assert found["mean over images"] - found["of batches of 6"] > 0.1

# %% tags=["hide-input"]
slices = data.load("embedded-mri", "test", size=50, channels=2, count=1).images.to(place)
teacher = operators.mri((2, 50, 50), acceleration=2).to(place)
answers = {
    f"PnP-FISTA, {name}": dipa.FISTA(prior=pnp)(H.A(slices), H, stepsize=0.4).x
    for name, H in (("AF 2", teacher), ("AF 5", systems["MRI complex, AF 5"]))
}
wrong = "a wrong real part, an exact imaginary part"
answers[wrong] = torch.nn.functional.avg_pool2d(slices, 3, 1, 1) * torch.tensor([1.0, 0.0], device=place).reshape(1, 2, 1, 1)
scores = {name: [metrics.summary(x, slices, 1)[key] for key in ("psnr", "psnr_magnitude")] for name, x in answers.items()}
rows = [(name, *(f"{psnr:.2f}" for psnr in pair)) for name, pair in scores.items()]
display(Markdown(reports.table(("PSNR (dB), MRI", "over both channels", "of the modulus"), rows)))
assert abs(scores[wrong][0] - scores[wrong][1] - 3.01) < 0.01

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
size, lacking = (2, 50, 50), {}
for AF, seed in itertools.product((2, 3), range(10)):
    drawn = {"acceleration": 5, "teacher_acceleration": AF, "mask_seed": seed}
    made = {f"`mri_pair, nested={nested}`": operators.mri_pair(size, **drawn, nested=nested) for nested in (True, False)}
    made["generators of one seed"] = [operators.mri(size, acceleration=a, mask_seed=seed) for a in (5, AF)]
    for way, pair in made.items():
        lacking.setdefault((f"AF {AF}", way), []).append(operators.unshared_columns(*pair))
rows = [(*drawn, f"{min(counts)} to {max(counts)}") for drawn, counts in lacking.items()]
columns = int(systems["MRI complex, AF 5"].mask[0, 0, 0].sum())
head = ("teacher", "how the masks are drawn", f"of the student's {columns} columns, the teacher lacks")
display(Markdown(reports.table(head, rows)))
assert all((max(counts) > 1) == way.endswith("False`") for (_, way), counts in lacking.items())

# %% [markdown]
# ## The printed tables
#
# One file of this project holds the published numbers, with their tables, the doubts about them, and how symbols were
# read that the available text of DIPA has lost. Everything below is listed from that file.
#
# **The same cell, printed with different values.** A quantity called `student` is the PSNR of the row, of a baseline's row too.

# %% tags=["hide-input"]
display(Markdown(reports.contradictions()))

# %% [markdown]
# **Teachers.** A teacher has no $P$ and is not trained, so in one table it should be one number per teacher. Where it is
# printed several times with different values, the spread may be what a repeated evaluation gives in that pipeline: then it is a
# free estimate of its error bar.

# %% tags=["hide-input"]
display(Markdown(reports.teacher_spreads()))

# %% [markdown]
# **Doubts**, cell by cell:

# %% tags=["hide-input"]
display(Markdown(reports.doubts()))

# %% [markdown]
# **Readings.** What the text lost, what we put in its place, and for how many numbers. If a reading is wrong, the comparison of
# those numbers is wrong with it.

# %% tags=["hide-input"]
display(Markdown(reports.readings()))

# %% [markdown]
# Where the two papers differ in formulas, not in numbers, the last section of [Notation](notation.md) says which one is used.
#
# ## Limits
#
# - A doubt is not a proof: some of these values may be right for reasons the text does not give.
# - The super-resolution comparison is one photograph with our denoiser; the papers use CelebA and deepinv's.
