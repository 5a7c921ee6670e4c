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
# # Fixed and learned classical preconditioners
#
# D2GP Table I ([Gualdrón-Hurtado et al., 2025](references.md)) compares the distilled preconditioner with six others. Two are
# made from the operator alone, four are learned for each iteration after [Ehrhardt et al. (2024)](references.md). This page
# says what each is, counts its parameters, and shows what it can and cannot do, first on operators whose Gram $H^\top H$ is a
# projector, then on super-resolution, where the differences are large.

# %% tags=["hide-input"]
import numpy as np
import torch
from IPython.display import Markdown, display

import dipa
from dipa import experiments, plots, reports

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
size, factor, iterations = 20, 4, 6  # the short comparison on super-resolution
train_count, batch, steps = 32, 4, 8
test_count = 24

# %% [markdown]
# ## The six, and what they cost
#
# | row of the table | direction at iteration $k$ | class |
# |---|---|---|
# | Hessian | $(H^\top H+\lambda I)^{-1}\nabla g$, printed without $\lambda$; after [Fessler and Booth (1999)](references.md) | `Hessian` |
# | Polynomial | $p(H^\top H)\,\nabla g$, $p$ of degree 4; after [Iyer et al. (2024)](references.md) | `Polynomial.l2`, `.chebyshev` |
# | Scalar step | $p_k\,\nabla g$ | `ScalarSteps` |
# | Convolutional | $p_k * \nabla g$, 5 x 5 | `ConvolutionalSteps` |
# | Pointwise | $p_k \odot \nabla g$ | `PointwiseSteps` |
# | Full-linear | $P_k\,\nabla g$ | `LinearSteps` |
#
# The learned ones have their own parameters for each of $K=20$ iterations: 20, $20\cdot 25=500$, $20n$ and $20n^2$ numbers.
# L-DIPA has one matrix for all iterations. Here and in the table, for each task:

# %% tags=["hide-input"]
K, kernel = 20, 25
learned = {"scalar": lambda n, r: K, "convolutional": lambda n, r: K * kernel, "pointwise": lambda n, r: K * n}
learned |= {"full-linear": lambda n, r: K * n * n}
rows = {name: [name] for name in (*learned, "full-linear, low-rank")}
for prefix in ("", "mri-", "sr-"):
    task = experiments.resolve(f"{prefix}scalar", "paper").task
    n, r = task.size**2, dipa.operators.plane_basis(task.pair()[0]).dim
    for name, count in learned.items():
        printed = reports.published(prefix + name, "parameters", source="D2GP Table I")[0]["value"]
        rows[name] += [reports.short_count(count(n, r)), reports.short_count(printed)]
        assert abs(count(n, r) / printed - 1) < 0.03
    rows["full-linear, low-rank"] += [reports.short_count(K * n * r), ""]
_head = ("", *(cell for task in ("single pixel", "MRI", "super-resolution") for cell in (task, "Table I")))
display(Markdown(reports.table(_head, rows.values())))
_small = dipa.operators.single_pixel((1, 8, 8), ratio=0.25)
_made = dipa.ScalarSteps(K), dipa.ConvolutionalSteps(K), dipa.PointwiseSteps(K, (1, 8, 8))
_made += (dipa.LinearSteps.identity(_small, K, form="dense"),)
assert [P.parameter_count for P in _made] == [count(64, 16) for count in learned.values()]

# %% [markdown]
# The last row keeps only what a gradient can meet ([L-DIPA](l_dipa.ipynb) explains why nothing is lost).
#
# ## Made from the operator: the spectrum
#
# Along an eigenvector of $H^\top H$ with eigenvalue $s$, a step with $p(H^\top H)$ and $\alpha=1$ multiplies the error by
# $1-s\,p(s)$. Zero everywhere would be one step to the solution. The plain step $1/L$ gives $1-s/L$; the Hessian,
# $p(s)=1/(s+\lambda)$, gives $\lambda/(s+\lambda)$. The polynomial `l2` minimises $\int(1-s\,p(s))^2\,ds$ over the spectrum
# ([Iyer et al., 2024](references.md)); `chebyshev` minimises the largest value of $|1-s\,p(s)|$ between a floor and $L$.
# They cost one application of $H^\top H$ for each degree.

