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
# # Matrices, Jacobians and spectra
#
# L-DIPA trains a matrix, so it can be looked at. N-DIPA trains a network, which has a matrix at every point: its Jacobian. This
# page shows both, and then what the spectrum of $P H^\top H$ says about a preconditioner. It says less than is often read into
# it: for the single-pixel camera the best matrix of this book makes the conditioning *worse*.
#
# The linear preconditioners are the recorded ones of [the results](results_single_pixel.ipynb): digits of 32 x 32 pixels, a fifth
# of the Hadamard coefficients, the papers' denoiser.

# %% tags=["hide-input"]
import copy

import torch
from IPython.display import Markdown, display

import dipa
from dipa import analysis, experiments, plots, reports

# %% tags=["parameters"]
device = "auto"  # a GPU where there is one; or cpu, cuda, cuda:N, mps
columns = 64  # how many columns of the Jacobian are shown

# %% tags=["hide-input"]
place = notebook.place(device)
found = experiments.find_runs(experiments.results_folder("single_pixel"))
closed_form, with_network = (reports.run_of(found, preset) for preset in ("ridge", "n-dipa"))
runs = reports.first_seeds(found, experiments.names())
task = closed_form.config.task
student = task.pair()[0].to(place)
basis = student.range_basis()
n, r = task.size**2, basis.dim

# %% tags=["hide-input"]
P = {"baseline": dipa.Identity(), "closed form": closed_form.preconditioner().to(place)}
best = reports.best_run(runs.values(), [name for name, run in runs.items() if run.config.method == "l-dipa"])
P["L-DIPA"] = best.preconditioner().to(place)
projector = dipa.LinearPreconditioner.identity(student)
dense = {name: (projector if name == "baseline" else matrix).dense().detach() for name, matrix in P.items()}
display(
    Markdown(
        f"*Closed form* is the preset `ridge`, *L-DIPA* the trained preset with the highest PSNR, `{best.config.preset}`, which started there. "
        f"Images have n = {n} pixels, the camera measures r = {r} coefficients, so the range of $H^\\top$ has {r} dimensions and the "
        f"null space of $H$ has {n - r}."
    )
)

# %% [markdown]
# ## P in pixels
#
# DIPA Fig. 2 shows the learned matrices and reads block-like and diagonal patterns in the one of the camera (Sec. 4.2)
# ([Gualdrón-Hurtado et al., 2026](references.md)). Below, the rows and columns of 128 pixels, four lines through the middle of
# the image: the upper left corner, which is often shown, belongs to the black border of the digits. Every matrix is drawn as it
# acts on gradients: the baseline is the projector $\Pi$ on the range, not the identity.

