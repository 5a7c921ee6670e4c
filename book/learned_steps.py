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
# # Learned step sizes that cannot do harm
#
# A preconditioner of the other pages is trusted: what it gives is the step. Here is the neighbour that trusts nothing.
# [Lee and Chun (2019)](references.md) let a network propose the *length* of each step of a convex problem,
#
# $$\min_x\ F(x)=\tfrac12\|Ax-y\|_2^2+\lambda\|x\|_1,\qquad A=HW^\top,$$
#
# with $x$ the coefficients of an image in an orthonormal wavelet basis $W$ (symlets of order 4, three levels), and put the proposal
# inside *scaled gradient projection*: a descent condition decides, image by image, how much of it is taken, and from the first
# refusal that matters on the network is not asked any more. So the objective never grows and the limit is that of the plain method, whatever was
# learned. In `dipa` that is `solvers.SGP`, and what proposes may also be a preconditioner.

# %% tags=["hide-input"]
import deepinv
import torch
from deepinv.optim import L1Prior
from IPython.display import Markdown, display

import dipa
from dipa import experiments, plots, reports

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
size, test_count = 32, 8
iterations = 60

# %% [markdown]
# ## What the condition is worth
#
# Inpainting of photographs, half of the pixels, a mask for each image. Three proposals without any training: steps of $1/L$, steps a
# thousand times as long, and noise of any sign. With neither kind of nonsense does the objective grow, and both end near where $1/L$
# ends. And two that need no network: one length an iteration, or one an entry and iteration, by least squares on a run of its own over
# other photographs (`training.fit_lengths`), towards where FISTA ends. They are what a network has to beat.

# %%
place = experiments.notebook.place(device)
drawn = torch.Generator().manual_seed(0)


def measured(split, count):
    """Half of the pixels of photographs, a mask for each, as an operator on wavelet coefficients."""
    images = dipa.data.load("embedded", split, size=size, count=count).images.to(place)
    masks = (torch.rand(images.shape, generator=drawn) < 0.5).float().to(place)
    physics = dipa.operators.in_wavelets(deepinv.physics.Inpainting(tuple(images.shape[1:]), mask=masks))
    return physics, physics.A(physics[0].A_adjoint(images))


physics, y = measured("test", test_count)
others = measured("train", 2 * test_count)
solver = dipa.solvers.SGP(dipa.Prox(L1Prior(), 0.02), iterations)
noise = torch.Generator().manual_seed(1)
proposals = {
    "1/L": lambda x, gradient, k: 1.0,
    "1000/L": lambda x, gradient, k: 1000.0,
    "noise": lambda x, gradient, k: torch.randn(x.shape, generator=noise).to(x),
    "fitted, one": dipa.training.fit_lengths(solver, *others, iterations=12).trained,
    "fitted, entries": dipa.training.fit_lengths(solver, *others, iterations=12, lengths="entry").trained,
}
found = {name: solver(y, physics, steps=steps, history=True) for name, steps in proposals.items()}

# %% tags=["hide-input"]
objectives = {name: [record["objective"] for record in result.history] for name, result in found.items()}
plots.compare(objectives, "objective F, mean of the images", log=True)
plots.plt.show()
_still = {name: sum(record["proposed"] > 0 for record in result.history[1:]) for name, result in found.items()}
display(
    Markdown(
        "Iterations in which some image still takes a part of what is proposed: "
        + ", ".join(f"{n}: {k}" for n, k in _still.items())
        + "."
    )
)
for values in objectives.values():
    assert all(after <= before * (1 + 1e-6) for before, after in zip(values, values[1:], strict=False))
    assert values[-1] < 1.05 * objectives["1/L"][-1]