# %% tags=["hide-input"]
unit = dipa.operators.single_pixel((1, 8, 8), ratio=0.25)  # norm 1: its polynomials live on [0, 1]
damping = 1e-2
s = np.linspace(0, 1, 401)
polynomials = {"Chebyshev, degree 4": dipa.Polynomial.chebyshev(unit), "l2, degree 4": dipa.Polynomial.l2(unit)}
lines = {"step 1/L": 1 - s, "Hessian": damping / (s + damping)}
lines |= {name: 1 - s * np.polynomial.polynomial.polyval(s, P.coefficients) for name, P in polynomials.items()}

camera, _ = experiments.resolve("hessian", "paper").task.pair()
complex_mri, _ = experiments.resolve("mri-hessian", "paper").task.pair()
real_mri = dipa.operators.mri((1, *complex_mri.img_size[1:]), mask=complex_mri.mask[0, 0])
factors = {RF: dipa.operators.super_resolution((1, 110, 110), factor=RF) for RF in (4, 2, 1)}
spectra = {"single pixel": dipa.analysis.spectra(dipa.preconditioners.Identity(), camera).range_values.numpy()}
spectra |= {"complex MRI": complex_mri.spectrum.flatten().numpy(), "real MRI": real_mri.spectrum.flatten().numpy()}
spectra |= {f"super-resolution {RF}": physics.values.flatten().numpy() ** 2 for RF, physics in factors.items() if RF > 1}
spectra["blur alone"] = factors[1].values.flatten().numpy() ** 2
spectra = {name: values[values > 0] / values.max() for name, values in spectra.items()}
plots.spectrum(s, lines, spectra)
plots.plt.show()

# %% [markdown]
# Below the curves: the eigenvalues other than zero of the papers' operators, at the papers' sizes. All of them lie at 1 for the
# camera and for complex MRI. What a preconditioner can equalise is the ratio of the largest to the smallest, the condition
# number of $H^\top H$ on the range of $H^\top$; each $p$ changes it to that of $s\,p(s)$:

# %% tags=["hide-input"]
rows, kappa = [], {}
for name, values in spectra.items():
    shapes = {"none": values, "Hessian": values / (values + damping)}
    shapes |= {label: values * np.polynomial.polynomial.polyval(values, P.coefficients) for label, P in polynomials.items()}
    kappa[name] = {label: shape.max() / shape.min() for label, shape in shapes.items()}
    rows.append((name, f"{len(values):,}", *(f"{value:.3g}" for value in kappa[name].values())))
display(Markdown(reports.table(("operator", "eigenvalues > 0", *kappa["blur alone"]), rows)))
assert kappa["single pixel"]["none"] < 1.001 and kappa["complex MRI"]["none"] < 1.001
assert kappa["blur alone"]["none"] > 1000 * kappa["super-resolution 4"]["none"]

# %% [markdown]
# Ill-conditioned, in these experiments, is the blur alone, which is the *teacher* of super-resolution. At factor 4 the student
# keeps a sixteenth of the pixels and the few eigenvalues left are close together. What is missing is not conditioning but
# measurements. And for the blur none of these preconditioners cures much: eigenvalues far below $\lambda$, or below the floor
# of the polynomial, are left to the prior, which is what regularisation means.
#
# ## On a projector they are stepsizes
#
# Where every eigenvalue is 1, $p(H^\top H)\nabla g=p(1)\nabla g$ and $(H^\top H+\lambda I)^{-1}\nabla g=\nabla g/(1+\lambda)$.
# The table fits each direction by a multiple of the gradient and shows what is left over.

