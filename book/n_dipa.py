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
from dipa.reports import goals

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

# %% [markdown]
# ## Behind the closed form, one iteration at a time
#
# The training above starts at the plain solver, and each of its steps runs a whole solve, forward and backward. Neither has to
# be. With $R$ the [closed form](l_dipa.ipynb), which costs no training, and $\mathcal{N}$ a network that starts as the identity,
#
# $$P(g) = \mathcal{N}\big(R\,g,\ \phi(k)\big)$$
#
# starts at the quality of $R$, and the network sees a whole image from the first step on, not a data gradient
# (`ComposedPreconditioner`). It divides by the size of its input and multiplies by it again (`scaling="image"`), so that
# $P(tg)=tP(g)$ for $t>0$ and $P(0)=0$: where the data are explained nothing moves any more. And it is trained in phases
# (`dipa.training.Phase`):
#
# 1. the first iteration alone, compared with the clean image *before* the denoiser: one call of the network, no solve;
# 2. every iteration alone, on the iterates of the run itself, again before the denoiser: no gradient passes from one iteration
#    to the one before.
#
# No gradient ever goes through a denoiser, and none through more than one iteration. The solver has no momentum here.

# %% tags=["hide-input"]
_steps = ["baseline", "ridge-full", "n-dipa-supervised", "n-dipa", "n-dipa-pretrained", "n-dipa-composed"]
display(Markdown(reports.phases_table([run for name in _steps for run in recorded.get(name, [])])))
plots.compare(
    {name: curve["psnr"] for name, curve in reports.curves([run for runs in recorded.values() for run in runs], _steps).items()},
    "PSNR, test images (dB)",
)
plots.plt.show()

# %% [markdown]
# The columns count images that a training step looked at: in the first phase through one iteration, in the second and in the
# papers' training through all K of them. An image through one iteration costs one call of the network forward and backward; one
# through the whole solve, exactly, K calls of network and denoiser, forward and backward. The conventions of PSNR are those of
# [the results](results_single_pixel.ipynb). `n-dipa` and `n-dipa-composed` differ in the network, the images, the momentum and
# the losses too (the latter uses no teacher), so the table shows what the recipe reaches, not what each part of it adds, but for the
# second phase: `n-dipa-pretrained` is the first one alone, and does without it. Both curves are highest early and fall slowly.
#
# ## A prior whose share decays
#
# Why they fall: once the data are explained $P(0)=0$, and what is left of an iteration is the denoiser, applied again and again. It
# smooths what $P$ has put where $H$ sees nothing, and no gradient brings that back. A prior that withdraws does not
# (`FISTA(prior_decay=`$\tau$`)`): with $v^k=z^k-\alpha P(\nabla g(z^k),\phi(k))$,
#
# $$x^{k} = v^{k} + k^{-\tau}\,\big(D(v^{k})-v^{k}\big).$$
#
# At $\tau=0$ this is the papers' solver. For $\tau\le 1$ the shares sum to infinity, so that the prior still chooses among the images that
# explain the data (for convex functions this is the descent method of [Solodov (2007)](references.md)), but it has to leave alone what it cannot improve early on.
# The second phase is not needed then: `n-dipa-decayed` is trained on its first iteration alone.

# %% tags=["hide-input"]
_steps = ["baseline", "baseline-decayed", "ridge-full", "ridge-decayed", "n-dipa-pretrained", "n-dipa-composed"]
_steps += ["n-dipa-decayed-narrow", "n-dipa-decayed"]
display(Markdown(reports.phases_table([run for name in _steps for run in recorded.get(name, [])])))
plots.compare(
    {name: curve["psnr"] for name, curve in reports.curves([run for runs in recorded.values() for run in runs], _steps).items()},
    "PSNR, test images (dB)",
)
plots.plt.show()

# %% [markdown]
# It is no remedy for everything: the plain solver and the closed form live on what the denoiser does in late iterations, and lose by
# it. The better $P$, the less there is left for the prior.
#
# ## What a teacher teaches in one iteration
#
# The losses of the papers compare the ends of two runs. In the first iteration alone they compare its image, before the denoiser,
# with the clean image (supervised), with the image the teacher ends in, or with the teacher's own first iterate (imitation); or its
# direction with the teacher's gradient at the same point. A short training each, from the same start, on the same images in the same
# order:

# %% tags=["hide-input"]
_first = [f"n-dipa-first-{name}" for name in ("supervised", "imitation", "imitation-iterate", "gradient", "distilled")]
_firsts = [run for name in _first for run in recorded.get(name, [])]
display(Markdown(reports.phases_table(_firsts)))
_shown = ", ".join(f"{run.metrics['teacher']['psnr']:.2f}" for run in _firsts[:1])
display(Markdown(f"The teacher itself: {_shown} dB."))

# %% [markdown]
# ## Few images
#
# The same recipe on the other two tasks, where images are few: every step varies the images that it draws, and the closed form in
# front is made of varied copies ([few images](l_dipa.ipynb)):

# %% tags=["hide-input"]
_there = reports.by_preset(experiments.find_runs(experiments.results_folder(), deep=True))
_names = ["mri-baseline", "mri-ridge", "mri-ridge-varied", "mri-n-dipa-supervised", "mri-n-dipa-composed"]
_names += ["sr-baseline", "sr-baseline-interpolated", "sr-ridge", "sr-ridge-varied", "sr-n-dipa-supervised", "sr-n-dipa-composed"]
display(Markdown(reports.phases_table([run for name in _names for run in _there.get(name, [])])))

# %% [markdown]
# So most of the gain needs no training at all, and the rest no solve. In dB of mean PSNR, one column on top of the other:

# %% tags=["hide-input"]
_parts = {
    "single-pixel camera": ("baseline", "ridge-full", "n-dipa-decayed"),
    "MRI": ("mri-baseline", "mri-ridge-varied", "mri-n-dipa-composed"),
    "super-resolution": ("sr-baseline", "sr-ridge-varied", "sr-n-dipa-composed"),
}
_rows = []
for task, names in _parts.items():
    plain, closed, learned = (_there[name][0].metrics["student"]["psnr"] for name in names)
    _rows.append((task, f"{plain:.2f}", f"{closed - plain:+.2f}", f"{learned - closed:+.2f}", f"{learned:.2f}"))
display(Markdown(reports.table(("task", "plain solver", "closed form", "network behind it", "together"), _rows)))

# %% [markdown]
# Of MRI the imaginary part of the truth is zero in these images, and a $P$ on both channels learns it: PSNR over both channels
# gains by that alone. The modulus, on [the page of results](results_mri.ipynb), is the number to compare.
#
# ## What a preconditioner does not know
#
# Closed form and network guess what the mask does not see from the images they were made of. On images of another kind that
# guess is wrong, and the measurements tell: their spectrum is another, and the first step leaves more of the gradient than it
# did in training. A learned preconditioner keeps these numbers (`dipa.preconditioners.trust`), and the solver leaves it out for
# images it does not know, one by one. Here the recorded `n-dipa-decayed`, which was trained on digits, meets others
# (`benchmarks/other_images.py`), with the plain solver of the same stepsize, Nesterov's momentum and the whole prior beside it:

# %% tags=["hide-input"]
_others = reports.cost.read(experiments.results_folder("benchmarks"))["other_images"]
display(Markdown(reports.images_table(_others)))
_long = ", ".join(f"{value:.2f} dB at k = {k}" for k, value in _others["long"].items())
display(
    Markdown(
        f"Strokes on black keep their gain, turned, thicker or thinner; negatives, photographs and faces are left to the plain "
        f"solver. Far beyond the trained K, on the digits: {_long}. Run `{_others['settings']['run']}`. "
        f"{reports.cost.measured_on(_others)}"
    )
)

# %% [markdown]
# ## Aimed at and reached
#
# What this project set itself to reach with trainings that fit two cores, and what is recorded (the paper's 34.55 dB of the batch MSE
# are D2GP Table I's N-DIPA; a mean over seeds where there are several):

# %% tags=["hide-input"]
_reached = goals.trained(
    [run for runs in _there.values() for run in runs], reports.cost.read(experiments.results_folder("benchmarks"))
)
display(Markdown(goals.targets_table({"trained": _reached}, goals.QUALITY)))

# %% tags=["remove-cell", "nbval-check-output"]
print(counts)

# %% [markdown]
# ## Limits
#
# - Training is the price: at the papers' width most of a step's time goes into the network. Its feature maps of all K
#   iterations would fill the memory, so training keeps the iterates alone and computes the maps again in the backward pass
#   (`dipa.training.Differentiation` lists the ways).
# - The reduced widths behind Fig. 1(a) are unknown, and Figures 1(a) and 1(b) print no numbers: this page compares sizes, not
#   results, with the papers.
# - The ViT of the public code attends along the batch and drops units at random; ours attends along the patches of one image.
