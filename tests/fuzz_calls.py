"""Mutated calls of the public functions: valid arguments, of which one or two are exchanged for
something else.

Every call ends in a result or in one clear line, within seconds. A call is known by its number: the
same number, the same call.
"""

from __future__ import annotations

import copy
import functools
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepinv
import numpy as np
import skimage
import torch
from batteries import identity_denoiser, images, tiny_denoiser

import dipa
from dipa import (
    analysis,
    data,
    endtoend,
    experiments,
    losses,
    metrics,
    networks,
    operators,
    reports,
    solvers,
)
from dipa.elastic_net import ElasticNet
from dipa.operators.measure import measure
from dipa.training import Budget, Differentiation, Phase
from dipa.variations import varied

SIZE = (1, 8, 8)
X, Y = images(2, *SIZE), images(2, *SIZE, seed=1)
FIRST = X[:1] - 0.5


@functools.cache
def camera():
    return operators.single_pixel(SIZE, ratio=0.3)


PICTURES = str(Path(skimage.__file__).parent / "data")  # a folder that holds some


@functools.cache
def teacher():
    return operators.single_pixel(SIZE, ratio=0.7)


@functools.cache
def basis():
    return camera().range_basis()


@functools.cache
def linear():
    return dipa.LinearPreconditioner.identity(camera())


@functools.cache
def network():
    return endtoend.build("e2e-varnet", SIZE, features=2, blocks=1)


def solver():
    return dipa.FISTA(dipa.PnP(tiny_denoiser()), iterations=2)


def conv():
    return dipa.NeuralPreconditioner("cnn", img_size=SIZE, features=4, blocks=1, code_dim=4)


def conditions():
    return analysis.conditions(camera(), solver(), noise=[0.1])


CURVES = {name: [1.0, 0.5, 0.4] for name in ("residual", "norm", "change")}
SMALL = {"features": 4, "blocks": 1}
VARIATIONS = dipa.Variations(flip=True, shift=1.0, copies=1)
TRAINING = {"budget": Budget(steps=1, batch_size=2), "seed": 0, "progress": False}


def distil(**arguments: Any) -> Any:
    return dipa.distill(preconditioner=dipa.ScalarSteps(2), **arguments)


def fitted(**arguments: Any) -> Any:
    return dipa.fit_steps(dipa.ScalarSteps(2), **arguments)


def step_network():
    return networks.StepNetwork(SIZE, features=2, blocks=2)


def train(**arguments: Any) -> Any:
    return dipa.train_network(copy.deepcopy(network()), **arguments)


def applied(P: Any, **arguments: Any) -> Any:
    return P(**arguments)


def halved(x: torch.Tensor) -> torch.Tensor:
    return x / 2


def saved(**arguments: Any) -> Any:
    return dipa.save(dipa.ScalarSteps(2), **arguments)


