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
# # L-DIPA: one matrix
#
# L-DIPA multiplies every data gradient by one matrix $P\in\mathbb{R}^{n\times n}$, the same at every iteration
# ([Gualdrón-Hurtado et al., 2026](references.md)) (Sec. 3.3, in the iteration of Eq. 4):
#
# $$x^{k} = D\big(z^{k} - \alpha\,P\,\nabla g(z^{k})\big), \qquad \nabla g(z) = H^\top(Hz-y).$$
#
# $P$ need be neither symmetric nor positive definite: it is a trained direction, not the metric of a linear system. This
# page takes it apart on a single-pixel camera small enough to compute everything here: photographs cut to 16 x 16 pixels, the
# packaged denoiser, few iterations. The numbers below are made when the page is built; those to compare with the papers are in
# [the results](results_single_pixel.ipynb).

# %% tags=["hide-input"]
import torch
from IPython.display import Markdown, display

import dipa
from dipa import experiments, plots, reports

LABELS = {"single_pixel": "single pixel", "mri": "MRI", "super_resolution": "super-resolution"}

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
size, ratio, teacher_ratio = 16, 0.2, 0.7  # side of the images; measured share of the student and of the teacher
iterations = 8
few, steps = 12, 10  # images and steps of the short training below
test_count = 48

# %% tags=["hide-input"]
place = notebook.place(device)
student = dipa.operators.single_pixel((1, size, size), ratio=ratio).to(place)
teacher = dipa.operators.single_pixel((1, size, size), ratio=teacher_ratio).to(place)
denoiser = dipa.denoisers.load().to(place)
solver = dipa.FISTA(prior=dipa.PnP(denoiser), iterations=iterations, start="zero")
train = dipa.data.load("embedded", "train", size=size).images.to(place)
test = dipa.data.load("embedded", "test", size=size, count=test_count).images.to(place)
y = student.A(test)
basis = student.range_basis()

# %% [markdown]
# ## What P can see
#
# Every data gradient is $H^\top$ of something, so it lies in $\mathrm{range}(H^\top)$. With orthonormal rows
# $V\in\mathbb{R}^{r\times n}$ spanning that range, $\nabla g = V^\top V\,\nabla g$, hence
#
# $$P\,\nabla g = B\,V\,\nabla g, \qquad B = P\,V^\top \in \mathbb{R}^{n\times r}.$$
#
# The rest of $P$ meets no gradient. The class `LinearPreconditioner` therefore trains $B$ (`form="low_rank"`, this project's
# form) or all of $P$ (`form="dense"`, the papers'). At the papers' sizes:

# %% tags=["hide-input"]
rows = []
for name in ("l-dipa-supervised", "mri-l-dipa-supervised", "sr-l-dipa-supervised"):
    task = experiments.resolve(name, "paper").task
    seen = dipa.operators.plane_basis(task.pair()[0])
    n, r = task.size**2, seen.dim
    rows.append((LABELS[task.kind], f"{task.size} x {task.size}", f"{n:,}", f"{r:,}", f"{n * n:,}", f"{n * r:,}"))
    assert r < n
display(Markdown(reports.table(("task", "image", "n", "r", "dense $n^2$", "low-rank $n\\,r$"), rows)))

# %% [markdown]
# For MRI, $n$ counts the pixels of one channel: real and imaginary part share one $P$, as explained below.
#
# ## Dense and low-rank give the same iterates
#
# A dense $P$ is trained for a few steps from the identity, then cut down to $B = PV^\top$. The figure shows, iteration by
# iteration, how far the two runs are apart, and for scale how far both are from the run without $P$.

# %% tags=["hide-input"]
fast = dipa.FISTA(prior=dipa.PnP(denoiser, precision="auto"), iterations=iterations, start="zero")
budget = dipa.Budget(steps=steps, batch_size=few, learning_rate=1e-3, schedule="constant")
options = {"losses": dipa.LossWeights(imitation=1.0), "budget": budget, "stepsize": 0.4, "teacher_stepsize": 0.7}
options |= {"validation": 0, "progress": False}