# %% tags=["hide-input"]
_middle = slice(n // 2 - 64, n // 2 + 64)
_zoom = {name: matrix[_middle, _middle] for name, matrix in dense.items()}
_zoom["L-DIPA - closed form"] = _zoom["L-DIPA"] - _zoom["closed form"]
plots.matrices(_zoom, first=n // 2 - 64)
plots.plt.show()
_moved = analysis.relative_distance(dense["L-DIPA"], dense["closed form"])
_far = analysis.relative_distance(dense["closed form"], dense["baseline"])
assert _moved < _far

# %% [markdown]
# The pattern of the projector is that of the functions this camera measures. The other two matrices are not symmetric and have
# learned what digits are like. Two things to keep in mind when such pictures are compared. The part of a dense $P$ that no
# gradient excites is not shown here, while in a matrix trained from the identity it still is the identity and looks like a diagonal
# that training kept ([L-DIPA](l_dipa.ipynb)). And the trained matrix is close to where it started:

# %% tags=["hide-input"]
display(
    Markdown(
        f"Relative to its own norm, training moved the matrix by {100 * _moved:.1f} %; the closed form lies {100 * _far:.0f} % away "
        "from the baseline."
    )
)

# %% [markdown]
# ## Rows and columns as images
#
# Row $i$ of $P$ is the weight each pixel of the gradient has in the update of pixel $i$. Column $j$ is the update caused by a
# gradient of one single pixel $j$. For a matrix $P=BV$ every row is a combination of measured functions; columns are free.

# %% tags=["hide-input"]
_pixels = [(line, column) for line in (9, 16, 23) for column in (11, 18)]
_index = [line * task.size + column for line, column in _pixels]
_side = (-1, task.size, task.size)
plots.tiles(
    {
        "baseline, rows": dense["baseline"][_index].reshape(_side),
        "L-DIPA, rows": dense["L-DIPA"][_index].reshape(_side),
        "L-DIPA, columns": dense["L-DIPA"].T[_index].reshape(_side),
    }
)
plots.plt.show()
_images = dense["L-DIPA"].reshape(n, *student.img_size)
assert analysis.relative_distance(basis.project(_images), _images) < 1e-4

# %% [markdown]
# The baseline answers a pixel with the small cross that the measured functions can draw around it. The rows of $P$ have the same
# cross, and weights up to the border: where digits are always black, a gradient tells about the rest of the image. The columns
# stay where digits are.

# %% tags=["hide-input"]
_width = 4
_in_rows, _in_columns = (
    analysis.border_share(matrix, student.img_size, _width) for matrix in (dense["L-DIPA"], dense["L-DIPA"].T)
)
assert _in_columns < _in_rows
display(
    Markdown(
        f"Of the energy of all rows that belong to pixels inside a frame of {_width} pixels, {100 * _in_rows:.0f} % lies on that "
        f"frame; of the columns, {100 * _in_columns:.1f} %."
    )
)

# %% [markdown]
# ## Blocks in Hadamard coordinates
#
# The same matrix between Hadamard functions. A gradient has only the $r$ measured coordinates, so $P$ falls into two blocks: from
# the range to the range, $r \times r$, and from the range to the null space, $(n-r) \times r$. Only the first can repair
# conditioning. For the baseline the first is the identity and the second is zero.

# %% tags=["hide-input"]
_blocks = {}
for _name in ("closed form", "L-DIPA"):
    _blocks[f"{_name}, to the range"], _outside = analysis.coordinate_blocks(P[_name], basis)
_blocks["L-DIPA, to the null space"] = _outside
plots.matrices({name: block for name, block in _blocks.items()}, label="coefficient")
plots.plt.show()

# %% [markdown]
# Each block counts its coefficients from 0, in deepinv's order: functions with the same vertical factor stand together and make the
# small blocks on the diagonal. Colours saturate at the largest half percent of the entries; the diagonal is stronger than that.
#
# ## Spectra
#
# A step without prior and momentum multiplies the error by $I-\alpha P H^\top H$. D2GP Fig. 3(c) therefore shows the singular
# values of $P H^\top H$ and their condition number $\kappa$ ([Gualdrón-Hurtado et al., 2025](references.md)). On the whole
# image space that number means nothing. $H^\top H$ has $n-r$ zero eigenvalues, whatever $P$: the true $\kappa$ is infinite, and
# what a computer prints is its rounding. The same matrix, in two precisions:

# %%
gram = dipa.linalg.dense(student.A_adjoint_A, student.img_size, device=place).cpu()
whole = {kind: torch.linalg.svdvals(gram.to(kind)) for kind in (torch.float32, torch.float64)}
kappas = {str(kind).removeprefix("torch."): (values.max() / values.min()).item() for kind, values in whole.items()}
print({kind: f"{kappa:.0e}" for kind, kappa in kappas.items()})
assert min(kappas.values()) > 1e6

# %% [markdown]
# So the two blocks are looked at apart (`dipa.analysis.spectra`), with orthonormal rows $V$ that span the range:
#
# $$R = V P H^\top H V^\top \in \mathbb{R}^{r\times r}, \qquad N = (I-V^\top V)\,P H^\top H V^\top \in \mathbb{R}^{n\times r}.$$
#
# $R$ carries the conditioning. $N$ says how strongly a seen error is turned into content that the camera cannot see.

# %%
spectra = {name: analysis.spectra(matrix, student, basis=basis) for name, matrix in P.items()}

# %% tags=["hide-input"]
_frames = {"on the range (R)": "range_values", "into the null space (N)": "null_values"}
_floor = 1e-5
plots.beside(
    {title: {name: getattr(s, key).clamp_min(_floor) for name, s in spectra.items()} for title, key in _frames.items()},
    label="singular value",
    log=True,
    xlabel="number",
)
plots.plt.show()

# %% tags=["hide-input"]
_alpha = closed_form.config.solver.stepsize
_quality = {"baseline": closed_form.metrics["baseline"]["psnr"]}
_quality |= {"closed form": closed_form.metrics["student"]["psnr"], "L-DIPA": best.metrics["student"]["psnr"]}
display(Markdown(reports.spectra_table(spectra, _alpha, _quality)))
assert spectra["baseline"].condition_number < 1.001 and spectra["baseline"].null_values.max() < 1e-3
assert spectra["L-DIPA"].condition_number > 100 and spectra["L-DIPA"].null_values.max() > 1
assert _quality["L-DIPA"] > _quality["baseline"] + 1

# %% [markdown]
# Values below 1e-5 are drawn there. PSNR is the recorded one, after $K$ iterations with the papers' denoiser;
# $\lambda$ are the eigenvalues of $R$ and $\alpha$ the stepsize.
#
# The baseline is perfectly conditioned on the range and has nothing in $N$. The closed form and the trained matrix are far from
# that: they all but ignore directions of the range in which digits have no energy, which is what a ridge regression does, and the
# slowest of these directions hardly moves from iteration to iteration. They still win, through $N$. For this operator,
# "preconditioner" is a name for a learned guess of the null space, and a spectrum of $P H^\top H$ can neither confirm nor refute it. Where
# $H$ is ill-conditioned, $R$ is what counts: see
# [tomography](own_operator.ipynb).
#
# ## The Jacobian of a network
#
# Around a gradient $g$ a network acts as its Jacobian, $\mathcal{P}(g+\delta)\approx \mathcal{P}(g)+J\delta$. Both papers approximate $J$
# by one-sided differences, column by column (D2GP Sec. III.D, DIPA Sec. 4.8):
#
# $$J_{ij} \approx \frac{\mathcal{P}(g+\epsilon e_j)_i-\mathcal{P}(g)_i}{\epsilon}.$$
#
# Forward-mode differentiation gives the same columns exactly, at about twice the cost of a pass through the network
# (`dipa.analysis.jacobian`).

# %% tags=["hide-input"]
network = with_network.preconditioner().to(place)
digits = torch.from_numpy(with_network.examples["truth"]).to(place)
display(Markdown(f"The network: that of the recorded run `n-dipa`, {network.parameter_count:,} parameters."))

# %% [markdown]
# It is linearised where the iteration begins on a digit, at the gradient $g=-H^\top y$ of the start $x^0=0$.

# %%
gradient, other = (-student.A_adjoint_A(digits[index : index + 1]) for index in (0, 1))
some = range(n // 2 - columns // 2, n // 2 + columns // 2)
exact, late = (analysis.jacobian(network, gradient, k=k, columns=some) for k in (1, 20))

# %% tags=["hide-input"]
_part = slice(some.start, some.stop)
_both = {"J at k = 1": exact[_part], "J at k = 20": late[_part], "difference": late[_part] - exact[_part]}
plots.matrices({name: matrix for name, matrix in _both.items()}, first=some.start)
plots.plt.show()
_change = analysis.relative_distance(late, exact)
display(
    Markdown(
        f"Between the first and the twentieth iteration the Jacobian changes by {100 * _change:.1f} % of its norm: that is what the "
        "iteration code does at this point."
    )
)

# %% [markdown]
# How good are the differences? They err twice: the curvature of the network, in proportion to $\epsilon$, and rounding, in
# proportion to $1/\epsilon$. The papers print no $\epsilon$. Relative error against the exact columns:

# %%
epsilons, few = [10.0**power for power in range(-7, 1)], [some.start, n // 2, some.stop - 1]
errors = {
    "float32": analysis.difference_errors(network, gradient, epsilons, columns=few),
    "float64": analysis.difference_errors(copy.deepcopy(network).cpu().double(), gradient.cpu().double(), epsilons, columns=few),
}

# %% tags=["hide-input"]
plots.against(epsilons, errors, "difference step $\\epsilon$", "relative error of $J$")
plots.plt.show()
_least = min(errors["float32"])
assert min(errors["float64"]) < _least < errors["float32"][0]
display(
    Markdown(
        f"In float32 the best of these steps is {epsilons[errors['float32'].index(_least)]:.0e}, with an error of {_least:.0e} of $J$; "
        f"at {epsilons[0]:.0e} the error is {errors['float32'][0]:.0e} times $J$, nothing but rounding. The result itself does not tell on "
        "which side of the minimum a step lies."
    )
)

# %% [markdown]
# ## Is the linearisation the network?
#
# The Jacobian at one point is as good as the network is linear. Both numbers below are 0 for a matrix:
# $\|\mathcal{P}(a+b)-\mathcal{P}(a)-\mathcal{P}(b)\|$ relative to $\|\mathcal{P}(a)\|+\|\mathcal{P}(b)\|$ for the gradients of two digits,
# and the change of the Jacobian's columns from one digit to another.

# %% tags=["hide-input"]
rows = []
for name, candidate in {"L-DIPA": P["L-DIPA"], "network": network}.items():
    index = analysis.linearity_index(candidate, gradient, other).item()
    here, there = (analysis.jacobian(candidate, point, columns=some) for point in (gradient, other))
    rows.append((name, f"{index:.1e}", f"{analysis.relative_distance(there, here):.1e}"))
display(Markdown(reports.table(("P", "linearity index", "change of J between two digits"), rows)))

# %% [markdown]
# Where both are small, the Jacobian speaks for the network. Its spectra, by the same definitions as above:

# %%
linearised = analysis.spectra(network, student, gradient, k=1, basis=basis)

# %% tags=["hide-input"]
_found = {"network at a digit, k = 1": linearised, "L-DIPA": spectra["L-DIPA"]}
_quality["network at a digit, k = 1"] = with_network.metrics["student"]["psnr"]
display(Markdown(reports.spectra_table(_found, _alpha, _quality)))
assert linearised.null_values.max() > 0.1

# %% [markdown]
# PSNR is that of the recorded runs. Quality and condition number have little to do with each other here; what all good preconditioners of
# this camera share is a large $N$.

# %% tags=["remove-cell", "nbval-check-output"]
print(n, r, tuple(exact.shape), linearised.range_rank)

# %% [markdown]
# ## Limits
#
# - Spectra describe one linear step. The algorithm has a denoiser and momentum in it, and runs $K$ steps, not infinitely many;
#   DIPA says as much (Sec. 4.8). [The audit](audit.ipynb) looks at whole runs.
# - Singular values of $R$ do not depend on the choice of $V$, those of $P$ itself would depend on its unexcited block.
# - The Jacobian is taken at the first gradient of a digit. Elsewhere it is another matrix.
