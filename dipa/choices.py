"""The names that a configuration may give, one tuple for each kind: what can be chosen is known before torch is imported.

What each name stands for is in the module that implements it; ``tests/test_start.py`` compares the two.
"""

from __future__ import annotations

DATASETS = ("embedded", "embedded-mri", "mnist", "bsds500", "celeba", "faces", "fastmri", "mri-npz")  # dipa.data.SOURCES
RESIZES = ("bilinear", "bicubic", "nearest", "pad")  # dipa.data.mnist: from 28 x 28 to another side
ORDERINGS = ("cake_cutting", "zig_zag", "xy", "sequency", "sequency_permutation", "sequency_rows")  # dipa.operators.orderings
DENOISERS = ("dncnn-bsds500", "dncnn-deepinv")  # dipa.denoisers.load
MOMENTA = ("none", "nesterov", "chambolle_dossal", "deepinv")  # dipa.solvers.MOMENTA
STARTS = ("zero", "adjoint", "pseudo_inverse", "interpolated")  # dipa.solvers.STARTS
FORMS = ("low_rank", "dense")  # dipa.preconditioners.linear
BACKBONES = ("convnext", "mlp", "cnn", "cnn_attention", "unet", "multiscale", "indi_unet", "vit")  # dipa.networks.BACKBONES
CODES = ("sinusoidal", "learned", "none")  # dipa.networks.build_code
WAYS = ("unrolled", "checkpointed", "truncated", "jacobian_free", "restart", "straight_through")  # dipa.training.differentiate
PRECISIONS = ("auto", "float32", "tf32", "bf16", "fp16")  # dipa.device.precision
