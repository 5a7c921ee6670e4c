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
# # N-DIPA: a network
#
# N-DIPA replaces the matrix by a neural network that is told the iteration ([Gualdrón-Hurtado et al., 2025](references.md))
# (Sec. II.B), ([Gualdrón-Hurtado et al., 2026](references.md)) (Sec. 3.4):
#
# $$x^{k} = D\big(z^{k} - \alpha\,\mathcal{P}_\theta(\nabla g(z^{k}),\,\phi(k))\big), \qquad \phi(k)\in\mathbb{R}^d.$$
#
# One $\theta$ serves all iterations; the code $\phi(k)$ tells them apart. The losses are those of [L-DIPA](l_dipa.ipynb)
# without $R$, which is made for a matrix. The first paper calls the network D2GP when it is trained with the teacher, and
# Supervised when it is trained with $L_S$ alone.

# %% tags=["hide-input"]
import torch
from IPython.display import Markdown, display

import dipa
from dipa import experiments, networks, plots, reports

LABELS = {"single_pixel": "single pixel", "mri": "MRI", "super_resolution": "super-resolution"}

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
size = 16  # side of the images of the short training
features, blocks, code_dim = 8, 2, 16  # its network
iterations, images, steps = 6, 16, 24

# %% [markdown]
# ## The network
#
# The papers settle on a ConvNeXt ([Liu et al., 2022](references.md)): a 3 x 3 convolution from one plane to $C$ features, five
# blocks, a 3 x 3 convolution back, and the input added to the output. A block on maps $h$ is
#
# $$h \mapsto h + s\,W_2\,\mathrm{GELU}\big(W_1\,\mathrm{LN}(\mathrm{conv}_{7\times7}\,h)\big) + E\,\mathrm{SiLU}(\phi(k)),$$
#
# with a depthwise convolution, $W_1$ and $W_2$ acting on each pixel alone with $4C$ numbers between them, one trained scale
# $s$, and an affine map $E$ from the code to one shift for each feature. The text of D2GP (Sec. III.B) gives $C=128$, five
# blocks and $d=256$; the rest is read from public code of the same group. It fits the count they print:

# %% tags=["hide-input"]
_paper = reports.published("n-dipa", "parameters", source="D2GP Table I")[0]
_convnext = dipa.NeuralPreconditioner("convnext", img_size=(1, 32, 32))
display(
    Markdown(
        f"ConvNeXt at $C=128$, five blocks, $d=256$: **{_convnext.parameter_count:,}** parameters here, "
        f"{reports.short_count(_paper['value'])} in {_paper['source']}."
    )
)
assert abs(_convnext.parameter_count - _paper["value"]) < 1000

# %% [markdown]
# The count does not depend on the size of the image, which is the point of a convolutional network: a dense $P$ grows with the
# fourth power of the side. For complex MRI images, real and imaginary part have one network each, as the papers' count says.

# %% tags=["hide-input"]
rows = []
for name in ("n-dipa", "mri-n-dipa", "sr-n-dipa"):
    task = experiments.resolve(name, "paper").task
    network = dipa.NeuralPreconditioner("convnext", img_size=(task.channels, task.size, task.size))
    _printed = reports.published(name, "parameters", source="D2GP Table I")[0]["value"]
    n = task.size**2
    rows.append(
        (
            LABELS[task.kind],
            f"{n:,}",
            reports.short_count(n * n),
            reports.short_count(network.parameter_count),
            reports.short_count(_printed),
        )
    )
display(Markdown(reports.table(("task", "n", "dense P", "networks here", "D2GP Table I"), rows)))

# %% [markdown]
# ## Eight backbones
#
# D2GP Fig. 1(a) and DIPA Fig. 7(a) compare eight networks, reduced until each has fewer numbers than a dense $P$ of the
# single-pixel task; the multilayer perceptron cannot be, they say. Their reduced widths are not printed. The presets
# `backbone-*` are this project's choice with the same aim (here in profile `paper`); beside them stand the sizes of public code
# of the same group. Counts are for images of 32 x 32 pixels, with the code of the iteration.

