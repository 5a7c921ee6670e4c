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
# # PnP and RED
#
# Both papers reconstruct with a denoiser in the place of a regulariser. DIPA does so in two ways, plug-and-play (PnP)
# ([Venkatakrishnan et al., 2013](references.md); [Kamilov et al., 2017](references.md)) and regularization by denoising (RED)
# ([Romano et al., 2017](references.md)). This page writes down the two steps, shows what momentum, start and stepsize do to
# each, and asks where they lead.
#
# ## Two steps
#
# With the data gradient $\nabla g(z)=H^\top(Hz-y)$, a stepsize $\alpha$ and a denoiser $D$:
#
# | | without preconditioner, DIPA Eq. (2) and (3) | with it, DIPA Eq. (4) and (5) |
# |---|---|---|
# | PnP | $x^k = D\big(z^k-\alpha\nabla g(z^k)\big)$ | $x^k = D\big(z^k-\alpha P\nabla g(z^k)\big)$ |
# | RED | $x^k = z^k-\alpha\big(\nabla g(z^k)+\lambda(z^k-D(z^k))\big)$ | $x^k = z^k-\alpha\big(P\nabla g(z^k)+\lambda(z^k-D(z^k))\big)$ |
#
# The calls are `dipa.PnP(denoiser)` and `dipa.RED(denoiser, weight=1.0)`. The symbols of these equations are lost in the text available to this project; this is how we read the words around them. The
# weight $\lambda$ is not stated; the default is 1.
#
# PnP takes $D$ for the proximity operator of an unknown regulariser, and passes the whole step through it, the preconditioned
# direction included. RED takes $z-D(z)$ for the gradient of the regulariser $\tfrac12 z^\top(z-D(z))$, which it is under
# conditions that networks rarely meet ([Reehorst and Schniter, 2019](references.md)), and adds it to the direction: what $P$
# does never meets the denoiser before the next iteration. The denoiser here, a DnCNN ([Zhang et al., 2017](references.md)),
# knows one noise level ([The denoiser](denoiser.ipynb)). It ignores $\sigma$ and $\alpha$.
#
# The rest of an iteration is the same for both, $z^{k+1}=x^k+\beta_k(x^k-x^{k-1})$. One class runs them:

# %% tags=["hide-input"]
from itertools import islice

import deepinv
import torch
from IPython.display import Markdown, display

import dipa
from dipa import analysis, data, denoisers, linalg, metrics, operators, plots, reports, solvers

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
iterations = 40
stepsize = 0.4  # the papers' stepsize of the student
count = 2  # test images

# %%
place = notebook.place(device)
H = operators.single_pixel((1, 32, 32), ratio=0.2).to(place)
x_true = data.load("embedded", "test", size=32, count=count).images.to(place)
y = H.A(x_true)
denoiser = denoisers.load().to(place)
priors = {"PnP": dipa.PnP(denoiser), "RED": dipa.RED(denoiser)}

# %%
solver = dipa.FISTA(prior=priors["PnP"], iterations=20, momentum="nesterov", start="adjoint")
x_hat = solver(y, H, stepsize=stepsize).x

# %% [markdown]
# ## Momentum
#
# Four rules for $\beta_k$ ([Notation](notation.md) has the formulas). `nesterov` is FISTA as printed in D2GP Algorithm 1 ([Beck
# and Teboulle, 2009](references.md)); `deepinv` is what FISTA means in deepinv 0.5.0 ([Tachella et al., 2025](references.md)),
# the library on which both papers build. The first two weights of the former are small, those of the latter are large from the
# start.

# %% tags=["hide-input"]
steps = (1, 2, 3, 5, 10, 20)
rows = []
for name, rule in solvers.MOMENTA.items():
    weights = list(islice(rule(), max(steps)))
    rows.append((f"`{name}`", *(f"{weights[k - 1]:.3f}" for k in steps)))
display(Markdown(reports.table(("momentum", *(f"k = {k}" for k in steps)), rows)))

# %%
runs = {prior: {} for prior in priors}
for prior in priors:
    for momentum in solvers.MOMENTA:
        accelerated = dipa.FISTA(prior=priors[prior], momentum=momentum, start="adjoint")
        runs[prior][momentum] = analysis.convergence(accelerated, H, y, x_true, stepsize=stepsize, iterations=iterations)