# name: (function, valid arguments); a function of the arguments where an object of its own has to
# be made for each call
CALLS: dict[str, tuple[Callable, dict[str, Any] | Callable[[], dict[str, Any]]]] = {
    "losses.gradient_cosine": (losses.gradient_cosine, {"direction": X, "teacher_gradient": Y}),
    "losses.imitation": (losses.imitation, {"x_student": X, "x_teacher": Y}),
    "losses.supervised": (losses.supervised, {"x_student": X, "x_true": Y}),
    "losses.data_fidelity": (losses.data_fidelity, {"measured": X, "y": Y}),
    "losses.convergence": (losses.convergence, {"student_update": X, "teacher_update": Y}),
    "losses.row_space": (losses.row_space, lambda: {"direction": X, "project": basis().project}),
    "losses.LossWeights": (dipa.LossWeights, {"supervised": 1.0, "gradient": 1, "row_space": 0.1}),
    "metrics.psnr": (metrics.psnr, {"x": X, "x_true": Y}),
    "metrics.ssim": (metrics.ssim, {"x": X, "x_true": Y}),
    "metrics.psnr_batch_mse": (metrics.psnr_batch_mse, {"x": X, "x_true": Y, "batch_size": 2}),
    "metrics.magnitude": (metrics.magnitude, {"images": images(2, 2, 8, 8)}),
    "metrics.summary": (metrics.summary, {"x": X, "x_true": Y, "batch_size": 2}),
    "ElasticNet": (ElasticNet, {"img_size": SIZE, "level": 1, "start": 0.1, "curvature": 0.1}),
    "Prox": (dipa.Prox, lambda: {"prior": deepinv.optim.prior.L1Prior(), "weight": 0.1}),
    "PnP": (dipa.PnP, {"denoiser": identity_denoiser, "sigma": 0.1, "precision": "float32"}),
    "RED": (dipa.RED, {"denoiser": identity_denoiser, "sigma": 0.1, "weight": 0.5}),
    "FISTA": (
        dipa.FISTA,
        lambda: {
            "prior": dipa.PnP(identity_denoiser),
            "iterations": 2,
            "momentum": "none",
            "start": "zero",
            "restart": 0,
            "prior_decay": 0.5,
        },
    ),
    "FISTA.__call__": (
        lambda **given: solver()(**given),
        lambda: {
            "y": camera().A(X),
            "physics": camera(),
            "preconditioner": None,
            "stepsize": "1/L",
            "backward": 1,
            "x_true": X,
        },
    ),
    "solvers.Stop": (solvers.Stop, {"iterations": 2, "tolerance": 0.1, "bound": 1e6}),
    "solvers.Armijo": (solvers.Armijo, {"first": 1.0, "shrink": 0.5, "trials": 3}),
    "solvers.Learned": (
        lambda rule, **given: solver()(
            camera().A(X), camera(), stepsize=solvers.Learned(rule), **given
        ),
        {"rule": lambda gradient, z, k: 0.1 * k, "history": True},
    ),
    "solvers.SGP": (
        solvers.SGP,
        lambda: {
            "prior": dipa.Prox(deepinv.optim.prior.L1Prior()),
            "iterations": 2,
            "start": "zero",
            **{"alpha": 0.5, "beta": 0.1, "eta_1": 0.5, "eta_2": 0.5},
            **{"scheme": "relaxed", "delta": 1.0},
        },
    ),
    "SGP.__call__": (
        lambda **given: solvers.SGP(dipa.Prox(deepinv.optim.prior.L1Prior()), 2)(**given),
        lambda: {
            "y": camera().A(X),
            "physics": camera(),
            "steps": lambda x, gradient, k: 0.5,
            "preconditioner": None,
            "history": True,
            "iterates": False,
        },
    ),
    "solvers.data_gradient": (
        solvers.data_gradient,
        lambda: {"physics": camera(), "y": camera().A(X), "z": X},
    ),
    "solvers.lipschitz": (solvers.lipschitz, lambda: {"physics": camera(), "img_size": SIZE}),
    "solvers.run": (
        solvers.run,
        lambda: {
            "scheme": solver().scheme(camera().A(X), camera(), X),
            "stop": solvers.Stop(2),
            "backward": 1,
            "keep_iterates": True,
        },
    ),
    "to_deepinv": (
        lambda **given: dipa.to_deepinv(**given)(camera().A(X), camera()),
        lambda: {
            "solver": solver(),
            "preconditioner": linear(),
            "physics": camera(),
            "stepsize": 0.4,
            "img_size": SIZE,
        },
    ),
    "operators.single_pixel": (
        operators.single_pixel,
        {"img_size": SIZE, "ratio": 0.3, "ordering": "cake_cutting", "noise_sigma": 0.0},
    ),
    "operators.mri": (
        operators.mri,
        {"img_size": (2, 8, 8), "acceleration": 2, "mask_seed": 0, "noise_sigma": 0.1},
    ),
    "operators.mri, mask": (operators.mri, {"img_size": (2, 8, 8), "mask": torch.eye(8)}),
    "operators.mri_pair": (
        operators.mri_pair,
        {
            "img_size": (2, 8, 8),
            "acceleration": 2.0,
            "teacher_acceleration": 1.0,
            "mask_seed": 0,
            "nested": True,
        },
    ),
    "operators.super_resolution": (
        operators.super_resolution,
        {"img_size": SIZE, "factor": 2, "noise_sigma": 0.0},
    ),
    "operators.WaveletSynthesis": (operators.WaveletSynthesis, {"wavelet": "sym4", "level": 3}),
    "operators.in_wavelets": (
        operators.in_wavelets,
        lambda: {"physics": operators.single_pixel(SIZE, ratio=0.5), "wavelet": "haar", "level": 2},
    ),
    "operators.hadamard_mask": (
        operators.hadamard_mask,
        {"height": 8, "width": 8, "m": 5, "ordering": "xy"},
    ),
    "operators.unshared_columns": (
        operators.unshared_columns,
        lambda: dict(
            zip(
                ("student", "teacher"),
                operators.mri_pair((2, 8, 8), acceleration=2, teacher_acceleration=1),
                strict=True,
            )
        ),
    ),
    "operators.range_basis": (
        operators.range_basis,
        lambda: {"physics": camera(), "img_size": SIZE, "max_pixels": 64},
    ),
    "operators.plane_basis": (
        operators.plane_basis,
        lambda: {"physics": camera(), "img_size": SIZE, "max_pixels": 64},
    ),
    "operators.rebuild_basis": (
        operators.rebuild_basis,
        {"kind": "hadamard", "img_size": SIZE, "buffers": {"index": torch.tensor([0, 3])}},
    ),
    "operators.PixelBasis": (
        lambda **given: operators.PixelBasis(**given).project(X),
        {"img_size": SIZE},
    ),
    "operators.MatrixBasis": (
        lambda **given: operators.MatrixBasis(**given).project(X),
        {"img_size": SIZE, "rows": torch.eye(64)[:5]},
    ),
    "operators.HadamardBasis": (
        lambda **given: operators.HadamardBasis(**given).project(X),
        {"img_size": SIZE, "index": torch.tensor([0, 3])},
    ),
    "operators.FourierBasis": (
        lambda **given: operators.FourierBasis(**given).project(images(1, 2, 8, 8)),
        {"img_size": (2, 8, 8), "index": torch.tensor([0, 3])},
    ),
    "operators.HartleyBasis": (
        lambda **given: operators.HartleyBasis(**given).project(X),
        {"img_size": SIZE, "index": torch.tensor([0, 3])},
    ),
    "operators.PolyphaseBasis": (
        lambda **given: operators.PolyphaseBasis(**given).project(X),
        {"img_size": SIZE, "index": torch.tensor([0, 3]), "kernels": torch.ones(1, 2, 2, 4, 4)},
    ),
    "operators.KroneckerBasis": (
        lambda **given: operators.KroneckerBasis(**given).project(X),
        {
            "img_size": SIZE,
            "index": torch.tensor([0, 3]),
            "rows": torch.eye(8)[:4],
            "columns": torch.eye(8)[:4],
        },
    ),
    "operators.Basis.project": (lambda images: basis().project(images), {"images": X}),
    "operators.measure": (
        measure,
        lambda: {"physics": camera(), "images": X, "seed": 0, "indices": torch.tensor([3, 1])},
    ),
    "Identity": (applied, {"P": dipa.Identity(), "gradient": X, "iterate": X, "k": 1}),
    "ScalarSteps": (dipa.ScalarSteps, {"iterations": 2}),
    "ScalarSteps.__call__": (
        applied,
        lambda: {"P": dipa.ScalarSteps(2), "gradient": X, "iterate": X, "k": 1},
    ),
    "ConvolutionalSteps": (dipa.ConvolutionalSteps, {"iterations": 2, "size": 3}),
    "ConvolutionalSteps.__call__": (
        applied,
        lambda: {"P": dipa.ConvolutionalSteps(2), "gradient": X, "iterate": X, "k": 2},
    ),
    "PointwiseSteps": (dipa.PointwiseSteps, {"iterations": 2, "img_size": SIZE}),
    "PointwiseSteps.__call__": (
        applied,
        lambda: {"P": dipa.PointwiseSteps(2, SIZE), "gradient": X, "iterate": X, "k": 3},
    ),
    "CombinedSteps": (
        dipa.CombinedSteps,
        lambda: {"iterations": 2, "degree": 1, "widths": (1.0,), "mixed": False},
    ),
    "CombinedSteps.__call__": (
        lambda P, gradient, iterate, k: P(gradient, iterate, k),
        lambda: {
            "P": dipa.CombinedSteps(2, degree=0),
            "gradient": X,
            "iterate": X,
            "k": 2,
        },
    ),
    "CombinedSteps.on": (
        lambda **given: dipa.CombinedSteps(2).on(**given),
        lambda: {"physics": camera()},
    ),
    "Nystrom": (
        dipa.Nystrom,
        lambda: {
            "physics": camera(),
            "img_size": SIZE,
            "rank": 3,
            "regularization": 0.1,
            "seed": 0,
        },
    ),
    "compare": (
        dipa.compare,
        lambda: {
            "physics": camera(),
            "images": torch.rand(8, *SIZE),
            "test": torch.rand(2, *SIZE),
            "solver": solver(),
            "teacher": None,
            "budget": None,
            "methods": ["CG-Tikhonov"],
            "total_variation": False,
            "held": 2,
            "limit": 0,
            "seed": 0,
            "progress": False,
        },
    ),
    "FourierSteps": (
        dipa.FourierSteps,
        {"iterations": 2, "img_size": SIZE, "radial": False, "knots": 5},
    ),
    "FourierSteps.__call__": (
        applied,
        lambda: {"P": dipa.FourierSteps(2, SIZE), "gradient": X, "iterate": X, "k": 2},
    ),
    "FourierSteps.response": (
        lambda **given: dipa.FourierSteps(2, radial=True).response(**given),
        {"k": 2, "height": 5, "width": 6},
    ),
    "LinearSteps": (dipa.LinearSteps, lambda: {"iterations": 2, "start": linear()}),
    "LinearSteps.identity": (
        dipa.LinearSteps.identity,
        lambda: {"physics": camera(), "iterations": 2, "img_size": SIZE},
    ),
    "LinearPreconditioner": (
        dipa.LinearPreconditioner,
        lambda: {"matrix": torch.ones(64, basis().dim), "basis": basis(), "complement": 0.5},
    ),
    "LinearPreconditioner.__call__": (
        applied,
        lambda: {"P": linear(), "gradient": X, "iterate": X, "k": 1},
    ),
    "LinearPreconditioner.identity": (
        dipa.LinearPreconditioner.identity,
        lambda: {
            "physics": camera(),
            "img_size": SIZE,
            "form": "low_rank",
            "planes": False,
            "complement": 0.0,
        },
    ),
    "LinearPreconditioner.ridge": (
        dipa.LinearPreconditioner.ridge,
        lambda: {
            "physics": camera(),
            "images": X,
            "stepsize": 0.4,
            "regularization": 1e-3,
            "null_weight": 0.5,
            "form": "dense",
            "variations": VARIATIONS,
            "seed": 1,
        },
    ),
    "NeuralPreconditioner": (
        dipa.NeuralPreconditioner,
        {
            "name": "cnn",
            "img_size": SIZE,
            **SMALL,
            "code": "learned",
            "code_dim": 4,
            "start": "random",
            "precision": "bf16",
            "seed": 1,
        },
    ),
    "ComposedPreconditioner": (
        dipa.ComposedPreconditioner,
        {"first": linear(), "second": conv(), "order": "beside"},
    ),
    "NeuralPreconditioner.__call__": (
        applied,
        lambda: {"P": conv(), "gradient": X, "iterate": X, "k": 1},
    ),
    "Hessian": (
        dipa.Hessian,
        lambda: {
            "physics": camera(),
            "img_size": SIZE,
            "regularization": 0.1,
            "max_iter": 5,
            "tol": 1e-3,
        },
    ),
    "Hessian.__call__": (
        applied,
        lambda: {
            "P": dipa.Hessian(camera(), regularization=0.1),
            "gradient": X,
            "iterate": X,
            "k": 1,
        },
    ),
    "Polynomial": (dipa.Polynomial, lambda: {"physics": camera(), "coefficients": (1.0, -0.5)}),
    "Polynomial.__call__": (
        applied,
        lambda: {"P": dipa.Polynomial(camera(), (1.0, -0.5)), "gradient": X, "iterate": X, "k": 1},
    ),
    "Polynomial.chebyshev": (
        dipa.Polynomial.chebyshev,
        lambda: {"physics": camera(), "degree": 2, "interval": (0.1, 1.0)},
    ),
    "Polynomial.l2": (
        dipa.Polynomial.l2,
        lambda: {"physics": camera(), "degree": 2, "interval": (0.0, 1.0)},
    ),
    "save": (saved, lambda: {"path": Path("fuzzed") / "P", "record": {"a": 1}}),
    "load": (dipa.load, {"path": "nowhere"}),
    "networks.build": (
        networks.build,
        {"name": "cnn", "img_size": SIZE, **SMALL, "code_dim": 4, "start": "identity", "seed": 0},
    ),
    "networks.Backbone.__call__": (
        lambda x, code: networks.build("cnn", img_size=SIZE, **SMALL, code_dim=4)(x, code),
        {"x": X, "code": torch.ones(4)},
    ),
    "networks.StepNetwork": (
        networks.StepNetwork,
        {
            **{"img_size": SIZE, "lengths": "image", "features": 2, "blocks": 2},
            **{"norm": 1.0, "seed": 0},
        },
    ),
    "networks.build_code": (networks.build_code, {"name": "learned", "dim": 4, "seed": 0}),
    "networks.sinusoidal": (networks.sinusoidal, {"k": 1, "dim": 4}),
    "endtoend.build": (
        endtoend.build,
        {"name": "e2e-varnet", "img_size": SIZE, "features": 2, "blocks": 1},
    ),
    "endtoend.FISTANet": (
        endtoend.FISTANet,
        {"img_size": SIZE, "features": 2, "blocks": 1, "regularization": 0.1, "seed": 1},
    ),
    "endtoend.DirectUNet": (
        endtoend.DirectUNet,
        {"img_size": SIZE, "features": 2, "blocks": 2, "start": "zero", "seed": 1},
    ),
    "endtoend.VarNet": (
        endtoend.VarNet,
        {"img_size": SIZE, "features": 2, "blocks": 1, "start": "zero", "seed": 1},
    ),
    "endtoend.Restormer": (
        endtoend.Restormer,
        {"img_size": SIZE, "features": 2, "blocks": 1, "start": "zero", "seed": 1},
    ),
    "endtoend.EndToEnd.__call__": (
        lambda y, physics: network()(y, physics),
        lambda: {"y": camera().A(X), "physics": camera()},
    ),
    "save, a network": (
        dipa.save,
        lambda: {"trained": network(), "path": Path("fuzzed") / "net", "record": {}},
    ),
    "training.Budget": (
        Budget,
        {
            "steps": 3,
            "batch_size": 2,
            "optimizer": "adam",
            "learning_rate": 0.1,
            "clip": 1,
            "window": 2,
        },
    ),
    "training.Differentiation": (Differentiation, {"way": "truncated", "tail": 2}),
    "Variations": (
        dipa.Variations,
        {
            "flip": True,
            "shift": 1.5,
            "rotation": 10,
            "zoom": 0.1,
            "border": "edge",
            "copies": 2,
        },
    ),
    "variations.varied": (
        varied,
        lambda: {
            "images": X,
            "variations": VARIATIONS,
            "seed": 1,
            "draw": 2,
            "indices": torch.arange(2),
        },
    ),
    "Phase": (
        Phase,
        {
            "budget": Budget(steps=1, batch_size=1),
            "losses": dipa.LossWeights(supervised=1.0, gradient=1.0),
            "differentiation": Differentiation("unrolled"),
            "iterations": 2,
            "stretch": 1,
            "before_prior": True,
            "teacher_iterates": True,
        },
    ),
    "fit_steps": (
        fitted,
        lambda: {
            "solver": solver(),
            "physics": camera(),
            "images": X,
            "stepsize": "1/L",
            "regularization": 1e-6,
            "sweeps": 1,
            "batch_size": 2,
            "seed": 0,
        },
    ),
    "distill": (
        distil,
        lambda: {
            "solver": solver(),
            "student": camera(),
            "teacher": teacher(),
            "images": X,
            "losses": dipa.LossWeights(imitation=1.0, gradient=1.0),
            "stepsize": 0.4,
            "teacher_stepsize": 0.7,
            "validation": 0,
            "checkpoint": Path("fuzzed") / "checkpoint",
            "variations": dipa.Variations(copies=1),
            "cache": "fuzzed",
            "physics_generator": None,
            **TRAINING,
        },
    ),
    "data.Streamed": (dipa.data.Streamed, lambda: {"dataset": list(X), "device": "cpu"}),
    "training.fit_ridge": (
        dipa.training.fit_ridge,
        lambda: {
            "solver": solver(),
            "physics": camera(),
            "images": images(6, *SIZE),
            "stepsize": "1/L",
            "planes": False,
            "validation": 0.4,
            "variations": VARIATIONS,
            "seed": 0,
        },
    ),
    "train_network": (
        train,
        lambda: {"physics": camera(), "images": X, "variations": VARIATIONS, **TRAINING},
    ),
    "train_steps": (
        lambda **given: dipa.training.train_steps(step_network(), **given),
        lambda: {
            "solver": solvers.SGP(dipa.Prox(deepinv.optim.prior.L1Prior()), 2),
            "physics": camera(),
            "y": camera().A(X),
            "iterations": 1,
            "target_iterations": 3,
            "checkpoint": Path("fuzzed") / "steps",
            "cache": "fuzzed",
            **TRAINING,
        },
    ),
    "train_equilibrium": (
        dipa.training.train_equilibrium,
        lambda: {
            "solver": dipa.FISTA(dipa.PnP(tiny_denoiser()), iterations=2, momentum="none"),
            "preconditioner": dipa.LinearPreconditioner.identity(camera()),
            "physics": camera(),
            "images": X,
            "stepsize": 0.5,
            "tail": 1,
            "restart": True,
            "tolerance": 0.1,
            "iterations": 3,
            **TRAINING,
        },
    ),
    "equilibrium": (
        solvers.equilibrium,
        lambda: {"operator": halved, "start": X, "tolerance": 0.1, "iterations": 3},
    ),
    "at_equilibrium": (
        solvers.at_equilibrium,
        lambda: {
            "operator": halved,
            "x_star": X,
            "tail": 1,
            "tolerance": 0.1,
            "iterations": 3,
        },
    ),
    "fit_lengths": (
        dipa.training.fit_lengths,
        lambda: {
            "solver": solvers.SGP(dipa.Prox(deepinv.optim.prior.L1Prior()), 2),
            "physics": camera(),
            "y": camera().A(X),
            "lengths": "entry",
            "regularization": 0.1,
            "iterations": 1,
            "target_iterations": 3,
            "cache": "fuzzed",
        },
    ),
    "FittedLengths": (dipa.training.FittedLengths, {"lengths": torch.ones(3)}),
    "analysis.inspect": (
        analysis.inspect,
        lambda: {"physics": camera(), "img_size": SIZE, "images": X},
    ),
    "analysis.directional": (
        analysis.directional,
        lambda: {
            "preconditioner": conv(),
            "gradient": FIRST,
            "directions": X,
            "iterate": FIRST,
            "k": 1,
            "chunk": 2,
        },
    ),
    "analysis.jacobian": (
        analysis.jacobian,
        lambda: {
            "preconditioner": linear(),
            "gradient": FIRST,
            "iterate": FIRST,
            "k": 1,
            "columns": [0, 5],
            "chunk": 2,
        },
    ),
    "analysis.finite_differences": (
        analysis.finite_differences,
        lambda: {
            "preconditioner": linear(),
            "gradient": FIRST,
            "step": 0.1,
            "columns": [0, 5],
            "chunk": 2,
        },
    ),
    "analysis.difference_errors": (
        analysis.difference_errors,
        lambda: {
            "preconditioner": linear(),
            "gradient": FIRST,
            "steps": [0.1, 0.01],
            "columns": [0, 5],
            "chunk": 2,
        },
    ),
    "analysis.linearity_index": (
        analysis.linearity_index,
        lambda: {"preconditioner": conv(), "a": X, "b": Y, "iterate": X, "k": 1},
    ),
    "analysis.antisymmetric_share": (analysis.antisymmetric_share, {"matrix": torch.eye(4)}),
    "analysis.relative_distance": (
        analysis.relative_distance,
        {"matrix": torch.eye(4), "reference": torch.ones(4, 4)},
    ),
    "analysis.relative_norm": (analysis.relative_norm, {"part": X, "whole": Y}),
    "analysis.as_stepsize": (
        analysis.as_stepsize,
        lambda: {"preconditioner": conv(), "gradient": X, "iterate": X, "k": 1},
    ),
    "analysis.border_share": (
        analysis.border_share,
        {"matrix": torch.ones(64, 64), "img_size": SIZE, "width": 2},
    ),
    "analysis.coordinate_blocks": (
        analysis.coordinate_blocks,
        lambda: {"preconditioner": linear(), "basis": basis()},
    ),
    "analysis.audit": (
        analysis.audit,
        lambda: {"x": X, "x_true": Y, "y": camera().A(Y), "physics": camera(), "basis": basis()},
    ),
    "analysis.convergence": (
        analysis.convergence,
        lambda: {
            "solver": solver(),
            "physics": camera(),
            "y": camera().A(X),
            "x_true": X,
            "stepsize": 0.4,
            "iterations": 2,
        },
    ),
    "analysis.falsification": (
        analysis.falsification,
        lambda: {
            "solver": solver(),
            "physics": camera(),
            "preconditioner": linear(),
            "y": camera().A(X),
            "x_true": X,
            "stepsize": 0.4,
            "basis": basis(),
            "iterations": 2,
        },
    ),
    "analysis.LeakMeter": (
        lambda basis, state: analysis.LeakMeter(basis)(state),
        lambda: {
            "basis": basis(),
            "state": solvers.State(1, X, Y, z=X, gradient=X, direction=Y, stepsize=0.4),
        },
    ),
    "analysis.verdict": (analysis.verdict, {"status": "completed", "curves": CURVES}),
    "analysis.conditions": (
        analysis.conditions,
        lambda: {
            "physics": camera(),
            "solver": solver(),
            "stepsize": 0.4,
            "noise": [0.1],
            "denoisers": {"none": identity_denoiser},
        },
    ),
    "analysis.shifts": (
        analysis.shifts,
        lambda: {
            "preconditioner": linear(),
            "x_true": X,
            "rows": conditions(),
            "seed": 0,
            "batch_size": 2,
        },
    ),
    "analysis.with_noise": (analysis.with_noise, lambda: {"physics": camera(), "sigma": 0.1}),
    "analysis.spectra": (
        analysis.spectra,
        lambda: {
            "preconditioner": linear(),
            "physics": camera(),
            "gradient": FIRST,
            "iterate": FIRST,
            "k": 1,
            "basis": basis(),
            "tolerance": 1e-6,
            "chunk": 4,
        },
    ),
    "experiments.resolve": (
        experiments.resolve,
        {
            "name": "baseline",
            "profile": "smoke",
            "seed": 0,
            "overrides": {"training.steps": 3, "task.ratio": 0.2},
        },
    ),
    "experiments.results_folder": (experiments.results_folder, {"topic": "mri"}),
    "experiments.find_runs": (experiments.find_runs, {"root": "nowhere"}),
    "experiments.describe": (experiments.describe, {"name": "idea"}),
    "reports.presets_of": (reports.presets_of, {"source": "D2GP Table I", "task": "mri"}),
    "reports.published": (
        reports.published,
        {"preset": "n-dipa", "quantity": "teacher", "source": "D2GP Table I"},
    ),
    "reports.ResultsPage": (
        reports.ResultsPage,
        {"task": "super_resolution", "trained": ["sr-n-dipa"], "drawn": ["sr-ridge"]},
    ),
    "notebook.train": (
        lambda **given: experiments.notebook.train(
            **given, preset="nothing of this name", progress=False
        ),
        {
            "profile": "smoke",
            "method": "ridge",
            "seed": 0,
            "settings": "",
            "out": "",
            "regulariser": False,
        },
    ),
    "data.load": (
        data.load,
        {"name": "embedded", "split": "test", "size": 8, "count": 2, "channels": 1, "file": ""},
    ),
    "data.folder": (
        data.folder,
        {"path": PICTURES, "size": 8, "count": 1, "channels": 1},
    ),
    "data.lengths": (data.lengths, {"name": "embedded", "file": ""}),
    "data.here": (data.here, {"name": "embedded"}),
}
# public names that are no calls to get wrong: records that our own functions make, abstract
# classes, what they all draw from
RECORDS = {
    "Result", "Fit", "TeacherTargets", "Traits", "Convergence", "Spectra", "Condition", "Run",
    "Config", "ImageSet", "Preconditioner", "Basis", "EndToEnd", "Backbone", "SinglePixel", "MRI",
    "SuperResolution", "Code", "LearnedCode", "SinusoidalCode", "State", "Move", "Scheme", "Search",
    "ProximalGradient", "InputError", "names", "profiles", "run_folders", "runs_directory",
    "downloads", "download", "run", "SettingWarning", "another_setting",
    "teacher_targets", "load_checkpoint", "save_checkpoint", "Inspection", "Recommendation", "Room",
    "Spectrum", "Comparison", "Equilibrium",
}  # fmt: skip
WORK = {
    "iterations",
    "steps",
    "max_iter",
    "size",
    "features",
    "blocks",
    "code_dim",
    "dim",
    "degree",
    "batch_size",
    "m",
}
WORK |= {"height", "width", "window", "chunk", "tail"}  # numbers of which more takes longer