# %% tags=["hide-input"]
rows = []
for name, physics in (("single pixel", camera), ("complex MRI", complex_mri), ("real MRI", real_mri)):
    made = {"Hessian": dipa.Hessian(physics, regularization=damping)}
    made |= {"Chebyshev, degree 4": dipa.Polynomial.chebyshev(physics), "l2, degree 4": dipa.Polynomial.l2(physics)}
    x = dipa.data.load("embedded-mri", "test", size=physics.img_size[-1], channels=physics.img_size[0], count=4).images
    gradient = physics.A_adjoint_A(x)
    for label, P in made.items():
        multiple, left = dipa.analysis.as_stepsize(P, gradient)
        rows.append((name, label, f"{multiple:.4f}", f"{left:.1e}"))
        assert (left < 1e-4) == (name != "real MRI")
display(Markdown(reports.table(("operator", "preconditioner", "multiple of the gradient", "relative remainder"), rows)))

# %% [markdown]
# So on the single-pixel camera and on complex MRI the Hessian and polynomial rows of D2GP Table I are the baseline with another
# stepsize. If the imaginary part is dropped at every iteration (real MRI), eigenvalues of ½ appear, and with them something to
# equalise.
#
# ## What each class can do
#
# A preconditioner helps in two ways: it equalises what is seen, or it turns a seen gradient into unseen image content. The
# second needs directions outside $\mathrm{range}(H^\top)$. A random member of each class is drawn around its start; the table
# counts how many of the $r$ directions of the range it sends outside.

# %% tags=["hide-input"]
three = {"single pixel": dipa.operators.single_pixel((1, 16, 16), ratio=0.2)}
three |= {"complex MRI": dipa.operators.mri((2, 16, 16), acceleration=4)}
three |= {"super-resolution 4": dipa.operators.super_resolution((1, 16, 16), factor=4)}
outside = {}
for name, physics in three.items():
    generator = torch.Generator().manual_seed(0)
    members = {"Hessian": dipa.Hessian(physics, regularization=damping * physics.norm_sq)}
    members |= {"polynomial": dipa.Polynomial.l2(physics), "scalar": dipa.ScalarSteps(1)}
    members |= {"convolutional": dipa.ConvolutionalSteps(1), "pointwise": dipa.PointwiseSteps(1, (1, 16, 16))}
    members |= {"full-linear": dipa.LinearSteps.identity(physics, 1, planes=True)}
    for label, P in members.items():
        for parameter in P.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
        found = dipa.analysis.spectra(P, physics, tolerance=1e-3)
        outside.setdefault(label, {})[name] = f"{found.null_rank} of {len(found.range_values)}"
display(
    Markdown(
        reports.table(
            ("directions sent outside the range", *three), [(label, *cells.values()) for label, cells in outside.items()]
        )
    )
)
for label in ("Hessian", "polynomial", "scalar"):
    assert all(cell.startswith("0 of") for cell in outside[label].values())
assert outside["convolutional"]["complex MRI"].startswith("0 of")
assert not outside["convolutional"]["super-resolution 4"].startswith("0 of")

# %% [markdown]
# - Hessian, polynomial and scalar steps never leave the range, on any operator.
# - A convolution is a multiplication of the spectrum. MRI measures the spectrum, so there it stays in the range too: a step
#   size for each frequency, all of whose eigenvalues were equal to begin with. On the camera and in super-resolution it does
#   leave the range: it spreads what was measured to neighbouring pixels.
# - Pointwise weights and matrices leave it on every operator. A weight per pixel reshapes the gradient and adds nothing of its
#   own; for super-resolution that can be much. The `interpolated` start, $H^\top y\oslash H^\top H\mathbf 1$, is one
#   pointwise weighting of the first gradient from zero.
#
# ## Trained on what
#
# [Ehrhardt et al. (2024)](references.md) learn preconditioners for the minimisation of an objective, and train on that
# objective. In the words of D2GP they are "optimized only for data-fidelity optimization"; a plug-and-play iteration has no
# other objective. The presets `scalar`, `convolutional`, `pointwise` and `full-linear` follow this. Others change the loss:
#
# | loss | formula | needs |
# |---|---|---|
# | data fidelity | $\tfrac12\lVert H\hat x_s-y\rVert_2^2$ | measurements only |
# | supervised, presets `scalar-supervised` and so on | $L_S=\lVert\hat x_s-x\rVert_2^2$ | true images |
# | distillation | $L_I=\lVert\hat x_s-\hat x_t\rVert_2^2$ | true images, to simulate the teacher |
#
# The data fidelity is blind to the null space: two images with the same $H\hat x$ cost the same.
#
# ## A small comparison
#
# Super-resolution by 4 of small photographs, the papers' start at zero and $\alpha=0.4$, few iterations, a few training steps
# for each learned preconditioner under each loss. Runs of this task at the papers' size are on
# [its results page](results_super_resolution.ipynb).