# %% tags=["hide-input"]
plots.beside({prior: {rule: run.curves["psnr"] for rule, run in found.items()} for prior, found in runs.items()})
plots.plt.show()
for found in runs.values():
    at_ten = {rule: run.curves["psnr"][10] for rule, run in found.items()}
    assert at_ten["none"] < min(at_ten["nesterov"], at_ten["chambolle_dossal"]) < at_ten["deepinv"]
heavy = runs["PnP"]["deepinv"].curves["psnr"]
assert heavy.index(max(heavy)) < iterations

# %% [markdown]
# *Mean PSNR over the test images. RED with the same $\alpha$ is slower than PnP: the denoiser's part of a step is multiplied by
# $\alpha\lambda$, in PnP it is not.*
#
# In the window of 20 iterations that the papers use, more momentum is better. Soon after, PnP with `deepinv` weights has its best
# behind it. That is not the data term, which has next to nothing to do here: with a projector and noiseless data, the start
# $H^\top y$ has no data error at all. Nearly the whole run happens in the null space, and it is the denoiser that moves.
#
# ## Starts
#
# For a projector, three of the four starts are one. $H^\dagger=H^\top$, and the normalised adjoint is the adjoint itself, because
# the constant is measured exactly. Only `zero`, the start that D2GP prints, is another:

# %% tags=["hide-input"]
begun = {name: rule(y, H) for name, rule in solvers.STARTS.items()}
for name in ("pseudo_inverse", "interpolated"):
    assert torch.allclose(begun[name], begun["adjoint"], atol=1e-5)
rows = []
for prior in priors:
    cells = []
    for start in ("zero", "adjoint"):
        from_start = dipa.FISTA(prior=priors[prior], iterations=20, start=start)
        history = from_start(y, H, stepsize=stepsize, x_true=x_true, history=True).history
        cells += [f"{history[k]['psnr']:.2f}" for k in (0, 5, 20)]
    rows.append((prior, *cells))
head = ("PSNR (dB)", *(f"`{start}`, k = {k}" for start in ("zero", "adjoint") for k in (0, 5, 20)))
display(Markdown(reports.table(head, rows)))

# %% [markdown]
# After 20 iterations little of the difference is left. For super-resolution it is the other way round: there the start decides
# everything ([Surprises](surprises.ipynb)).
#
# ## Stepsizes
#
# For the data term alone, $\alpha<2/L$ suffices without momentum, $L=\|H\|^2=1$ here. As $\beta_k$ approaches 1 the limit falls
# to $\tfrac43/L$ (stability of the two-step recursion at an eigenvalue $L$); theory asks for $\alpha\le1/L$ ([Beck and
# Teboulle, 2009](references.md)). RED's gradient contains the denoiser's residual, so $L+\lambda\rho$ takes the place of $L$,
# with $\rho$ the Lipschitz constant of $z-D(z)$.

# %% tags=["hide-input"]
alphas, settings = (0.1, 0.4, 1.0, 1.9), [(prior, momentum) for prior in priors for momentum in ("none", "nesterov")]
trials = {}
for prior, momentum in settings:
    plain = dipa.FISTA(prior=priors[prior], momentum=momentum, start="zero")
    for alpha in alphas:
        trials[prior, momentum, alpha] = analysis.convergence(plain, H, y, x_true, stepsize=alpha, iterations=20)
described = {
    key: f"{run.curves['psnr'][-1]:.1f}, residual {run.curves['residual'][-1]:.3f}" if run.stable else run.verdict
    for key, run in trials.items()
}
rows = [(f"{alpha:g}", *(described[(*setting, alpha)] for setting in settings)) for alpha in alphas]
display(Markdown(reports.table(("$\\alpha$", *(f"{prior}, `{momentum}`" for prior, momentum in settings)), rows)))
assert trials["PnP", "none", 1.9].stable
assert not any(trials[prior, "nesterov", 1.9].stable for prior in priors)
left = {prior: [trials[prior, "nesterov", alpha].curves["residual"][-1] for alpha in (0.4, 1.0)] for prior in priors}
assert left["PnP"][1] < 0.6 * left["PnP"][0] and left["RED"][1] > 0.8 * left["RED"][0]

