r"""The losses of the papers, the data fidelity and the row-space penalty: pure functions, one
number per image (B,).

Norms are sums over pixels, as the papers print them; the training loop averages over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from . import device
from .adjoint import parts
from .checks import answer, require, require_alike, require_same_images, require_tensor
from .settings import LossWeights

__all__ = [
    "LossWeights",
    "convergence",
    "data_fidelity",
    "gradient_cosine",
    "imitation",
    "row_space",
    "supervised",
]

# of a product of norms, in units of the largest entries: it acts on an image of zeros alone
FLOOR = 1e-8


def _squared(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1).square().sum(dim=1)


def _of_size_one(images: torch.Tensor) -> torch.Tensor:
    """Each image over the power of two next to its largest entry, (B, n): exact, so that a
    quotient keeps its bits.
    """
    flat = images.flatten(1)
    largest = flat.detach().abs().amax(dim=1, keepdim=True)
    largest = largest.to(torch.promote_types(flat.dtype, torch.float32))
    return flat / device.power_of_two(largest).to(flat.dtype)


def gradient_cosine(direction: torch.Tensor, teacher_gradient: torch.Tensor) -> torch.Tensor:
    r"""Gradient loss :math:`L_G=|1-S_c(P\nabla g_s(\hat x_s),\nabla g_t(\hat x_t))|^2`, in [0, 4].

    :math:`S_c(a,b)=a^\top b/(\|a\|\|b\|)`, whatever the sizes of a and b; an image of zeros has
    :math:`S_c=0`. Source: D2GP Eq. (4) (its Algorithm 2 omits the square); DIPA Eq. (8).
    """
    require_same_images(direction=direction, teacher_gradient=teacher_gradient)
    a, b = _of_size_one(direction), _of_size_one(teacher_gradient)
    cosine = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(FLOOR)
    return (1 - cosine).square()


def imitation(x_student: torch.Tensor, x_teacher: torch.Tensor) -> torch.Tensor:
    r"""Imitation loss :math:`L_I=\|\hat x_s-\hat x_t\|_2^2`. Source: D2GP Eq. (5); DIPA Eq. (9)."""
    require_same_images(x_student=x_student, x_teacher=x_teacher)
    return _squared(x_student - x_teacher)


def supervised(x_student: torch.Tensor, x_true: torch.Tensor) -> torch.Tensor:
    r"""Supervised loss :math:`L_S=\|\hat x_s-x\|_2^2`. Source: D2GP Eq. (6); DIPA Eq. (10)."""
    require_same_images(x_student=x_student, x_true=x_true)
    return _squared(x_student - x_true)


def data_fidelity(measured: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    r"""The objective itself at the final iterate: :math:`g(\hat x)=\frac12\|H\hat x-y\|_2^2`, y the
    noisy measurements.

    Takes ``measured`` :math:`=H\hat x` and y, in whatever shape the operator gives them; needs no
    true image and no teacher, and says nothing about the null space of H. Source: Ehrhardt, Fahy
    and Golbabaee 2024 train their preconditioners on the objective they minimise; g as in D2GP Eq.
    (1).
    """
    for name, tensor in (("measured", measured), ("y", y)):
        require_tensor(name, tensor, "a tensor of measurements")
        require(
            tensor.ndim > 1 and tensor.numel() > 0,
            f"{name}.shape",
            tuple(tensor.shape),
            "(B, ...) with B >= 1",
        )
        number = tensor.is_floating_point() or tensor.is_complex()
        require(number, f"{name}.dtype", tensor.dtype, "a floating-point type, real or complex")
    require_alike(measured=measured, y=y)
    difference = measured - y
    return 0.5 * _squared(torch.view_as_real(difference) if difference.is_complex() else difference)


def convergence(student_update: torch.Tensor, teacher_update: torch.Tensor) -> torch.Tensor:
    r"""Convergence regulariser :math:`R=\|(P H_s^\top H_s-H_t^\top H_t)x\|_2^2` on the true image
    x.

    Takes the two updates :math:`P H_s^\top H_s x` and :math:`H_t^\top H_t x`. Source: DIPA Eq.
    (12)-(13); the symbols are lost in the available text, and stepsizes are read as not part of R.
    """
    require_same_images(student_update=student_update, teacher_update=teacher_update)
    return _squared(student_update - teacher_update)


def row_space(
    direction: torch.Tensor, project: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    r"""Row-space penalty: the share of the direction's energy outside
    :math:`\mathrm{range}(H^\top)`, in [0, 1].

    :math:`\|(I-\Pi)P\nabla g\|^2/\|P\nabla g\|^2`, :math:`\Pi` = ``project`` the orthogonal
    projector on :math:`\mathrm{range}(H_s^\top)`, whatever the size of the direction; 0 for one of
    zeros. In neither paper: the safeguard a public review of D2GP asked for.
    """
    require_same_images(direction=direction)
    scaled = _of_size_one(direction).reshape_as(direction)
    inside = answer("project", project, scaled)
    return _squared(scaled - inside) / _squared(scaled).clamp_min(FLOOR)


# What each weight of LossWeights multiplies, on a batch that the student has solved
# (SolvedBatch of dipa.training.student says what there is to compare).
TERMS: dict[str, Callable[[Any], torch.Tensor]] = {
    "supervised": lambda batch: supervised(batch.x_hat, batch.x),
    "imitation": lambda batch: imitation(batch.x_hat, batch.teacher_x),
    "data_fidelity": lambda batch: torch.stack(
        [
            data_fidelity(part, y)
            for part, y in zip(parts(batch.measured), parts(batch.y), strict=True)
        ]
    ).sum(dim=0),
    "gradient": lambda batch: gradient_cosine(batch.direction, batch.teacher_gradient),
    "row_space": lambda batch: row_space(batch.direction, batch.project),
    "convergence": lambda batch: convergence(batch.update, batch.teacher_update),
}