HUGE = (2**31, 2**63 - 1, 2**63, 10**20, 10**400, -(10**400))
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    0.5,
    1.0,
    -0.0,
    1e-30,
    5e-324,
    1e30,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    1j,
)
NUMPY = (
    np.int64(2),
    np.float32(0.5),
    np.array(2),
    np.array(0.25),
    np.bool_(True),
    np.float64("nan"),
    np.ones(2),
    np.str_("x"),
)
TEXTS = (
    "",
    "x",
    "two\nlines",
    "a\0b",
    "1/L",
    "1",
    "../up",
    "~",
    "ü" * 3,
    "x" * 10_000,
    "\ud800",
    "{}",
    "\x1b[31m",
)
OBJECTS = (
    None,
    (),
    [],
    {},
    object(),
    int,
    lambda *arguments: None,
    b"bytes",
    {"a": 1},
    [None],
    {1: 2},
    Path("a"),
    range(3),
    {1, 2},
)
TUPLES = (
    (1, 8),
    (1, 8, 8, 8),
    (0, 8, 8),
    (-1, 8, 8),
    (1, 8, 8.0),
    (1, True, 8),
    (3, 8, 8),
    (1, 16, 8),
    (1, 2**40, 2**40),
    "888",
)
TUPLES += (
    [1, 8, 8],
    (np.int64(1), np.int32(8), 8),
    torch.Size(SIZE),
    torch.tensor(SIZE),
    (None,) * 3,
    np.array(SIZE),
)


