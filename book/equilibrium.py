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
#

# %% [markdown]
# # Learning at equilibrium
#
# The trainings of the other pages unroll: a solver runs K iterations, and a gradient goes back through all of them. What is learned
# is right for K, and [may fall after it](behind.ipynb). The other neighbour does not unroll. A plug-and-play iteration $T_\theta$
# that contracts has one point it leads to from everywhere, its *equilibrium*
#
# $$x_*(\theta)=T_\theta\big(x_*(\theta)\big),\qquad T_\theta(x)=\mathrm{prior}_\theta\big(x-\alpha P_\theta H^\top(Hx-y)\big),$$
#
# and the loss is compared there, $\min_\theta\mathbb E\,\ell(x_*(\theta))$. How many iterations were run is no part of it. With $J$ the
# Jacobian of $T_\theta$ in $x$ at $x_*$, implicit differentiation gives
#
# $$\nabla_\theta\ell=\partial_\theta T_\theta^\top\,(I-J^\top)^{-1}\nabla\ell=\sum_{j\ge0}\partial_\theta T_\theta^\top(J^\top)^j\,\nabla\ell.$$
#
# The linear system can be solved, exactly and slowly, as deep equilibrium models do ([Bai et al., 2019](references.md)). Or the sum
# is cut after its first terms, by applying $T_\theta$ once or a few times more with a graph, a *tail*; one application is Jacobian-free
# backpropagation. [Davy et al. (2025)](references.md) combine the tail with a *restart*: of their paper the abstract alone is public, and
# what is here is our reading of it.

# %% tags=["hide-input"]
import torch
from deepinv import physics as dp
from IPython.display import Markdown, display

import dipa
from dipa import experiments, plots, reports
from dipa.elastic_net import ElasticNet
from dipa.operators import in_wavelets
from dipa.operators.measure import measure
from dipa.reports import equilibrium

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
size, images, steps = 32, 24, 40

# %% [markdown]
# ## A problem that contracts
#
# Photographs, blurred and noisy. On orthonormal wavelet coefficients $c$ the prior is an elastic net with a learned level $\lambda_s$
# for each subband, $\psi(c)=\sum_s\lambda_s\|c_s\|_1+\frac\rho2\|c\|_2^2$. With $\alpha\le2/\|H\|^2$ the step contracts by
# $1/(1+\alpha\rho)$, whatever the levels are, so that the theory holds to the letter.

# %%
place = notebook.place(device)
blur = dp.BlurFFT((1, size, size), filter=dp.functional.gaussian_blur(sigma=(1.0, 1.0)))
physics = in_wavelets(blur).to(place)
physics.noise_model = dp.GaussianNoise(2 / 255)
train = dipa.data.load("embedded", "train", size=size, count=images).images.to(place)
test = dipa.data.load("embedded", "test", size=size, count=images).images.to(place)
coefficients = physics[0].A_adjoint(train)
prior = ElasticNet((1, size, size), curvature=0.02).to(place)
solver = dipa.FISTA(prior, 20, momentum="none", start="zero")

fit = dipa.training.train_equilibrium(
    solver,
    None,
    physics,
    coefficients,
    tail=1,
    budget=dipa.Budget(steps=steps, batch_size=8, learning_rate=0.1, schedule="cosine"),
    iterations=500,
    progress=False,
)

# %% tags=["hide-input"]
y = measure(physics, physics[0].A_adjoint(test))
rows = []
for name, levels in (("untrained", ElasticNet((1, size, size), curvature=0.02).to(place)), ("trained", prior)):
    long = dipa.FISTA(levels, 400, momentum="none", start="zero")
    with torch.no_grad():
        iterates = long(y, physics, stepsize="1/L", iterates=True).iterates
    rows.append((name, *(f"{dipa.metrics.psnr(physics[0].A(iterates[k]), test).mean():.2f}" for k in (20, 80, 400))))
display(Markdown(reports.table(("levels", "K = 20 (dB)", "K = 80 (dB)", "K = 400 (dB)"), rows)))
first, last = fit.history[0], fit.history[-1]
display(
    Markdown(
        f"Applications of $T$ that a training step took to its equilibrium: {first['iterations']:.0f} at first, {last['iterations']:.0f} at the "
        f"end. Every image restarts where it ended before. Contraction measured at the first step: {first['contraction']:.3f}."
    )
)
assert float(rows[1][3]) > float(rows[0][3])

# %% [markdown]
# `fit.history` holds loss, iterations and contraction of every step. A preconditioner is trained in the same way, and with it a prior
# or a denoiser that has parameters: `train_equilibrium(solver, P, physics, images)`. The solver's momentum is `none`, because every
# iteration has to be the same operator.
#
# ## How wrong is the gradient of a tail?
#
# The abstract says that Jacobian-free backpropagation "can be made arbitrarily good". The terms that a tail leaves out sum to at
# most $\frac{q^{\mathrm{tail}}}{1-q}\|\partial_\theta T_\theta\|\,\|\nabla\ell\|$ for a $T_\theta$ that contracts by $q$. Measured in float64 on
# eight images, relative to the exact gradient, with the bound in brackets:

# %% tags=["hide-input"]
_outputs = reports.cost.read(experiments.results_folder("benchmarks"))
recorded = {task: _outputs[f"equilibrium_{task}"] for task in ("deblurring", "inpainting")}
for task, output in recorded.items():
    display(Markdown(f"**{task.capitalize()}**"))
    display(Markdown(equilibrium.bias_table(output)))
    _verdict = "holds" if equilibrium.bounded(output) else "does **not** hold"
    _words = f"The claim {_verdict}: every error within its bound, and smaller with the longest tail."
    display(Markdown(f"{_words} {reports.cost.measured_on(output)}"))
_bias = recorded["deblurring"]["bias"].values()
_lines = {f"q = {found['q']:.3f}": list(found["errors"].values()) for found in _bias}
plots.against(equilibrium.TAILS, _lines, "applications in the tail (deblurring)", "relative error of the gradient")
plots.plt.show()

# %% [markdown]
# ## What it is worth
#
# The same levels learned through K = 20 unrolled iterations, at equilibrium with the exact gradient, and with tails, each image from
# its last equilibrium or from the start again. Tested after K iterations and far beyond; *applications* is how often a training step
# applied $T$ to find its equilibrium, on average.

# %% tags=["hide-input"]
for task, output in recorded.items():
    settings = output["settings"]
    _about = f"{settings['count']} training and {settings['test']} test images of {settings['size']} x {settings['size']} pixels"
    display(Markdown(f"**{task.capitalize()}**, {_about}, {settings['steps']} steps of {settings['batch']}"))
    display(Markdown(equilibrium.ways_table(output)))
    display(Markdown(equilibrium.in_words(output)))

# %% [markdown]
# So one application from restarts is worth about what the exact gradient is, at a small part of its price. Unrolling K iterations is as
# good where K iterations nearly reach the equilibrium, as on the blur; where they do not, as where pixels are missing, it learns levels
# that are right for K and wrong later.
#
# ## What the source leaves open
#
# Everything but the idea. Read so: a restart keeps the equilibrium of every image and begins there when the image is drawn again; the
# tail is applied to the equilibrium that was found; the loss is the squared error. Operators, noise, sizes, the prior and $\rho$ are
# ours. Denoising is one proximity operator here: its equilibrium is reached at once, and any tail is exact.
# Not here yet: weighted norms in the measurement domain, step sizes of plug-and-play schemes, and a DRUNet that is kept contractive;
# and a preconditioner trained at equilibrium on the single-pixel camera, whose plug-and-play iteration does not contract.
