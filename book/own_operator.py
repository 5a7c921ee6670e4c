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
# # Bring your own operator
#
# The papers treat three instruments. Nothing in the method depends on them. This page takes any linear operator, looks at it, and
# finds out **what to use on it**: a preconditioner, learned or not, or none. Then it goes one step further on an operator that is
# in neither paper, sparse-view tomography: from two operators, a student and a teacher, to a saved preconditioner that
# runs inside deepinv, with the checks to make on the way.
#
# The pieces are deepinv's operators ([Tachella et al., 2025](references.md)), the packaged denoiser, and slices of a head that ship
# inside nibabel. These are MR images, not X-ray ones, and training and test slices are of the same head, with a gap between them:
# good enough to see how the steps fit together, no claim about tomography.

# %% tags=["hide-input"]
import tempfile
from dataclasses import replace

import deepinv
import torch
from IPython.display import Markdown, display

import dipa
from dipa import experiments, plots, reports
from dipa.operators.measure import measure

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
steps = 32  # of training

# %% [markdown]
# ## 1. Look at it
#
# Any deepinv `LinearPhysics` will do, ready-made or from two functions. A wrong adjoint raises no error, it sends every gradient
# somewhere else; so `dipa.inspect` looks before anything is trained: is it linear, is the adjoint one (the dot test compares
# $\langle Hx,y\rangle$ with $\langle x,H^\top y\rangle$), how large is $L=\lVert H\rVert^2$, which decides the stepsize, what does it
# see, what does it cost.

# %%
from deepinv.physics import GaussianNoise, LinearPhysics, Tomography

size = (1, 32, 32)
place = notebook.place(device)
noise = GaussianNoise(0.01)
student = Tomography(angles=12, img_width=32, normalize=True, noise_model=noise, device=place).to(place)
print(dipa.inspect(student, size))

# %% [markdown]
# Filtered backprojection, a fine reconstruction, in the place of $H^\top$ would be found out:

# %%
_wrong = LinearPhysics(A=student.A, A_adjoint=student.fbp)
found = dipa.inspect(_wrong, size)
print(f"adjoint: error {found.adjoint:.2f}, holds: {found.adjoint_holds}; recommended: {found.recommended.form}")
assert not found.adjoint_holds

# %% [markdown]
# ## 2. What to use on it
#
# `dipa.compare` runs every method on the operator: steps of $1/L$ with each momentum, preconditioners made from the operator, HQS
# and DRS of deepinv, preconditioners fitted to images in closed form; with a `budget` it trains L-DIPA and N-DIPA too, each on top of
# a closed form. Settings and iterations are chosen on other images than those that the table is about. The target is 0.1 dB below the
# best that any method reaches, and who is there first is first. Here a few of them, on small images.

# %%
solver = dipa.FISTA(dipa.PnP(dipa.denoisers.load().to(place), precision="auto"), iterations=10, start="zero")
images = dipa.data.load("embedded-mri", "train", size=32).images.to(place)
test = dipa.data.load("embedded-mri", "test", size=32, count=4).images.to(place)
methods = ["1/L", "Hessian", "learned scalars", "combined steps"]
compared = dipa.compare(student, images[:28], test=test, solver=solver, methods=methods, total_variation=False, progress=False)
print(compared)

# %%
compared.plot()
plots.plt.show()

# %% [markdown]
# *Combined steps* are the form of $P$ to try first on an operator of one's own. In iteration $k$
#
# $$P_k=\sum_{i,j}p_{k,ji}\,G_i\,T_j\!\left(\tfrac2LH^\top H-I\right),$$
#
# Chebyshev polynomials of the Gram, which even out what is measured unevenly, each followed by Gaussians of several widths, which
# carry what is measured to the pixels around it, into the null space. These are 30 numbers an iteration, found by least squares on
# the solver's own iterates, one iteration after the other: seconds, and no training loop. They have no units and belong to
# no image size. The start is zero, so that the first gradient holds all that was measured.

# %%
fit = dipa.fit_steps(dipa.CombinedSteps(solver.iterations).to(place), solver, student, images[:24])
y = measure(student, test)
x_hat = solver(y, student, preconditioner=fit).x
print(f"{dipa.metrics.psnr(x_hat, test).mean():.2f} dB after {fit.record['training_seconds']:.0f} s of fitting")