# %% [markdown]
# ## How the network is trained
#
# `networks.StepNetwork` sees the iterate and its gradient, both as coefficients, each divided by its size. It gives one number an
# image, or one an entry (a diagonal matrix); untrained it gives $1/L$. `training.train_steps` trains it from measurements alone.
# What is to be reached is the end of 1,200 iterations of FISTA, $x_*$. For $k=0,1,\dots$ it minimises the distance to it after one
# step, $\|x_*-\mathrm{prox}_{D_k\lambda\psi}(x_i-D_k\nabla g(x_i))\|^2$, over all iterates so far, $i\le k$, and makes the next one by
# a step of the network and one of $1/L$. No step is differentiated through another. With `dipa`:
#
# ```python
# network = dipa.networks.StepNetwork((1, 64, 64), lengths="entry")
# fit = dipa.training.train_steps(network, solver, physics, y)
# x = solver(y, physics, steps=fit).x
# ```
#
# ## Recorded: beside the paper
#
# Trained on half of the samples, without noise, each image with its own mask; tested there and on what it was not trained for.
# NMSE is $10\log_{10}(\|x-x_{\mathrm{true}}\|^2/\|x_{\mathrm{true}}\|^2)$, lower is better: the mean and standard deviation over the test
# images, ours and in brackets the paper's.

# %% tags=["hide-input"]
_outputs = reports.cost.read(experiments.results_folder("benchmarks"))
recorded = {name: _outputs[f"learned_steps_{name}"] for name in ("inpainting", "fourier")}
_names = {"inpainting": "Inpainting", "fourier": "Partial Fourier samples"}
for name, output in recorded.items():
    settings = output["settings"]
    _images = f"{settings['count']} training and {settings['test']} test images"
    display(Markdown(f"**{_names[name]}**, {_images} of {settings['size']} x {settings['size']} pixels"))
    display(Markdown(reports.step_lengths.errors_table(output)))
    display(Markdown(reports.step_lengths.others_table(output)))

# %% [markdown]
# The paper has 450 images of 256 x 256 pixels and networks of 7 million numbers, ours are small. FISTA needs no training, so its row
# tells how much of a difference is the images. On inpainting what the paper claims is seen: a network inside the condition
# stands what it was not trained for better than one that gives the image at once, and $10\lambda$ breaks the learned step. On Fourier
# samples, where the first gradient holds most of the image, little is won. Our diagonal learns one good step, the first, and little
# after it: its training is short.
#
# ## Iterations, operators, seconds
#
# A step inside the condition costs more than one of FISTA: two applications of $A$ or its adjoint more where the network is asked, and
# the network. Until the error that FISTA has after 100 iterations is reached, on the samples that it was trained for:

# %% tags=["hide-input"]
for name, output in recorded.items():
    display(Markdown(f"**{_names[name]}**"))
    display(Markdown(reports.step_lengths.effort_table(output, "50 %")))
    curves = {way: curve["nmse"] for way, curve in output["tests"]["50 %"].items() if len(curve["nmse"]) > 1}
    plots.compare(curves, "NMSE, test images (dB)", order=list(curves))
    plots.plt.show()
    shares = {way: reports.step_lengths.asked(output, "50 %", way) for way in ("step", "diagonal")}
    for way, found_shares in shares.items():
        text = ", ".join(f"{share:.0%} at k = {k}" for k, share in found_shares.items())
        display(Markdown(f"{way}: the proposal is taken for {text} of the images."))
    display(Markdown(reports.cost.measured_on(output)))

# %% tags=["remove-cell", "nbval-check-output"]
print(sorted(proposals), [len(values) for values in objectives.values()])

# %% [markdown]
# ## What the paper leaves open
#
# Chosen here, and not stated there: $\alpha=0.5$, $\beta=0.1$, $\eta_1=\eta_2=0.5$; images in $[0, 255]$ for its $\lambda=0.1$ and its
# noise of 5, because FISTA's errors then come near the paper's (tables above), and do not for images in $[0, 1]$; Fourier samples by
# lines of Gaussian density, for the same reason; the descent condition on $F$ with the proximity operator's own decrease, where the text
# prints that of a projection; a network fed with iterate and gradient divided by their root mean squares; learning rate, batch, and 12
# iterations of training. Blur and tomography are not recorded yet (`benchmarks/learned_steps.py deblurring` runs), nor is a second seed.
