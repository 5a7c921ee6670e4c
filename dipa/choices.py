"""The names that a configuration may give, one tuple for each kind: what can be chosen is known
before torch is imported.

What each name stands for is in the module that implements it; ``tests/test_start.py`` compares the
two.
"""

from __future__ import annotations

# dipa.data.SOURCES
DATASETS = ("embedded", "embedded-mri", "mnist", "bsds500", "celeba", "faces", "fastmri", "mri-npz")
RESIZES = ("bilinear", "bicubic", "nearest", "pad")  # dipa.data.mnist: from 28 x 28 to another side
# dipa.operators.single_pixel
ORDERINGS = ("cake_cutting", "zig_zag", "xy", "sequency", "sequency_permutation", "sequency_rows")
DENOISERS = ("dncnn-bsds500", "dncnn-deepinv")  # dipa.denoisers.load
MOMENTA = ("none", "nesterov", "chambolle_dossal", "deepinv")  # dipa.solvers.MOMENTA
# dipa.solvers.STARTS
STARTS = ("zero", "adjoint", "scaled_adjoint", "pseudo_inverse", "interpolated")
FORMS = ("low_rank", "dense")  # dipa.preconditioners.linear
# dipa.networks.BACKBONES
BACKBONES = ("convnext", "mlp", "cnn", "cnn_attention", "unet", "multiscale", "indi_unet", "vit")
CODES = ("sinusoidal", "learned", "none")  # dipa.networks.build_code
SCALINGS = ("none", "image")  # dipa.preconditioners.neural
# dipa.training.differentiate
WAYS = ("unrolled", "checkpointed", "truncated", "jacobian_free", "restart", "straight_through")
PRECISIONS = ("auto", "float32", "tf32", "bf16", "fp16")  # dipa.device.precision