# %% [markdown]
# ## 3. Eight operators
#
# The same, recorded in full on eight operators of deepinv (`benchmarks/eight_operators.py`): photographs of BSDS500 at 48 x 48, for
# MRI the embedded slices, noise of 0.01 everywhere, 8 test images of other photographs than those that were fitted on. Bold is what
# has learned from images; seconds are those of all 8 test images, set-up included, the time of fitting beside.

# %% tags=["hide-input"]
_outputs = reports.cost.read(experiments.results_folder("benchmarks"))
eight = reports.comparisons(_outputs["eight_operators"])
display(Markdown(reports.by_operator(eight)))
_count, _where = reports.learned_first(eight), reports.cost.measured_on(_outputs["eight_operators"])
_seconds = [one["all_seconds"] for one in _outputs["eight_operators_untrained"]["operators"].values()]
display(
    Markdown(
        f"A preconditioner that has learned from images is first on **{_count} of {len(eight)}**. {_where} As in the README, on 40 "
        f"images and without trainings, a comparison takes {min(_seconds):.0f} to {max(_seconds):.0f} seconds."
    )
)

# %% [markdown]
# What training adds, on the same images and with the same choice by validation: L-DIPA starts at the closed form of a dense matrix (up
# to 2,304 numbers in an image), N-DIPA is a small network behind the combined steps; 40 steps of 8 images each.

# %% tags=["hide-input"]
display(Markdown(reports.what_training_adds(eight)))

# %% [markdown]
# And what the tool itself says about each:

# %% tags=["hide-input"]
display(Markdown("\n".join(f"- *{name}*: {comparison.advice}" for name, comparison in eight.items())))

# %% [markdown]
# Where much is not measured at all, the difference is large: a denoiser for little noise cannot fill holes, and steps of $1/L$ never
# reach what the operator does not see. Total variation can; it is in the table as a prior (TV and its level), alone and with learned
# steps in front of it. One of the tables in full:

# %% tags=["hide-input"]
display(Markdown(reports.whole(eight["inpainting"])))
eight["inpainting"].plot()
plots.plt.show()

# %% [markdown]
# ## 4. A teacher, and whether it knows more
#
# What was fitted above needs no second operator. Distillation asks for one: a teacher, simulated, that measures more. The student
# is the scanner that exists. First guess for a teacher: the same scanner with five times the views and no noise. They are two objects,
# since deepinv's operators hold state. Imitation cannot end above what it imitates. So before any training: what do student and
# teacher reach, without a preconditioner, in the $K$ iterations they will have?

# %%
views = Tomography(angles=60, img_width=32, normalize=True, device=place).to(place)
solver = replace(solver, prior=replace(solver.prior, precision="float32"))

# %% [markdown]
# More views are more information, but the iteration has to get at it. $H^\top H$ of a tomograph weights a frequency by about
# the inverse of its magnitude $\lvert\omega\rvert$ ([Kak and Slaney, 1988](references.md)), so detail arrives late. A teacher
# is simulated, though: nothing forbids to *condition* it. If its views are filtered by $\sqrt{\lvert\omega\rvert}$ along the
# detector, $H_t^\top H_t$ is nearly a multiple of the identity (it is filtered backprojection then). Two functions make an
# operator, and operators compose:

# %%
root = torch.fft.rfftfreq(128, device=place)[None, None, :, None].sqrt()


def filtered(sinogram, **_):
    spectrum = root * torch.fft.rfft(sinogram, n=128, dim=2)
    return torch.fft.irfft(spectrum, n=128, dim=2)[:, :, : sinogram.shape[2]]


teacher = LinearPhysics(A=filtered, A_adjoint=filtered) * views

# %% tags=["hide-input"]
psnr = {}
for name, physics in {"student, 12 views": student, "60 views": views, "60 views, filtered": teacher}.items():
    x = solver(measure(physics, test), physics, stepsize=1 / dipa.solvers.lipschitz(physics, size)).x
    psnr[name] = dipa.metrics.psnr(x, test).mean().item()
_head = ("operator", f"PSNR after {solver.iterations} iterations (dB)")
display(Markdown(reports.table(_head, [(name, f"{value:.2f}") for name, value in psnr.items()])))
assert psnr["60 views, filtered"] > psnr["60 views"] + 5
assert psnr["60 views"] < psnr["student, 12 views"] + 2

# %% [markdown]
# At this $K$ five times the views teach next to nothing, and the same views, filtered, are a teacher. This table costs seconds.
#
# ## 5. Distil, save, load, solve
#
# $P$ can be anything that maps a gradient to a direction. The smallest that could help comes first: a kernel of 5 x 5 pixels
# for each iteration, started as the identity, the convolutional step of [Ehrhardt et al. (2024)](references.md). The loss is
# imitation, DIPA Eq. (9) ([Gualdrón-Hurtado et al., 2026](references.md)).