# %% tags=["hide-input"]
n = 32 * 32
rows, counts, reduced = [], {}, {}
for name in networks.BACKBONES:
    config = experiments.resolve(f"backbone-{name}", "paper").network
    _size = {"features": config.features, "blocks": config.blocks}
    reduced[name] = dipa.NeuralPreconditioner(name, img_size=(1, 32, 32), **_size).parameter_count
    public = {"features": n} | networks.PUBLISHED_SIZES[name]  # the width of the MLP is not given: n
    counts[name] = sum(p.numel() for p in networks.build(name, img_size=(1, 32, 32), **public).parameters())
    _cells = (f"{config.features}", f"{config.blocks}", f"{reduced[name]:,}", "yes" if reduced[name] < n * n else "no")
    rows.append((f"`{name}`", f"{public['features']} / {public['blocks']}", reports.short_count(counts[name]), *_cells))
_head = ("backbone", "public features / blocks", "parameters", "preset features", "blocks", "parameters", "fewer than $n^2$")
display(Markdown(reports.table(_head, rows)))
assert reduced["mlp"] > n * n > reduced["convnext"]

# %% [markdown]
# `unet` is after [Ronneberger et al. (2015)](references.md), `indi_unet` after [Delbracio and Milanfar (2023)](references.md),
# `vit` after [Dosovitskiy et al. (2020)](references.md). In the public code only ConvNeXt and InDI's U-Net are told the
# iteration. Here all are, each by a shift of its features, so that the comparison is between networks and not between codes.
# Batch normalisation is replaced by a normalisation of each image alone: a preconditioner must not let one image change
# another's direction.
#
# ## The code of the iteration
#
# The text of D2GP names two codes. Section II.B has $\phi(k)=\mathbf{w}\,k$ with a trained $\mathbf{w}$; Section III.B and DIPA
# take the sinusoidal code of InDI's implementation, after [Vaswani et al. (2017)](references.md):
#
# $$\phi(k) = \big[\sin(k\,\omega_i)\big]_{i<d/2}\ \Vert\ \big[\cos(k\,\omega_i)\big]_{i<d/2},\qquad \omega_i = 10000^{-2i/d}.$$

# %% tags=["hide-input"]
_told = {"sinusoidal": networks.build_code("sinusoidal", 256), "learned, at its start": networks.build_code("learned", 256)}
with torch.no_grad():
    _codes = {name: torch.stack([code(k) for k in range(1, 21)]) for name, code in _told.items()}
plots.codes(_codes)
plots.plt.show()

# %% [markdown]
# Read a row as what the network hears at iteration $k$. Sinusoidal: the first numbers of each half turn fast and tell
# neighbouring iterations apart; most of the others hardly change over 20 iterations. It is bounded for any $k$. Learned: every
# row is a multiple of one vector, so the code only says how far along it is; at $k=3K$ it is three times as long as anything
# met in training. The third choice, `code="none"`, is one network that does not know $k$. D2GP Fig. 1(b) compares the three at
# several widths, here with the presets of this project:

# %% tags=["hide-input"]
recorded = reports.by_preset(experiments.find_runs(experiments.results_folder("single_pixel")))
rows = []
for name in [name for name in experiments.names() if name.startswith("features-")]:
    _counts = []
    for profile in ("paper", "small"):
        config = experiments.resolve(name, profile).network
        _size = {key: getattr(config, key) for key in ("features", "blocks", "code", "code_dim")}
        _counts.append(f"{dipa.NeuralPreconditioner(config.backbone, img_size=(1, 32, 32), **_size).parameter_count:,}")
    _found = ", ".join(f"{run.metrics['student']['psnr']:.2f}" for run in recorded.get(name, []))
    rows.append((f"`{name}`", str(config.features), config.code, *_counts, _found or "not recorded"))
