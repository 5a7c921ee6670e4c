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
# # Operators and null spaces
#
# Three cameras, three linear maps $y = Hx + \varepsilon$. Each exists twice: the **student** $H_s$ is the system that can be
# built, the **teacher** $H_t$ is a simulated one that measures more of the same image. This page shows what each of them sees,
# what it does not see, and which of two different difficulties it has: few measurements, or badly conditioned ones.
#
# | task | $H$ | call | source |
# |---|---|---|---|
# | single-pixel camera | $MW$: the orthonormal 2-D Hadamard transform $W$, and a 0/1 mask $M$ that keeps a share $\gamma$ of its coefficients | `operators.single_pixel((1, 32, 32), ratio=0.2)` | [Duarte et al. (2008)](references.md); D2GP Sec. II.A item 1; DIPA Scenario 2 |
# | MRI, one coil | $MF$: the unitary 2-D Fourier transform $F$, and a mask of whole columns, one in AF (the acceleration factor) | `operators.mri((2, 50, 50), acceleration=5)` | [Lustig et al. (2007)](references.md); D2GP Sec. II.A item 2; DIPA Scenario 1 |
# | super-resolution | $DB$: a 9 x 9 Gaussian blur $B$ of standard deviation 1, and $D$, which keeps every RF-th pixel (the resolution factor) in each direction | `operators.super_resolution((1, 110, 110), factor=4)` | D2GP Sec. II.A item 3; DIPA Scenario 3 |
#
# MRI images are complex. They are kept as two channels, real and imaginary part. With one channel, `operators.mri((1, 50, 50),
# ...)` is the variant for real images: its adjoint drops the imaginary part, so that an algorithm drops it at every iteration.
# Every call returns a deepinv physics ([Tachella et al., 2025](references.md)): `H.A(x)`, `H.A_adjoint(y)`, `H.A_dagger(y)`.

# %% tags=["hide-input"]
import torch
from IPython.display import Markdown, display

import dipa
from dipa import data, linalg, metrics, operators, plots, reports
from dipa.analysis import relative_norm
from dipa.operators.measure import measure

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
mask_seed = 0  # of the MRI masks

# %% [markdown]
# The students and teachers of D2GP (Sec. III), on images that ship with the installation: photographs for the first and the
# last, a slice of a head for MRI.

# %%
place = notebook.place(device)
mri_student, mri_teacher = operators.mri_pair((2, 50, 50), acceleration=5, teacher_acceleration=1, mask_seed=mask_seed)
single_pixel, super_resolution = operators.single_pixel, operators.super_resolution
tasks = {
    "single pixel": (single_pixel((1, 32, 32), ratio=0.2), single_pixel((1, 32, 32), ratio=0.7)),
    "MRI": (mri_student, mri_teacher),
    "super-resolution": (super_resolution((1, 110, 110), factor=4), super_resolution((1, 110, 110), factor=1)),
}
images = {
    "single pixel": data.load("embedded", "test", size=32, count=2).images,
    "MRI": data.load("embedded-mri", "test", size=50, channels=2, count=8).images[[0, -1]],
    "super-resolution": data.load("embedded", "test", size=110, count=2).images,
}
tasks = {name: [physics.to(place) for physics in pair] for name, pair in tasks.items()}
images = {name: pictures.to(place) for name, pictures in images.items()}

# %% [markdown]
# ## Range and null space
#
# The **null space** of $H$ holds the images that $H$ maps to zero. The **range** of $H^\top$ is everything orthogonal to it.
# Each image is the sum of a part in each,
#
# $$x = \Pi x + (I-\Pi)x, \qquad \Pi = V^\top V,$$
#
# with $V$ an orthonormal basis of the range (`H.range_basis()`, whose `project` is $\Pi$). The measurements depend on $\Pi x$
# alone, and a data gradient $\nabla g(z)=H^\top(Hz-y)$ always lies in the range. So no stepsize, no number of iterations and
# no momentum lets a gradient add anything to the unseen part. A denoiser can, and so can a preconditioner: $P\,\nabla g$ need
# not lie in the range. This is what the papers' preconditioners are trained to use, whatever else they do.
#
# Decimation leaves a range of blurred dots, in which even a constant grey image does not lie: where the iteration starts will
# matter ([Surprises](surprises.ipynb)).
#
# The last column takes the unseen part from another image. These pictures give the student *the same measurements* as the
# truth; nothing in $y$ speaks against them.