# %%
dense = dipa.LinearPreconditioner.identity(student, form="dense")
dipa.distill(fast, dense, student, teacher, train[:few], **options)
V = basis.image(torch.eye(basis.dim, device=place)).flatten(1)
low_rank = dipa.LinearPreconditioner(dense.matrix.detach() @ V.T, basis)

# %% tags=["hide-input"]
with torch.no_grad():
    _runs = [solver(y, student, preconditioner=P, stepsize=0.4, iterates=True).iterates for P in (None, dense, low_rank)]
plain, with_dense, with_low_rank = (iterates.flatten(1) for iterates in _runs)
apart, moved = (with_dense - with_low_rank).norm(dim=1)[1:], (with_dense - plain).norm(dim=1)[1:]
plots.compare(
    {"dense - low-rank": [float("nan"), *apart.tolist()], "dense - without P": [float("nan"), *moved.tolist()]},
    "norm over all images",
    True,
)
plots.plt.show()
assert (apart < 1e-4 * moved).all()
_change = dense.matrix.detach() - torch.eye(size**2, device=place)
_seen = (_change @ V.T).norm() ** 2 / _change.norm() ** 2
display(
    Markdown(
        f"The dense $P$ has {dense.parameter_count:,} numbers, the low-rank one {low_rank.parameter_count:,}. What separates "
        f"the runs is rounding. {100 * (1 - _seen):.0f} % of the squared change that training made to the dense matrix lies in the "
        "block that no gradient meets: Adam rescales every entry by itself and so does not respect the subspace. It has no effect."
    )
)

# %% [markdown]
# Two consequences. A picture of a dense $P$, as in DIPA Fig. 2, shows entries that never act beside those that do. And a dense
# $P$ that meets *another* operator shows its other block there: started from the identity, it acts about as the identity on
# what the first operator did not see. The low-rank form reproduces this with `complement=1.0`.
#
# ## What P can add
#
# The Gram $H^\top H$ of this camera is an orthogonal projector: inside the range there is nothing to equalise, and
# preconditioning there is a stepsize. What is left is the null space. $P$ can fill it, because its columns need not lie in the
# range: from what is measured, it guesses what is not. Over all training images the best such guess has a closed form, the
# ridge regression of the image on its data gradient from zero,
#
# $$B = \arg\min_B \sum_i \|x_i-\alpha B\,V H^\top Hx_i\|_2^2+\lambda N\|\alpha B\|_F^2 .$$
#
# It costs one pass over the images and no reconstruction. `null_weight` scales the part that leaves the range: applied again at
# every iteration with momentum, the full guess can overshoot.

# %%
starts = {f"closed form, null_weight {w:g}": w for w in (0.0, 0.5, 1.0)}
P = {"identity (baseline)": dipa.LinearPreconditioner.identity(student)}
P |= {name: dipa.LinearPreconditioner.ridge(student, train, stepsize=0.4, null_weight=w) for name, w in starts.items()}

# %% tags=["hide-input"]
results, audits, rows = {}, {}, []
for name, preconditioner in P.items():
    with torch.no_grad():
        x = solver(y, student, preconditioner=preconditioner, stepsize=0.4).x
    results[name], audits[name] = dipa.metrics.psnr(x, test).mean().item(), dipa.analysis.audit(x, test, y, student, basis)
    _audit = (audits[name][key] for key in ("residual", "error_range", "error_null"))
    rows.append((name, f"{results[name]:.2f}", *(f"{value:.4f}" for value in _audit)))
display(Markdown(reports.table(("P", "PSNR (dB)", "residual", "error in range", "error in null space"), rows)))
_first, *_, _full = results
_squares = [audits[_first][key] ** 2 for key in ("error_range", "error_null")]
_share = _squares[1] / sum(_squares)
display(Markdown(f"Of the baseline's squared error, {100 * _share:.1f} % lies in the null space of $H$."))
assert _share > 0.9
assert results[_full] > results[_first] + 0.3

