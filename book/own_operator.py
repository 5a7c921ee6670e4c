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
# The papers treat three instruments. Nothing in the method depends on them: student and teacher may be any two linear operators on
# the same images, as long as each has an exact adjoint. This page takes one that is in neither paper, sparse-view tomography, from
# two operators to a saved preconditioner that runs inside deepinv, with the checks to make on the way.
#
# The pieces are deepinv's `Tomography` with parallel beams ([Tachella et al., 2025](references.md)), the packaged denoiser, and
# slices of a head that ship inside nibabel. These are MR images, not X-ray ones, and training and test slices are of the same
# head, with a gap between them: good enough to see how the steps fit together, no claim about tomography.

# %% tags=["hide-input"]
import tempfile
from dataclasses import replace

import torch
from IPython.display import Markdown, display

import dipa
from dipa import plots, reports
from dipa.operators.measure import measure

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
steps = 32  # of training

# %% [markdown]
# ## 1. Two operators
#
# The student is the scanner that exists: few views, with noise. The teacher exists in simulation only; first guess, the same
# scanner with five times the views and no noise. They are two objects, since deepinv's operators hold state.

# %%
from deepinv.physics import GaussianNoise, LinearPhysics, Tomography

size = (1, 32, 32)
place = notebook.place(device)
noise = GaussianNoise(0.01)
student = Tomography(angles=12, img_width=32, normalize=True, noise_model=noise, device=place).to(place)
views = Tomography(angles=60, img_width=32, normalize=True, device=place).to(place)

# %% [markdown]
# ## 2. Check them
#
# Is the adjoint an adjoint? The dot test compares $\langle Hx,y\rangle$ with $\langle x,H^\top y\rangle$
# (`dipa.linalg.dot_test_error`). A wrong adjoint raises no error, it sends every gradient somewhere else; the last row
# puts filtered backprojection, a fine reconstruction, in the place of $H^\top$. Then the norm, which decides the stepsize, and what the
# operator sees: its rank, and the condition number on its range.

# %% tags=["hide-input"]
_wrong = LinearPhysics(A=student.A, A_adjoint=student.fbp)
torch.manual_seed(0)
_x = torch.rand(1, *size).to(place)
rows, errors = [], {}
for name, physics in {"12 views": student, "60 views": views, "12 views, wrong adjoint": _wrong}.items():
    errors[name] = dipa.linalg.dot_test_error(physics.A, physics.A_adjoint, _x, torch.rand_like(physics.A(_x)))
    values = torch.linalg.svdvals(dipa.linalg.dense(physics.A, size, device=place).cpu().double())
    kept = values[values > 1e-6 * values.max()]
    numbers = (f"{values[0] ** 2:.3f}", f"{len(kept)} of {_x.numel()}", f"{kept[0] / kept[-1]:.0f}")
    rows.append((name, f"{errors[name]:.0e}", *(numbers if physics is not _wrong else ("", "", ""))))
display(Markdown(reports.table(("operator", "dot test", "$L=\\lVert H\\rVert^2$", "rank", "$\\kappa(H)$ on the range"), rows)))
assert errors["12 views"] < 1e-5 and errors["60 views"] < 1e-5 and errors["12 views, wrong adjoint"] > 1e-2

# %% [markdown]
# The singular values come from the dense matrix, which small images allow; for large ones `dipa.solvers.lipschitz` finds $L$ by the
# power method. Unlike the single-pixel camera this operator has a null space *and* is ill-conditioned. `normalize=True` has set $L$ to 1,
# so the stepsize $1/L$ is 1.
#
# ## 3. Does the teacher know more?
#
# Imitation cannot end above what it imitates. So before any training: what do student and teacher reach, without a
# preconditioner, in the $K$ iterations they will have?

# %%
prior = dipa.PnP(dipa.denoisers.load().to(place))
solver = dipa.FISTA(prior, iterations=10, start="zero")
images = dipa.data.load("embedded-mri", "train", size=32).images.to(place)
test = dipa.data.load("embedded-mri", "test", size=32, count=4).images.to(place)

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
psnr, y = {}, measure(student, test)
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
# ## 4. Distil, save, load, solve
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
fast = replace(solver, prior=replace(prior, precision="auto"))  # half the time of float32
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
# ## 5. What it is worth
#
# Beside the baseline belong the competitors that need no training, or no distillation:
#
# - patience: the baseline with more iterations, and from the pseudo-inverse;
# - the Hessian preconditioner $(H^\top H+\lambda I)^{-1}$, made for ill-conditioned operators, with the better of two $\lambda$;
# - the closed-form linear predictor ([L-DIPA](l_dipa.ipynb)). For an operator that has no fast basis of its own, it takes a dense
#   SVD, up to 4096 pixels.

# %%
weights = {"regularization": 3e-4, "null_weight": 0.5}
ridge = dipa.LinearPreconditioner.ridge(student, images, stepsize=1.0, **weights)
damped = {value: dipa.Hessian(student, size, regularization=value) for value in (0.1, 0.3)}

# %% tags=["hide-input"]
tried = {"baseline": None, "distilled": P, "closed form": ridge} | {
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
# ## 6. Inside deepinv
#
# `dipa.to_deepinv` makes a deepinv `BaseOptim` of solver and preconditioner: `model(y, physics)` is the reconstruction, and deepinv's
# metrics and trainers work on it.

# %%
model = dipa.to_deepinv(solver, P, student, stepsize=1.0)
with torch.no_grad():
    difference = (model(y, student) - x_hat).abs().max().item()
print(f"largest difference to our solver: {difference:.1e}")
assert difference < 5e-5

# %% [markdown]
# ## 7. Audit the result
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
# ## 8. Errors you will meet
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
# 1. A deepinv `LinearPhysics`, ready-made or from two functions `A` and `A_adjoint` that take batches (B, C, H, W). Dot test below 1e-5 in
#    float32.
# 2. Images of one size, real, in [0, 1]: the denoiser is trained for that range. Complex images are two channels. Ranges are not
#    checked for you.
# 3. Know $L$, and state stepsizes in units of $1/L$. Two operators of different scale need two stepsizes.
# 4. Make the teacher a better *algorithm run*, not only a richer measurement: look at its PSNR at your $K$.
# 5. Start with a small $P$ (`ScalarSteps`, `ConvolutionalSteps`) or the closed form; `NeuralPreconditioner` and a trained
#    `LinearPreconditioner` come after, with more images and steps.
# 6. Start the iteration at zero or the adjoint. From $H^\dagger y$ of noiseless data the first gradient is zero, and a $P$ that fills the
#    null space from gradients has nothing to start from.
# 7. Train with the noise you will have, and audit the result against a baseline that was given its best stepsize and $K$.