display(
    Markdown(reports.table(("preset", "features", "code", "parameters (paper)", "parameters (small)", "our PSNR (dB)"), rows))
)

# %% [markdown]
# Profile `paper` has five blocks, profile `small` fewer. The figure of the paper prints no numbers, so there is no published
# column.
#
# ## The start
#
# D2GP Algorithm 2 draws $\theta$ at random. With the residual connection that is a random perturbation of the identity. Here
# the last layer starts at zero (`start="identity"`), so that the first step of training meets the unpreconditioned solver
# exactly; `start="random"` is the papers'.

# %%
place = notebook.place(device)
student = dipa.operators.single_pixel((1, size, size), ratio=0.2).to(place)
teacher = dipa.operators.single_pixel((1, size, size), ratio=0.7).to(place)
denoiser = dipa.denoisers.load().to(place)
solver = dipa.FISTA(prior=dipa.PnP(denoiser, precision="auto"), iterations=iterations, start="zero")
train = dipa.data.load("embedded", "train", size=size, count=images).images.to(place)
test = dipa.data.load("embedded", "test", size=size, count=48).images.to(place)
sized = {"img_size": (1, size, size), "features": features, "blocks": blocks, "code_dim": code_dim}
sized |= {"scaling": "none"}  # the papers' network; the package's own default divides by the size of the gradient

# %% tags=["hide-input"]
y, rows, psnr = student.A(test), [], {}
for start in ("identity", "random"):
    preconditioner = dipa.NeuralPreconditioner("convnext", start=start, **sized).to(place)
    with torch.no_grad():
        gradient = student.A_adjoint_A(test)
        moved = (preconditioner(gradient, test, 1) - gradient).norm() / gradient.norm()
        x = solver(y, student, preconditioner=preconditioner, stepsize=0.4).x
    psnr[start] = dipa.metrics.psnr(x, test).mean().item()
    rows.append((f"`{start}`", f"{moved:.3f}", f"{psnr[start]:.2f}"))
    assert (moved == 0) == (start == "identity")
with torch.no_grad():
    psnr["none"] = dipa.metrics.psnr(solver(y, student, stepsize=0.4).x, test).mean().item()
rows.append(("no preconditioner", "0.000", f"{psnr['none']:.2f}"))
display(Markdown(reports.table(("start", "direction - gradient, relative", "PSNR before training (dB)"), rows)))
assert abs(psnr["identity"] - psnr["none"]) < 1e-3

# %% [markdown]
# ## A short training
#
# A ConvNeXt of a few thousand numbers, a few images, all of them at every step, with the loss of D2GP Eq. (3), all weights 1.
# It shows that the gradient reaches the network through all iterations, and little about quality. On a projector the first
# thing to learn is a longer step, which needs no network: the plain solver with the step $1/L$ stands beside it.

# %%
network = dipa.NeuralPreconditioner("convnext", **sized).to(place)
fit = dipa.distill(
    solver,
    network,
    student,
    teacher,
    train,
    losses=dipa.LossWeights(supervised=1.0, imitation=1.0, gradient=1.0),
    budget=dipa.Budget(steps=steps, batch_size=images, learning_rate=1e-3, schedule="cosine"),
    stepsize=0.4,
    teacher_stepsize=0.7,
    validation=0,
    progress=False,
)

# %% tags=["hide-input"]
with torch.no_grad():
    x = solver(y, student, preconditioner=network, stepsize=0.4).x
    _longer, _trained_longer = (solver(student.A(images), student, stepsize="1/L").x for images in (test, train))