# %% tags=["hide-input"]
shown, mismatch = {}, {}
for name, (student, teacher) in tasks.items():
    x, other = images[name][:1], images[name][1:]
    seen, unseen_of_other = student.range_basis().project(x), other - student.range_basis().project(other)
    same_data = seen + unseen_of_other
    parts = {"truth": x, "student sees": seen, "student does not see": x - seen}
    parts |= {"teacher sees": teacher.range_basis().project(x), "same data as the truth": same_data}
    shown[name] = {part: image[0, 0] for part, image in parts.items()}
    mismatch[name] = relative_norm(student.A(same_data) - student.A(x), student.A(x)).item()
    assert mismatch[name] < 1e-5 and relative_norm(same_data - x, x).item() > 0.05
plots.panels(shown, signed=["student does not see"])
plots.plt.show()
worst = max(mismatch.values())
display(
    Markdown(
        "*Grey scale from 0 to 1; the unseen part in blue and red from -0.4 to 0.4; of MRI images the real part. The measurements "
        f"of the first and the last column differ by at most {worst:.0e} of their norm, which is rounding.*"
    )
)

# %% [markdown]
# ## Spectra of $H^\top H$
#
# How strongly is a seen direction seen? The eigenvalues of the Gram matrix $H^\top H$ say it.
#
# - **Single pixel and complex MRI**: a selection of rows of an orthonormal transform. $H^\top H=\Pi$ is a projector, with
#   eigenvalues 1 and 0 and nothing between.
# - **MRI of real images**: a real image has the same Fourier coefficient at $k$ and $-k$, up to conjugation. The eigenvalues are
#   $\tfrac12(M(k)+M(-k))$: 1 where both are measured, 1/2 where one of them is, 0 where none.
# - **Super-resolution**: products of two one-dimensional spectra. Decimation folds the frequencies that the blur has damped most
#   onto those it has kept, so that for a factor of 2 or more the smallest nonzero eigenvalue is not small. The blur alone
#   (factor 1, the teacher) has a long tail.
#
# In the figure, a line ends where its null space begins. The lines of the two projectors coincide.

# %% tags=["hide-input"]
real = operators.mri((1, 50, 50), acceleration=5, mask_seed=mask_seed).to(place)
systems = {"single pixel, ratio 0.2": tasks["single pixel"][0], "MRI complex, AF 5": mri_student, "MRI real, AF 5": real}
systems |= {f"super-resolution, RF {factor}": super_resolution((1, 110, 110), factor=factor).to(place) for factor in (1, 2, 3, 4)}
held = {"single pixel, ratio 0.2": tasks["single pixel"][0].mask, "MRI complex, AF 5": mri_student.spectrum}
held |= {"MRI real, AF 5": real.spectrum}
held |= {name: system.values.cpu().double() ** 2 for name, system in systems.items() if name not in held}
spectra = {}
for name, values in held.items():
    side, other_side = systems[name].img_size[1:]
    spectra[name] = torch.zeros(side * other_side, dtype=torch.float64)
    spectra[name][: values.numel()] = values.flatten()
plots.eigenvalues({name: values for name, values in spectra.items()})
plots.plt.show()

# %% [markdown]
# The condition number $\kappa(H)$ is the largest singular value over the smallest nonzero one. On the whole image space it
# would be infinite as soon as there is a null space, and say nothing.

# %% tags=["hide-input"]
rows = []
for name, values in spectra.items():
    nonzero = values[values > 1e-9 * values.max()]
    condition = (nonzero.max() / nonzero.min()).sqrt().item()
    cells = (f"{nonzero.max():.3f}", f"{nonzero.min():.1e}", f"{condition:.2f}" if condition < 100 else f"{condition:.0f}")
    rows.append((name, str(len(values)), str(len(nonzero)), f"{1 - len(nonzero) / len(values):.0%}", *cells))
head = (
    "operator",
    "n",
    "dimension of the range",
    "null space",
    "$\\lVert H\\rVert^2$",
    "smallest nonzero eigenvalue",
    "$\\kappa(H)$",
)
display(Markdown(reports.table(head, rows)))
display(Markdown("*n and the dimensions count complex pixels once for complex MRI; as two real channels, both double.*"))

# %% [markdown]
# The operators know these numbers in closed form. For one that does not, a matrix does it, as long as the image is small:

# %%
small = super_resolution((1, 32, 32), factor=2).to(place)
gram = linalg.dense(small.A_adjoint_A, (1, 32, 32), device=place)
dense = torch.linalg.eigvalsh(gram).flip(0)[: small.range_basis().dim]
assert torch.allclose(dense, small.values.flatten().square().sort(descending=True).values, atol=1e-6)

# %% tags=["remove-cell", "nbval-check-output"]
print({name: operators.range_basis(system).dim for name, system in systems.items()})
print(sorted({round(value, 6) for value in spectra["MRI real, AF 5"].tolist()}))

# %% [markdown]
# ## Conditioning is not ill-posedness
#
# DIPA (Sec. 2.2) separates two things that the word "ill-conditioned" tends to merge. **Conditioning** is about the seen part:
# how many iterations it takes, and how much noise is amplified. **Ill-posedness** is about the unseen part: there is no unique
# answer, however long one iterates ([Hansen, 1998](references.md); [Bertero and Boccacci, 1998](references.md)).
#
# Plain gradient descent on $g$ with stepsize $1/L$, without noise and without a prior, shows both. It starts at zero. Left, the
# error inside the range: $\max_i|1-\lambda_i/L|^k$ bounds it, so a projector needs one step and the blur would need about
# $\kappa(H)^2$ of them. Right, the error outside: horizontal lines. A preconditioner of the classical kind steepens the left
# picture and leaves the right one alone.

# %% tags=["hide-input"]
bare = dipa.PnP(lambda z, sigma: z)  # no prior: the step is the gradient step
descent = dipa.FISTA(prior=bare, iterations=60, momentum="none", start="zero")
compared = {
    "single pixel, ratio 0.2": images["single pixel"],
    "MRI real, AF 5": images["MRI"][:, :1],
    "super-resolution, RF 4": images["super-resolution"],
    "super-resolution, RF 2": images["super-resolution"],
    "super-resolution, RF 1": images["super-resolution"],
}
inside, outside = {}, {}
for name, both in compared.items():
    x, H, basis = both[:1], systems[name], systems[name].range_basis()
    error = descent(H.A(x), H, stepsize="1/L", iterates=True).iterates[:, 0] - x
    visible = basis.project(error)
    inside[name] = relative_norm(visible, x.expand_as(error)).clamp_min(1e-7).tolist()
    if basis.dim < x.numel():
        outside[name] = relative_norm(error - visible, x.expand_as(error)).tolist()
        assert max(outside[name]) - min(outside[name]) < 1e-4
assert inside["single pixel, ratio 0.2"][1] < 1e-5
assert inside["super-resolution, RF 4"][20] < inside["super-resolution, RF 2"][20] < inside["super-resolution, RF 1"][20]
plots.beside({"error inside the range": inside, "error outside the range": outside}, "relative error", log=True)
plots.plt.show()

# %% [markdown]
# So of the papers' three students, none is badly conditioned: two are projectors, and super-resolution by 4 has the $\kappa$ of
# the table above. All three are ill-posed. The badly conditioned system is the super-resolution *teacher*.
#
# ## Noise
#
# `noise_sigma` is the standard deviation of Gaussian noise on each measured coefficient (MRI: on its real and its imaginary
# part), in units of an image in [0, 1]. `measure` draws it from the seed and the index of the image alone, so that a batch, a
# resumed run and another machine see the same noise. The papers' model has noise, their experiments name no level; the recorded
# runs of this book are noiseless unless they say otherwise.
#
# The table shows the PSNR of the pseudo-inverse $H^\dagger y$, and of twenty steps of the gradient descent above. A projector
# passes the noise on as it is. The blur's small eigenvalues magnify it, and there stopping early acts as a regulariser.

# %% tags=["hide-input"]
levels, makers = (
    (0.0, 0.01, 0.05),
    {
        "single pixel, ratio 0.2": (images["single pixel"], lambda s: single_pixel((1, 32, 32), ratio=0.2, noise_sigma=s)),
        "MRI complex, AF 5": (
            images["MRI"],
            lambda s: operators.mri((2, 50, 50), acceleration=5, mask_seed=mask_seed, noise_sigma=s),
        ),
        "super-resolution, RF 4": (
            images["super-resolution"],
            lambda s: super_resolution((1, 110, 110), factor=4, noise_sigma=s),
        ),
        "super-resolution, RF 1": (
            images["super-resolution"],
            lambda s: super_resolution((1, 110, 110), factor=1, noise_sigma=s),
        ),
    },
)
twenty, found = dipa.FISTA(prior=bare, iterations=20, momentum="none", start="adjoint"), {}
for name, (x, make) in makers.items():
    for level in levels:
        H = make(level).to(place)
        y = measure(H, x, seed=0)
        answers = H.A_dagger(y), twenty(y, H, stepsize="1/L").x
        found[name, level] = [metrics.psnr(answer, x).mean().item() for answer in answers]