# %%
place = notebook.place(device)
student = dipa.operators.super_resolution((1, size, size), factor=factor).to(place)
teacher = dipa.operators.super_resolution((1, size, size), factor=1).to(place)
denoiser = dipa.denoisers.load().to(place)
solver = dipa.FISTA(prior=dipa.PnP(denoiser, precision="auto"), iterations=iterations, start="zero")
train = dipa.data.load("embedded", "train", size=size).images.to(place)
test = dipa.data.load("embedded", "test", size=size, count=test_count).images.to(place)
y = student.A(test)

# %% tags=["hide-input"]
interpolated = dipa.FISTA(prior=dipa.PnP(denoiser, precision="auto"), iterations=iterations, start="interpolated")
ridge = dipa.LinearPreconditioner.ridge(student, train, stepsize=0.4, regularization=0.03)
untrained = {
    "baseline": (solver, None, 0.4),
    "stepsize 1/L": (solver, None, "1/L"),
    "Hessian": (solver, dipa.Hessian(student, regularization=damping * student.norm_sq), 0.4),
    "Chebyshev, degree 4": (solver, dipa.Polynomial.chebyshev(student), 0.4),
    "l2, degree 4": (solver, dipa.Polynomial.l2(student), 0.4),
    "interpolated, 1/L": (interpolated, None, "1/L"),
    "closed form": (solver, ridge, 0.4),
}
rows, psnr, images = [], {}, {"truth": test[0, 0]}
for name, (algorithm, P, stepsize) in untrained.items():
    with torch.no_grad():
        x = algorithm(y, student, preconditioner=P, stepsize=stepsize).x
    psnr[name], images[name] = dipa.metrics.psnr(x, test).mean().item(), x[0, 0]
    residual = (student.A(x) - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)
    rows.append((name, f"{psnr[name]:.2f}", f"{residual.mean():.3f}"))
display(Markdown(reports.table(("without training", "PSNR (dB)", "residual"), rows)))
display(
    Markdown(
        f"The largest eigenvalue of $H^\\top H$ is {student.norm_sq:.3f}, so $\\alpha=0.4$ is "
        f"{100 * 0.4 * student.norm_sq:.1f} % of the step $1/L$: the baseline has hardly begun."
    )
)

# %%
classes = {
    "scalar": (lambda: dipa.ScalarSteps(iterations), 2.0),
    "convolutional": (lambda: dipa.ConvolutionalSteps(iterations), 0.2),
    "pointwise": (lambda: dipa.PointwiseSteps(iterations, (1, size, size)), 3.0),
    "full-linear": (lambda: dipa.LinearSteps.identity(student, iterations), 0.1),
}
losses = {"data fidelity": dipa.LossWeights(data_fidelity=1.0), "supervised": dipa.LossWeights(supervised=1.0)}
losses |= {"distillation": dipa.LossWeights(imitation=1.0)}
trained = {}
for name, (make, rate) in classes.items():
    for loss, weights in losses.items():
        budget = dipa.Budget(steps=steps, batch_size=batch, learning_rate=rate, schedule="cosine")
        options = {"losses": weights, "budget": budget, "stepsize": 0.4, "teacher_stepsize": 0.7}
        options |= {"validation": 0, "progress": False}
        trained[name, loss] = dipa.distill(
            solver, make().to(place), student, teacher, train[:train_count], **options
        ).preconditioner