def tensors() -> list[Callable[[torch.Tensor], Any]]:
    """What becomes of a tensor."""
    kinds = (
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.int64,
        torch.uint8,
        torch.bool,
        torch.complex64,
    )
    shapes = [
        lambda t: t[:1],
        lambda t: t[:0],
        lambda t: t[0],
        lambda t: t[..., :-1],
        lambda t: t[..., :1],
        lambda t: t.flatten(),
    ]
    shapes += [
        lambda t: t.sum(),
        lambda t: t[None],
        lambda t: torch.cat([t, t]),
        lambda t: t.mT if t.ndim > 1 else t,
    ]
    shapes += [
        lambda t: t[:, :0] if t.ndim > 1 else t,
        lambda t: t.repeat(1, 3, 1, 1) if t.ndim == 4 else t,
    ]
    values = [
        lambda t: t * math.nan,
        lambda t: t / 0,
        lambda t: t * 0,
        lambda t: t * 1e30,
        lambda t: -t,
        lambda t: t * 1e-30,
    ]
    forms = [
        lambda t: t.to("meta"),
        lambda t: t.to_sparse(),
        lambda t: t.numpy(),
        lambda t: t.tolist(),
        lambda t: t.numpy()[..., :1],
    ]
    forms += [
        lambda t: t.clone().requires_grad_() if t.is_floating_point() else t,
        lambda t: torch.nn.Parameter(t.float()),
    ]
    return [*shapes, *values, *forms, *(lambda t, kind=kind: t.to(kind) for kind in kinds)]