# %% [markdown]
# *PSNR in dB and relative residual after 20 iterations from zero, or the verdict on a run that grows or diverges.*
#
# The `nesterov` columns from 0.1 to 1 have met the data. There the residual of PnP keeps falling with $\alpha$, that of RED
# does not. In PnP the stepsize is a weight between data and denoiser, not only a speed.
#
# ## Where they lead
#
# First, with a denoiser for which there is a theory: a mild linear smoothing $D=S$ with eigenvalues in ]0, 1]. Then both fixed
# points are the solutions of linear systems. PnP and RED minimise
#
# $$g(x)+\frac1{2\alpha}\,x^\top(S^{-1}-I)\,x \qquad\text{and}\qquad g(x)+\frac\lambda2\,x^\top(I-S)\,x :$$
#
# the objective of PnP depends on the stepsize, that of RED does not. Momentum appears in neither.

# %%
blur = operators.super_resolution((1, 32, 32), factor=1).to(place)
smoothing = lambda image, sigma: (image + blur.A(image)) / 2  # noqa: E731
parts = (lambda image: smoothing(image, 0), H.A_adjoint_A)
S, G = (linalg.dense(part, (1, 32, 32), device=place).cpu().double() for part in parts)
eye, b = torch.eye(1024, dtype=torch.float64), H.A_adjoint(y).flatten(1).cpu().double().T
fixed = {("RED", alpha): torch.linalg.solve(G + eye - S, b) for alpha in (0.4, 0.6)}
fixed |= {("PnP", alpha): torch.linalg.solve(eye - S @ (eye - alpha * G), alpha * S @ b) for alpha in (0.4, 0.6)}

# %% tags=["hide-input"]
rows = []
for (prior, alpha), solution in fixed.items():
    reference, distances = solution.T.reshape(x_true.shape).to(x_true), []
    for momentum in ("none", "nesterov", "deepinv"):
        linear = dipa.FISTA(prior=getattr(dipa, prior)(smoothing), iterations=400, momentum=momentum)
        distances.append(analysis.relative_norm(linear(y, H, stepsize=alpha).x - reference, reference).max().item())
    assert max(distances) < 1e-4
    rows.append((prior, f"{alpha:g}", f"{metrics.psnr(reference, x_true).mean():.2f}", *(f"{d:.0e}" for d in distances)))
head = ("step", "$\\alpha$", "PSNR of the closed form", *(f"distance, `{rule}`" for rule in ("none", "nesterov", "deepinv")))
display(Markdown(reports.table(head, sorted(rows))))
assert torch.allclose(fixed["RED", 0.4], fixed["RED", 0.6])
assert (fixed["PnP", 0.4] - fixed["PnP", 0.6]).norm() > 1e-2 * fixed["PnP", 0.4].norm()

# %% [markdown]
# *Distance of the 400th iterate from the closed form, relative, the largest over the images. Each run ends where it should.*
#
# Now the network. Theorems on PnP with a fixed denoiser ask for a Lipschitz condition on $D-I$ ([Ryu et al.,
# 2019](references.md)), or let the denoiser weaken from iteration to iteration ([Chan et al., 2017](references.md)). A DnCNN
# trained in the ordinary way promises neither. DIPA's Assumption 1 (Eq. 11) bounds how far $D$ moves an image, which keeps one
# step short but does not make a sequence converge. So we look: the same solver on one image, for many times 20 iterations.

# %%
long = {}
for name, momentum in (("PnP, none", "none"), ("PnP, nesterov", "nesterov")):
    patient = dipa.FISTA(prior=priors["PnP"], momentum=momentum)
    long[name] = analysis.convergence(patient, H, y[:1], x_true[:1], stepsize=stepsize, iterations=250)