# %% tags=["hide-input"]
cells = {name: [name, f"{trained[name, 'supervised'].parameter_count:,}"] for name in classes}
for (name, loss), P in trained.items():
    with torch.no_grad():
        x = solver(y, student, preconditioner=P, stepsize=0.4).x
    psnr[name, loss] = dipa.metrics.psnr(x, test).mean().item()
    residual = (student.A(x) - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)
    cells[name].append(f"{psnr[name, loss]:.2f} ({residual.mean():.3f})")
    if loss == "supervised":
        images[name] = x[0, 0]
display(Markdown(reports.table(("learned, PSNR (residual)", "parameters", *losses), cells.values())))

# %% [markdown]
# One test image by each; the learned ones under the supervised loss.

# %% tags=["hide-input"]
plots.methods(images, columns=6)
plots.plt.show()
_inside = [psnr[name] for name in ("stepsize 1/L", "Hessian", "Chebyshev, degree 4", "l2, degree 4")]
assert max(_inside) - min(_inside) < 0.5 and abs(psnr["scalar", "supervised"] - _inside[0]) < 0.5
assert min(psnr["convolutional", loss] for loss in losses) > max(_inside) + 3
assert psnr["pointwise", "data fidelity"] < max(_inside) + 1 < psnr["pointwise", "supervised"]
assert psnr["interpolated, 1/L"] > max(_inside) + 3 and psnr["closed form"] > max(_inside) + 3

# %% [markdown]
# How to read it:
#
# - The Hessian, the polynomials and the learned scalars all end where the plain step $1/L$ ends. From zero and without leaving
#   the range, the image is a comb of bright dots, and the denoiser alone does not fill the gaps. A preconditioner that
#   conditions better cannot change that.
# - Filling the gaps takes directions outside the range. Five by five numbers an iteration are enough, even when trained on the
#   data fidelity, which asks for nothing of the kind: the kernel that enlarges the step also spreads it. Pointwise weights
#   could fill them too, but trained on the data fidelity they stay with the comb.
# - An interpolated start with the step $1/L$ reaches the same region with no training at all, and so does the closed-form
#   linear predictor, which is one step of regression. Read a gain over the papers' baseline of this task beside these
#   two.
# - Compare the losses along a row: where a class can leave the range in many ways, training on the data fidelity leaves open
#   which one it takes; the supervised and the distilled version differ little here, because this teacher sees the
#   whole image through a blur.
# - Compare residuals with PSNR: a lower residual is no better image.

# %% [markdown]
# ## Without a training loop
#
# Learned steps of every iteration are linear in what is learned, so that least squares find them on the iterates of the run
# itself, one iteration after the other (`dipa.fit_steps`). The recorded runs of both kinds at the papers' sizes: what was trained
# on the data fidelity, and what was fitted to clean images before the denoiser.

# %% tags=["hide-input"]
_recorded = reports.by_preset(experiments.find_runs(experiments.results_folder(), deep=True))
display(Markdown(reports.cost.fitted_table(_recorded)))

# %% [markdown]
# A fit stays what its formula says, the best image *before the denoiser* of each iteration alone, which need not be the best one
# behind it: see the camera. One number an iteration, or a kernel where the operator masks frequencies, has little room anyhow: all end
# near the baseline. Minutes are those of the machine that each run was made on, which is named on the pages of results.

# %% tags=["remove-cell", "nbval-check-output"]
print({label: [cell.startswith("0 of") for cell in cells.values()] for label, cells in outside.items()})
print([P.parameter_count for P in _made])

# %% [markdown]
# ## Limits
#
# - Few images, few iterations, few steps, one learning rate for each class chosen by hand: the ranking of the learned classes
#   is not a result. What the fixed ones can and cannot do is.
# - Learned steps know $K$ iterations; in a longer run each later one repeats the last.
# - How D2GP trained its learned rows is not printed beyond the sentence quoted above, nor is the Hessian's $\lambda$ or the
#   polynomial's interval.