TENSORS = tensors()


def mutated(draw: random.Random, name: str, value: Any) -> Any:
    """Something in the place of ``value``, more often than not of its kind."""
    if isinstance(value, torch.Tensor) and draw.random() < 0.8:
        return draw.choice(TENSORS)(value)
    if isinstance(value, tuple) and draw.random() < 0.6:
        return draw.choice(TUPLES)
    if isinstance(value, torch.nn.Module) and draw.random() < 0.4:
        return copy.deepcopy(value).to(draw.choice((torch.float64, torch.float16, torch.bfloat16)))
    junk = draw.choice(
        (
            NUMBERS,
            NUMBERS,
            NUMPY,
            HUGE,
            TEXTS,
            OBJECTS,
            (X, FIRST.double(), torch.ones(3), torch.tensor(2)),
        )
    )
    other = draw.choice(junk)
    amount = isinstance(other, int) and name in WORK and 16 < other < 2**63
    return 2 if amount else other  # an allowed number that would only take its time


def call(number: int) -> tuple[str, Callable[[], Any]]:
    """The call of this number, with a description of what it was given."""
    draw = random.Random(number)
    name = sorted(CALLS)[number % len(CALLS)]
    function, given = CALLS[name]
    arguments = dict(given() if callable(given) else given)
    changed = draw.sample(
        sorted(set(arguments) - {"P"}),
        k=min(len(arguments) - ("P" in arguments), draw.choice((1, 1, 1, 2))),
    )
    for argument in changed:
        arguments[argument] = mutated(draw, argument, arguments[argument])
    shown = ", ".join(f"{argument}={_shown(arguments[argument])}" for argument in changed)
    return f"call {number}: {name}({shown})", lambda: function(**arguments)


def _shown(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"tensor {tuple(value.shape)} {value.dtype} {value.device} {value.layout}"
    return dipa.checks.shown(value)