# %%
P = dipa.ConvolutionalSteps(solver.iterations).to(place)
options = {
    "losses": dipa.LossWeights(imitation=1.0),
    "budget": dipa.Budget(steps=steps, batch_size=3, learning_rate=0.03, schedule="cosine"),
    "stepsize": 1.0,
    "teacher_stepsize": 1 / dipa.solvers.lipschitz(teacher, size),
    "validation": 0,  # all images are trained on
}
fast = replace(solver, prior=replace(solver.prior, precision="auto"))  # half the time of float32
fit = dipa.distill(fast, P, student, teacher, images[:48], **options, progress=False)

folder = tempfile.TemporaryDirectory()
path = dipa.save(fit, f"{folder.name}/tomography.safetensors")
P, record = dipa.load(path)
P = P.to(place)
x_hat = solver(y, student, preconditioner=P, stepsize=1.0).x

# %% [markdown]
# The noise of the student's measurements depends on the seed and the number of the image alone. The last digits of deepinv's norm change
# from one `Tomography` to the next, however, and training amplifies them: expect the numbers of this page to move by some tenths of a
# decibel when it is built again. The file is safetensors with the record of what made it; nothing is pickled.

# %% tags=["hide-input"]
folder.cleanup()
display(
    Markdown(
        f"{P.parameter_count} numbers, trained on {record['images']} images in {record['budget']['steps']} steps, "
        f"{record['training_seconds']:.0f} s."
    )
)

# %% [markdown]
# ## 6. What it is worth
#
# Beside the baseline belong the competitors that need no training, or no distillation:
#
# - patience: the baseline with more iterations, and from the pseudo-inverse;
# - the Hessian preconditioner $(H^\top H+\lambda I)^{-1}$, made for ill-conditioned operators, with the better of two $\lambda$;
# - combined steps, fitted in closed form as in section 2;
# - the closed-form linear predictor ([L-DIPA](l_dipa.ipynb)). For an operator that has no fast basis of its own, it takes a dense
#   SVD, up to 4096 pixels.

# %%
weights = {"regularization": 3e-4, "null_weight": 0.5}
ridge = dipa.LinearPreconditioner.ridge(student, images, stepsize=1.0, **weights)
fitted = dipa.fit_steps(dipa.CombinedSteps(solver.iterations).to(place), fast, student, images[:24], stepsize=1.0)
damped = {value: dipa.Hessian(student, size, regularization=value) for value in (0.1, 0.3)}

# %% tags=["hide-input"]
tried = {"baseline": None, "distilled": P, "combined steps": fitted, "closed form": ridge} | {
    f"Hessian {value:g}": matrix for value, matrix in damped.items()
}
twice, K = replace(solver, iterations=2 * solver.iterations), solver.iterations
kept = {"stepsize": 1.0, "iterates": True}
with dipa.solvers.another_setting():  # longer than P was trained for, on purpose
    runs = {name: twice(y, student, preconditioner=matrix, **kept).iterates for name, matrix in tried.items()}
runs["pseudo-inverse start"] = replace(twice, start="pseudo_inverse")(y, student, **kept).iterates
curves = {name: [dipa.metrics.psnr(x, test).mean().item() for x in iterates] for name, iterates in runs.items()}
_best = max((name for name in curves if name.startswith("Hessian")), key=lambda name: curves[name][K])
shown = [name for name in curves if not name.startswith("Hessian") or name == _best]
rows = [
    (name, f"{curves[name][K]:.2f}", f"{curves[name][K] - curves['baseline'][K]:+.2f}", f"{curves[name][-1]:.2f}")
    for name in shown
]
_head = ("P", f"PSNR at K = {K} (dB)", "gain", f"PSNR at {2 * K} iterations (dB)")
display(Markdown(reports.table(_head, rows)))
plots.compare({name: curves[name][: K + 1 if name == "distilled" else None] for name in shown})
plots.plt.show()
assert curves["distilled"][K] > curves["baseline"][K] + 1
assert max(curves["baseline"]) > curves["baseline"][K] + 1
display(Markdown(f"Highest at K = {K}: **{max(shown, key=lambda name: curves[name][K])}**."))