head = (
    "PSNR (dB)",
    *(f"$H^\\dagger y$, noise {level:g}" for level in levels),
    *(f"20 steps, noise {level:g}" for level in levels),
)
rows = [(name, *(f"{found[name, level][column]:.1f}" for column in (0, 1) for level in levels)) for name in makers]
display(Markdown(reports.table(head, rows)))
blurred, projected = "super-resolution, RF 1", "single pixel, ratio 0.2"
assert found[blurred, 0.01][0] < found[blurred, 0.01][1] and found[blurred, 0.0][0] > found[blurred, 0.0][1]
assert found[projected, 0.0][0] - found[projected, 0.01][0] < 1

# %% [markdown]
# ## Nested or not
#
# Does the teacher see everything its student sees? Then $\mathrm{range}(H_s^\top)\subset\mathrm{range}(H_t^\top)$: the two are
# **nested**. The papers do not discuss it. It decides what a teacher's gradient can mean to its student: without nesting the
# student knows things of which the teacher has no idea, and imitation may ask it to forget them.
#
# Single-pixel cameras of one ordering are nested by construction. For MRI it depends on how two random masks are drawn, and
# `mri_pair(nested=True)`, the default, guarantees it. Super-resolution by 4 is nested in 2 and in 1, but not in 3: pixels
# 0, 4, 8, ... are among 0, 2, 4, ..., not among 0, 3, 6, ...

# %% tags=["hide-input"]
fast, columns = {"acceleration": 5, "teacher_acceleration": 3, "mask_seed": mask_seed}, {}
pairs = {
    title: operators.mri_pair((2, 50, 50), **fast, nested=nested) for title, nested in (("nested", True), ("not nested", False))
}
pairs = {title: [physics.to(place) for physics in pair] for title, pair in pairs.items()}
for title, (student, teacher) in pairs.items():
    one, two = student.mask[0, 0], teacher.mask[0, 0]
    masks = {"student, AF 5": one, "teacher, AF 3": two, "student, not teacher": one * (1 - two)}
    columns[title] = {what: mask for what, mask in masks.items()}
plots.panels(columns)
plots.plt.show()

# %% [markdown]
# The table measures it on an image: the norm of what the student sees and the teacher does not,
# $\|(I-\Pi_t)\Pi_s x\|/\|\Pi_s x\|$.

# %% tags=["hide-input"]
rows, missed = [], {}
candidates = {"single pixel, ratios 0.2 and 0.7": ("single pixel", tasks["single pixel"])}
candidates |= {f"MRI, AF 5 and 3, {title}": ("MRI", pair) for title, pair in pairs.items()}
for factor in (3, 2, 1):
    pair = systems["super-resolution, RF 4"], systems[f"super-resolution, RF {factor}"]
    candidates[f"super-resolution, RF 4 and {factor}"] = ("super-resolution", pair)
for name, (kind, (student, teacher)) in candidates.items():
    seen = student.range_basis().project(images[kind])
    missed[name] = relative_norm(seen - teacher.range_basis().project(seen), seen).mean().item()
    rows.append((name, f"{missed[name]:.4f}"))
display(Markdown(reports.table(("student and teacher", "seen by the student alone"), rows)))
assert all((missed[name] > 1e-3) == (name.endswith("not nested") or name.endswith("and 3")) for name in missed)

# %% [markdown]
# ## Limits
#
# - What is "seen" here is a matter of linear algebra. An image far inside a null space can still be guessed well from the seen
#   part when images are regular enough; [the idea page](idea.ipynb) and the results are about that.
# - Hadamard rows have unit norm here; the papers print entries of ±1. Stepsizes refer to unit norm.
# - The operators are exact models of themselves: no page of this book reconstructs from one operator with the matrix of another,
#   except where it tests just that.