# %% [markdown]
# With `null_weight` 0 no direction leaves the range: up to the ridge term this $P$ is $\Pi/\alpha$, the baseline with the step
# $1/L$, and the null-space error stays what the denoiser makes of it. What `null_weight` adds shows in the last column.
#
# What the matrix does to single measurements: above, the measured Hadamard functions that hold most of the photographs' energy,
# after the constant; below, what the closed form adds to each of them outside the range, on a scale of its own. Most answers
# are faint: a single coefficient says little about the unmeasured ones. Where they are strong they work against the sharp edges
# of the blocks, which photographs do not have.

# %% tags=["hide-input"]
_energy = basis.coordinates(train).square().mean(0)
_coordinates = torch.eye(basis.dim, device=place)[_energy.argsort(descending=True)[1:8]]
_functions = basis.image(_coordinates)
with torch.no_grad():
    _answers = P[_full](_functions, _functions, 1)
_outside = _answers - basis.project(_answers)
plots.tiles({"measured": _functions[:, 0], "added by P": _outside[:, 0]})
plots.plt.show()

# %% [markdown]
# ## The losses
#
# Training moves $P$ further, by the gradient of a loss at the end of all $K$ iterations. DIPA's terms, per image
# ([Notation](notation.md) has shapes and names):
#
# | term | formula | source |
# |---|---|---|
# | gradient | $L_G = \lvert 1 - S_c(P\nabla g_s(\hat x_s), \nabla g_t(\hat x_t))\rvert^2$, $S_c$ the cosine | DIPA Eq. (8) |
# | imitation | $L_I = \lVert\hat x_s-\hat x_t\rVert_2^2$ | DIPA Eq. (9) |
# | supervised, in the place of $L_I$ | $L_S = \lVert\hat x_s-x\rVert_2^2$ | DIPA Eq. (10) |
# | regulariser | $R = \lVert(P H_s^\top H_s-H_t^\top H_t)\,x\rVert_2^2$ | DIPA Eq. (12), a reading |
#
# Eq. (7) sums the first two, Eq. (13) adds $\lambda_R R$. Below, a short training with Eq. (7) from two starts, on the same few
# images at every step, so that the curve has no noise.

# %%
options["losses"] = dipa.LossWeights(imitation=1.0, gradient=1.0)
fits = {}
for name in (_first, _full):
    trained = dipa.LinearPreconditioner(P[name].matrix.detach(), basis)
    fits[name] = dipa.distill(fast, trained, student, teacher, train[:few], **options)

# %% tags=["hide-input"]
plots.compare({name: [record["psnr"] for record in fit.history] for name, fit in fits.items()}, xlabel="training step")
plots.plt.show()
rows = []
for name, fit in fits.items():
    begin, end = fit.history[0], fit.history[-1]
    with torch.no_grad():
        x = solver(y, student, preconditioner=fit.preconditioner, stepsize=0.4).x
    _test = dipa.metrics.psnr(x, test).mean().item()
    _terms = (f"{begin[term]:.3f} → {end[term]:.3f}" for term in ("imitation", "gradient"))
    rows.append((name, *_terms, f"{begin['psnr']:.2f} → {end['psnr']:.2f}", f"{results[name]:.2f} → {_test:.2f}"))
    assert end["imitation"] < begin["imitation"]
_head = ("start", "$L_I$", "$L_G$", "PSNR, training images", "PSNR, test images")
display(Markdown(reports.table(_head, rows)))
display(
    Markdown(
        f"Trained on {few} images, tested on {len(test)} others. The loss falls as it should. {low_rank.parameter_count:,} numbers "
        f"learn {few} images by heart, though: compare the last two columns. The closed form above was fitted on {len(train):,} "
        "images, which is why the recorded runs start there and train on fresh images at every step."
    )
)

# %% [markdown]
# ## The regulariser R
#
# DIPA bounds the distance between one update of the student and one of the teacher on noiseless measurements of the true image,
# and takes the part that depends on $P$ as a regulariser (Eq. 12). It involves no denoiser and no iteration: it is a
# regression, and for a teacher that sees everything it is the closed form above with $\alpha=1$ and no ridge. Stepsizes are not
# part of $R$ as this project reads it, so $R$ judges the closed form, which carries $1/\alpha$, by its scale first:

# %% tags=["hide-input"]
_seen, _wanted = student.A_adjoint_A(test), teacher.A_adjoint_A(test)
_scaled = 0.4 * P[_full].matrix.detach()
_three = {"identity": P[_first], "closed form": P[_full], "$\\alpha$ x closed form": dipa.LinearPreconditioner(_scaled, basis)}
with torch.no_grad():
    R = {name: dipa.losses.convergence(P(_seen, test, 1), _wanted).mean().item() for name, P in _three.items()}
display(Markdown(reports.table(("P", "R, mean over test images"), [(name, f"{value:.3f}") for name, value in R.items()])))
assert R["$\\alpha$ x closed form"] < R["identity"] < R["closed form"]

# %% [markdown]
# ## Turn the settings
#
# One photograph cut to 32 x 32 pixels, and RED as the prior, whose weight $\lambda$ can be set ([PnP and RED](pnp_red.ipynb)). *Baseline* is the student's
# run without $P$, *student* the run with the closed form for $\alpha=0.4$, *teacher* the run of the better operator. In the book the
# pictures are precomputed for a few values; in a live session (the cell has to be run) every value in between is solved. A
# run that grows without bound stops; its last picture stays.

# %% tags=["hide-input"]
from functools import lru_cache

_photographs = dipa.data.load("embedded", "train", size=32).images.to(place)
_shown = dipa.data.load("embedded", "test", size=32, count=5).images[4:].to(place)
_few, _more = (dipa.operators.single_pixel((1, 32, 32), ratio=share).to(place) for share in (ratio, teacher_ratio))
_closed = dipa.LinearPreconditioner.ridge(_few, _photographs, stepsize=0.4)
_runs_of = {"baseline": (_few, None), "student": (_few, _closed), "teacher": (_more, None)}


@lru_cache
def _iterates(run, stepsize, weight):
    H, preconditioner = _runs_of[run]
    red = dipa.FISTA(prior=dipa.RED(denoiser, weight=weight), iterations=20, start="adjoint")
    with dipa.solvers.another_setting():  # other stepsizes than P was made with, on purpose
        options = {"preconditioner": preconditioner, "stepsize": stepsize, "iterates": True}
        return red(H.A(_shown), H, **options).iterates[:, 0, 0]


plots.explorer(
    lambda run, iterations, stepsize, prior_weight: _iterates(run, stepsize, prior_weight)[: iterations + 1][-1],
    _shown[0, 0],
    {
        "run": ("baseline", "student", "teacher"),
        "iterations": (0, 1, 2, 5, 10, 20),
        "stepsize": (0.1, 0.4, 1.0),
        "prior_weight": (0.1, 1.0, 4.0),
    },
    {"run": "student", "iterations": 20, "stepsize": 0.4, "prior_weight": 1.0},
)

# %% [markdown]
# ## One P for every channel
#
# Complex MRI images have two channels, real and imaginary part. The counts of D2GP Table I have $n = 50^2$ for MRI, so one $P$
# serves both channels. `planes=True` does this: $V$ then spans the single channels of all data gradients (real Hartley
# functions on the mask or its mirror image), and each channel is an image of its own. The other choice, one $P$ for the pair,
# has more numbers and sees more: it can use that slices with a zero imaginary part have a symmetric spectrum.

# %%
mri = dipa.operators.mri((2, 24, 24), acceleration=4).to(place)
slices = dipa.data.load("embedded-mri", "train", size=24, channels=2).images.to(place)
shown = dipa.data.load("embedded-mri", "test", size=24, channels=2, count=8).images.to(place)