# %% [markdown]
# Be honest with yourself here. The distilled $P$ gains much over the baseline *at the $K$ it was trained for*. So do the closed form and
# the Hessian, which needs a linear solve inside every iteration but no data; and the baseline itself catches up when it is given
# more iterations. What was distilled is speed, a preconditioner in the classical sense. Where the operator is ill-conditioned, this
# is what to expect from a small $P$; the null space is the matter of larger ones and more images.
#
# Look at the last column, too: $P$ has $K$ kernels, and a longer run repeats the last one, which was never asked to be stable. Its line in the
# figure ends at $K$.

# %% tags=["hide-input"]
_index = 2
planes = {"truth": test[_index, 0]} | {name: runs[name][K][_index, 0] for name in shown}
plots.methods(planes)
plots.plt.show()

# %% [markdown]
# The kernels it has learned, for $k=1,\dots,K$:

# %% tags=["hide-input"]
kernels = P.steps.detach()
plots.tiles({"kernel": kernels})
plots.plt.show()
gain = torch.fft.fft2(kernels, s=(32, 32)).abs().mean(dim=0)[0]  # along one axis, 0 to 1/2 cycle a pixel
coarse, middle, fine = gain[0].item(), gain[4:9].mean().item(), gain[16].item()
display(
    Markdown(
        f"Their mean gain is {coarse:.2f} for a flat gradient, {middle:.2f} for waves of four to eight pixels, {fine:.2f} for the finest. Coarse "
        "errors, which this operator sees best, need no help; middle ones are sped up, as the ramp of filtered backprojection would; the "
        "finest, where the noise is, are held back."
    )
)
assert middle > coarse and middle > fine

# %% [markdown]
# ## 7. Inside deepinv
#
# `dipa.to_deepinv` makes a deepinv `BaseOptim` of solver and preconditioner: `model(y, physics)` is the reconstruction, and deepinv's
# metrics and trainers work on it. `torch.compile(model)` takes it as one graph.

# %%
model = dipa.to_deepinv(solver, P, student, stepsize=1.0)
with torch.no_grad():
    difference = (model(y, student) - x_hat).abs().max().item()
print(f"largest difference to our solver: {difference:.1e}")
assert difference < 5e-5

# %% [markdown]
# ## 8. A mask that changes, and images that do not fit
#
# A scanner does not draw the same lines every day. `distill` goes over a list of students, each with a teacher or all with one; over
# one operator with a row of parameters for every image; or, as here, over what a generator of deepinv draws for every image of every
# step. $P$ then belongs to no operator alone, and is used on masks that it has never seen:

# %%
draw = deepinv.physics.generator.GaussianMaskGenerator((32, 32), acceleration=4)
heads, others = (dipa.data.load("embedded-mri", split, size=32, channels=2, count=24).images for split in ("train", "test"))


def scanner(seed):
    noise = deepinv.physics.GaussianNoise(0.01)
    return deepinv.physics.MRI(mask=draw.step(1, seed=seed)["mask"], img_size=(32, 32), noise_model=noise)


short = dipa.FISTA(dipa.PnP(dipa.denoisers.load()), iterations=6, start="adjoint")
any_mask = dipa.distill(
    short,
    dipa.ConvolutionalSteps(6),
    scanner(seed=0),
    None,
    heads,
    losses=dipa.LossWeights(supervised=1.0),
    budget=dipa.Budget(steps=16, batch_size=4, learning_rate=0.03, schedule="cosine"),
    physics_generator=draw,
    validation=0,
    progress=False,
)

# %% tags=["hide-input"]
_unseen = {}
for seed in (101, 102, 103):
    physics = scanner(seed)
    y_seed = measure(physics, others, seed=seed)
    _unseen[seed] = [
        dipa.metrics.psnr(short(y_seed, physics, preconditioner=matrix).x, others).mean().item() for matrix in (None, any_mask)
    ]
rows = [(f"mask {seed}", f"{plain:.2f}", f"{learned:.2f}") for seed, (plain, learned) in _unseen.items()]
display(Markdown(reports.table(("never seen in training", "no P (dB)", "P of drawn masks (dB)"), rows)))
assert all(learned > plain for plain, learned in _unseen.values())

# %% [markdown]
# A set of images that is larger than memory stays where it is: `dipa.data.Streamed(dataset)` in the place of the images reads each
# batch when its step comes, and the closed form goes through it once.
#
# ## 9. Audit the result
#
# Does the reconstruction still explain the measurements, and where is its error? The falsification test, its thresholds and its limits
# are explained on [the audit page](audit.ipynb).