_after, _step = (dipa.metrics.psnr(images, test).mean().item() for images in (x, _longer))
_psnr, _reference = [record["psnr"] for record in fit.history], dipa.metrics.psnr(_trained_longer, train).mean().item()
plots.compare(
    {"network": _psnr, "no network, step 1/L": [_reference] * steps}, "PSNR, training images (dB)", xlabel="training step"
)
plots.plt.show()
_begin, _end, _losses = _psnr[0], _psnr[-1], (fit.history[0]["loss"], fit.history[-1]["loss"])
display(
    Markdown(
        f"{network.parameter_count:,} parameters, {images} training images: loss {_losses[0]:.3f} → {_losses[1]:.3f}, "
        f"{_begin:.2f} → {_end:.2f} dB on them, "
        f"{psnr['identity']:.2f} → {_after:.2f} dB on {len(test)} test images. No network and stepsize 1/L: {_step:.2f} dB."
    )
)
assert fit.history[-1]["loss"] < fit.history[0]["loss"]

# %% [markdown]
# How nonlinear is what it learned? Along a segment between two gradients a linear map has no curvature; how far the network is
# from that, and how much its direction changes from the first to the last iteration for the same gradient:

# %% tags=["hide-input"]
with torch.no_grad():
    a, b = student.A_adjoint_A(test[:24]), student.A_adjoint_A(test[24:48])
    first, last = network(a, a, 1), network(a, a, iterations)
    ends, middle = (network(a, a, 1) + network(b, b, 1)) / 2, network((a + b) / 2, a, 1)
_curved, _told = ((ends - middle).norm() / middle.norm()).item(), ((last - first).norm() / first.norm()).item()
display(
    Markdown(f"Departure from linearity {_curved:.4f}, change over the iterations {_told:.4f}, both relative to the direction.")
)

# %% [markdown]
# A network is free to leave $\mathrm{range}(H^\top)$, as a matrix is, and for the same purpose. `dipa.analysis` takes the
# Jacobian of a trained network apart into what it does on the range and what it sends outside.
#
# ## Recorded runs
#
# Profile `small` trains a narrower and shallower network than the papers, for far fewer image-steps. What is committed is read
# here; a row without numbers has not been recorded.

# %% tags=["hide-input"]
_presets = ["n-dipa-supervised", "n-dipa"]
_runs = [run for name in _presets for run in recorded.get(name, [])]
_table = reports.paper_beside_ours(_runs, _presets, source="D2GP Table I", extras=("parameters",))
display(Markdown(_table))
for name in _presets:
    _net, _training = (getattr(experiments.resolve(name, "small"), part) for part in ("network", "training"))
    _which = f"`{name}`, profile small: {_net.features} features, {_net.blocks} blocks, "
    _which += f"{_training.steps} steps of {_training.batch_size} images"
    if name in recorded:
        _run = recorded[name][0]
        _numbers = " / ".join(f"{_run.metrics[role]['psnr']:.2f}" for role in plots.ROLES)
        display(Markdown(f"{_which}: {_numbers} dB (baseline / student / teacher; mean over images), run `{_run.path.name}`."))
        plots.training(_run.history)
        plots.plt.show()
    else:
        display(Markdown(f"{_which}: **not recorded yet**; `dipa run {name} --profile small` makes it."))

# %% tags=["remove-cell", "nbval-check-output"]
print(counts)

# %% [markdown]
# A training like this starts at the plain solver, and each of its steps runs a whole solve, forward and backward. Neither has to be:
# [the next page](behind.ipynb) puts the network behind the closed form and trains one iteration alone.
#
# ## Limits
#
# - Training is the price: at the papers' width most of a step's time goes into the network. Its feature maps of all K
#   iterations would fill the memory, so training keeps the iterates alone and computes the maps again in the backward pass
#   (`dipa.training.Differentiation` lists the ways).
# - The reduced widths behind Fig. 1(a) are unknown, and Figures 1(a) and 1(b) print no numbers: this page compares sizes, not
#   results, with the papers.
# - The ViT of the public code attends along the batch and drops units at random; ours attends along the patches of one image.