# %% tags=["hide-input"]
rows, counts, quality = [], {}, {}
for name, planes in (("one P for each channel alike (planes)", True), ("one P for the pair of channels", False)):
    found = {"stepsize": 0.4, "planes": planes}
    Q = dipa.LinearPreconditioner.ridge(mri, slices, **found)
    with torch.no_grad():
        x = solver(mri.A(shown), mri, preconditioner=Q, stepsize=0.4).x
        swapped = Q(shown.flip(1), shown, 1).flip(1)
        alike = torch.allclose(swapped, Q(shown, shown, 1), atol=1e-4)
    counts[planes], quality[planes] = Q.parameter_count, dipa.metrics.psnr(x, shown).mean().item()
    _numbers = (str(tuple(Q.matrix.shape)), f"{Q.parameter_count:,}", "yes" if alike else "no")
    rows.append((name, *_numbers, f"{quality[planes]:.2f}"))
with torch.no_grad():
    x = solver(mri.A(shown), mri, stepsize=0.4).x
rows.append(("without P", "", "0", "yes", f"{dipa.metrics.psnr(x, shown).mean():.2f}"))
display(Markdown(reports.table(("closed form", "B", "parameters", "channels treated alike", "PSNR (dB)"), rows)))
assert counts[True] < counts[False] and quality[True] < quality[False]

# %% [markdown]
# PSNR is over both channels here, which is not that of the modulus. The imaginary part of the true slices is zero.
#
# ## Few images
#
# The closed form is as good as its images are many: a covariance of 205 measurements and 1,024 pixels is not known from a
# thousand digits. But a digit that is moved by a pixel, or turned by a few degrees, is as likely a digit as before. So every
# image may enter the sums with varied copies beside it (`dipa.Variations`, `LinearPreconditioner.ridge(variations=)`), at the
# price of seconds. How far they go, and $\lambda$, were chosen on an eighth of the training images held out. Recorded on all three
# tasks:

# %% tags=["hide-input"]
_names = ("ridge-1024", "ridge-1024-varied", "ridge-full", "mri-ridge", "mri-ridge-varied", "sr-ridge", "sr-ridge-varied")
_all = reports.by_preset(experiments.find_runs(experiments.results_folder(), deep=True))
_rows = [
    (
        f"`{run.config.preset}`",
        f"{run.config.data.ridge_count:,}",
        str(run.config.variations.copies),
        f"{run.config.preconditioner.regularization:g}",
        *(f"{run.metrics[role]['psnr']:.2f}" for role in ("baseline", "student")),
    )
    for name in _names
    for run in _all.get(name, [])
]
_head = ("preset", "images", "copies of each", "$\\lambda$", "baseline (dB)", "closed form (dB)")
display(Markdown(reports.table(_head, _rows)))

# %% [markdown]
# The rows of MRI differ in more than the copies: with them one $P$ acts on both channels together, and so learns that the
# imaginary part of these magnitude images is zero, which would not be so of complex ones. Their baselines differ, since the row
# with copies has no momentum.
#
# ## Recorded runs
#
# Trained with enough images, the papers' denoiser and digits of 32 x 32 pixels: these folders are read here, and their tables
# are on [the results page](results_single_pixel.ipynb).

# %% tags=["hide-input"]
recorded = [run for run in experiments.find_runs(experiments.results_folder("single_pixel")) if run.config.method == "l-dipa"]
_rows = [
    (
        f"`{run.path.name}`",
        experiments.describe(run.config.preset)["about"],
        *(f"{run.metrics[role]['psnr']:.2f}" for role in plots.ROLES),
    )
    for run in recorded
]
display(Markdown(reports.table(("run", "preset", *plots.ROLES), _rows)))

# %% tags=["remove-cell", "nbval-check-output"]
print(tuple(dense.matrix.shape), tuple(low_rank.matrix.shape), counts)

# %% [markdown]
# ## Limits
#
# - $P$ belongs to its operator, denoiser and kind of images, and grows with the square of the image: at 110 x 110 pixels the
#   dense form has more numbers than a large network. [N-DIPA](n_dipa.ipynb) puts a network in its place.
# - A linear guess of the null space is the same for every image. Where images differ in what their measurements say about the
#   rest, it guesses the average.
# - Eq. (12) is a reading: its symbols are lost in the text available to this project.