# %% tags=["hide-input"]
plots.iterations({name: run.curves for name, run in long.items()})
plots.plt.show()
best = {name: max(range(251), key=run.curves["psnr"].__getitem__) for name, run in long.items()}
change = {name: run.curves["change"][-1] for name, run in long.items()}
basis, drifted = H.range_basis(), long["PnP, nesterov"]
ends = analysis.audit(drifted.x, x_true[:1], y[:1], H, basis)
assert all(run.verdict != "settled" for run in long.values())
assert drifted.curves["psnr"][-1] < drifted.curves["psnr"][20] - 1 and ends["residual"] < 0.05
assert ends["error_null"] > 5 * ends["error_range"] and best["PnP, nesterov"] < best["PnP, none"]
display(
    Markdown(
        f"With Nesterov's weights the PSNR peaks at iteration {best['PnP, nesterov']} and is {drifted.curves['psnr'][-1]:.1f} dB at "
        f"the end, with a residual of {ends['residual']:.3f}: the error is {ends['error_null']:.2f} of the image in the null space, "
        f"{ends['error_range']:.2f} outside it. Without momentum the best iteration of the 250 is {best['PnP, none']}, and the last "
        f"relative change is still {change['PnP, none']:.0e}."
    )
)

# %% [markdown]
# So with this denoiser on this operator, neither setting has converged, and the residual does not show it. **$K=20$ is a stopping
# time**, a parameter of the method like $\alpha$. Every number in the papers, and in this book where not said otherwise, is the
# value at that time. It also means that what is learned through 20 iterations is learned for 20 iterations.
#
# ## RED in deepinv is another algorithm
#
# DIPA (Sec. 4) says that it uses deepinv's RED-FISTA. deepinv's FISTA takes the gradient of the data term and the *proximity
# operator* of the prior. RED has no closed form for that. So deepinv minimises, silently and by an inner gradient descent,
# $\lambda h(x)+\tfrac1{2\alpha}\|x-(z-\alpha\nabla g(z))\|^2$ with $\nabla h(x)=x-D(x)$. That is the implicit step
#
# $$x^k = z^k-\alpha\big(\nabla g(z^k)+\lambda\,(x^k-D(x^k))\big),$$
#
# with the denoiser at the *new* point. Eq. (5) as read here is the explicit step. Their fixed points are the same, their paths
# and costs are not. PnP is the same in both packages, once the momentum is.

# %%
calls, x_deepinv, x_ours, counted = [], {}, {}, {}
counter = denoiser.register_forward_hook(lambda *_: calls.append(1))
for name, prior in (("PnP", deepinv.optim.PnP(denoiser)), ("RED", deepinv.optim.RED(denoiser))):
    settings = {"stepsize": stepsize, "sigma_denoiser": 2 / 255, "max_iter": 20, "early_stop": False}
    x_deepinv[name] = deepinv.optim.FISTA(data_fidelity=deepinv.optim.L2(), prior=prior, **settings)(y, H)
    counted[name, "deepinv"] = len(calls)
    x_ours[name] = dipa.FISTA(prior=priors[name], momentum="deepinv")(y, H, stepsize=stepsize).x
    counted[name, "dipa"] = len(calls) - counted[name, "deepinv"]
    calls.clear()
counter.remove()

# %% tags=["hide-input"]
rows = []
for name in priors:
    apart = analysis.relative_norm(x_deepinv[name] - x_ours[name], x_ours[name]).mean().item()
    psnrs = (f"{metrics.psnr(answers[name], x_true).mean():.3f}" for answers in (x_deepinv, x_ours))
    rows.append((name, *psnrs, f"{apart:.0e}", *(str(counted[name, whose]) for whose in ("deepinv", "dipa"))))
head = ("prior", "PSNR, deepinv", "PSNR, here", "relative distance", "denoiser calls, deepinv", "denoiser calls, here")
display(Markdown(reports.table(head, rows)))
assert torch.allclose(x_deepinv["PnP"], x_ours["PnP"], atol=1e-4)
assert not torch.allclose(x_deepinv["RED"], x_ours["RED"], atol=1e-4) and counted["RED", "deepinv"] > counted["RED", "dipa"]

# %% [markdown]
# The difference is small in the result, since a denoiser for $\sigma=2/255$ hardly changes between the two points, and large in
# cost: the denoiser is nearly the whole price of an iteration. The other direction is `dipa.to_deepinv`, which puts a solver of
# this package with its preconditioner into a deepinv model, explicit RED included.
#
# ## Limits
#
# - One operator, a few patches of photographs, one denoiser. The verdicts of stability belong to these; the closed forms do not.
# - Which weight $\lambda$ the papers used for RED is not known, nor whether their RED is the explicit or deepinv's implicit one.