# %%
basis = dipa.operators.range_basis(student, size)
verdict = dipa.analysis.falsification(solver, student, P, y, test, 1.0, basis)

# %% tags=["hide-input"]
audits = {name: dipa.analysis.audit(runs[name][K], test, y, student, basis) for name in shown}
rows = [(name, *(f"{found[key]:.3f}" for key in ("residual", "error_range", "error_null"))) for name, found in audits.items()]
display(Markdown(reports.table((f"run, K = {K}", "residual", "error in range", "error in null space"), rows)))
assert verdict["error_range"] < verdict["baseline"]["error_range"]
_checks = ", ".join(f"{check} {'yes' if held else 'no'}" for check, held in verdict["checks"].items())
display(
    Markdown(
        f"The noise alone leaves a residual of {verdict['truth_residual']:.3f}. Test of the distilled $P$ **{'passed' if verdict['passed'] else 'failed'}**: "
        f"{_checks}."
    )
)

# %% [markdown]
# A good part of the baseline's error lies in the range: measured, but not yet reached. That is where a preconditioner of an
# ill-conditioned operator helps first; the pseudo-inverse, which explains every measurement, explains the noise as well.
#
# ## 10. Errors you will meet
#
# Bad input is refused at the door, in one line that says what was given and what is allowed.

# %% tags=["hide-input"]
_losses = dipa.LossWeights(imitation=1.0)
_other = dipa.LinearPreconditioner.identity(Tomography(angles=4, img_width=24, normalize=True, device=place), (1, 24, 24))
mistakes = {
    "one object for teacher and student": lambda: dipa.distill(solver, P, student, student, images, losses=_losses),
    "no teacher for a loss that needs one": lambda: dipa.distill(solver, P, student, None, images, losses=_losses),
    "an operator that does not carry its size": lambda: dipa.LinearPreconditioner.identity(student),
    "a dense basis of large images": lambda: dipa.LinearPreconditioner.identity(student, (1, 128, 128)),
    "measurements of another scanner": lambda: solver(y[..., :-2], student),
    "a P made for other images": lambda: solver(y, student, preconditioner=_other, stepsize=1.0),
    "a wrong adjoint, in training": lambda: dipa.distill(
        solver, P, _wrong, None, images, losses=dipa.LossWeights(supervised=1.0)
    ),
    "a stepsize that is none": lambda: solver(y, student, stepsize="auto"),
    "a stepsize far too large, in training": lambda: dipa.distill(
        twice, P, student, None, images[:4], losses=dipa.LossWeights(supervised=1.0), stepsize=40.0, progress=False
    ),
}
rows = []
for what, call in mistakes.items():
    try:
        call()
    except dipa.InputError as error:
        rows.append((what, f"`{str(error).splitlines()[0]}`"))
assert len(rows) == len(mistakes)
display(Markdown(reports.table(("mistake", "message"), rows)))

# %% [markdown]
# A run that diverges is no error but a result: its `status` says so, and `message` at which iteration.

# %%
print(twice(y, student, stepsize=40.0).message)

# %% tags=["remove-cell", "nbval-check-output"]
print(P.parameter_count, len(rows), verdict["passed"], len(fit.history))

# %% [markdown]
# ## For your own operator
#
# 1. A deepinv `LinearPhysics`, ready-made or from two functions `A` and `A_adjoint` that take batches (B, C, H, W). `dipa.inspect` it.
# 2. Images of one size, real, in [0, 1]: the denoiser is trained for that range. Complex images are two channels.
# 3. `dipa.compare` it on 40 images like yours, and use what is first. "Do not train" is an answer.
# 4. Try `CombinedSteps` from a start of zero before anything that is trained; the closed form of `LinearPreconditioner.ridge` (by
#    `dipa.training.fit_ridge`) where you have thousands of images of one kind.
# 5. Distil where a better operator can be simulated. Make the teacher a better *algorithm run*, not only a richer measurement: look
#    at its PSNR at your $K$. `NeuralPreconditioner` and a trained `LinearPreconditioner` want more images and steps.
# 6. From $H^\dagger y$ of noiseless data the first gradient is zero, and a $P$ that fills the null space from gradients has nothing
#    to start from.
# 7. Train with the noise you will have, and audit the result against a baseline that was given its best stepsize and $K$.
# 8. `dipa evaluate RUN --images FOLDER` says what a finished run does on pictures of yours; a $P$ knows the images it was made from.
