"""Nyström's preconditioner beside the eigenvalues of dense matrices."""

import pytest
import torch
from batteries import images, matrix_physics, refuses, relative, rng

from dipa import memory
from dipa.operators import single_pixel
from dipa.preconditioners import Nystrom

SIZE = (1, 4, 6)


def gram(values: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """An operator's matrix (24, 24) with these singular values and zeros, and its Gram."""
    left, right = (
        torch.linalg.qr(torch.randn(24, 24, generator=rng(seed), dtype=torch.float64))[0]
        for seed in (1, 2)
    )
    padded = torch.tensor(values + [0.0] * (24 - len(values)), dtype=torch.float64)
    matrix = left * padded @ right.T
    return matrix, matrix.T @ matrix


def action(P: Nystrom) -> torch.Tensor:
    """P as a matrix."""
    basis = torch.eye(24, dtype=torch.float64).reshape(24, *SIZE)
    return P(basis, basis, 1).flatten(1).T


def operator(matrix: torch.Tensor):
    physics = matrix_physics(matrix, SIZE)
    physics.register_buffer("kept", torch.zeros(1, 1, dtype=torch.float64))  # says float64
    return physics


def test_of_full_rank_it_is_the_inverse():
    matrix, whole = gram([3.0, 2.0, 1.5, 1.0] + [0.5] * 20)
    P = Nystrom(operator(matrix), SIZE, rank=24, regularization=0.1)
    inverse = torch.linalg.inv(whole + 0.1 * torch.eye(24, dtype=torch.float64))
    assert relative(action(P), inverse) < 1e-6


def test_of_an_operator_of_its_own_rank_it_is_exact_and_one_number_beside():
    matrix, whole = gram([3.0, 2.0, 1.0])
    P = Nystrom(operator(matrix), SIZE, rank=3, regularization=0.5)
    values, vectors = torch.linalg.eigh(whole)
    inverse = torch.where(values > 1e-9, 1 / (values + 0.5), torch.tensor(1 / 1.5).double())
    assert relative(action(P), vectors * inverse @ vectors.T) < 1e-6
    assert torch.allclose(P.values, torch.tensor([9.0, 4.0, 1.0]).double(), atol=1e-6)


def test_it_is_symmetric_positive_and_the_same_for_a_seed():
    matrix, _ = gram([2.0 / (k + 1) for k in range(24)])
    one, again, other = (
        action(Nystrom(operator(matrix), SIZE, rank=8, regularization=0.1, seed=seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert relative(one, one.T) < 1e-9 and torch.linalg.eigvalsh(one).min() > 0


def test_what_it_refuses(monkeypatch):
    physics = single_pixel((1, 8, 8), ratio=0.5)
    refuses(lambda: Nystrom(physics, rank=65, regularization=0.1), "rank", "65", "[1, 64]")
    refuses(lambda: Nystrom(physics, rank=3, regularization=0.0), "regularization", "0")
    refuses(lambda: Nystrom(physics, (1, 4, 4), rank=3, regularization=0.1), "(1, 4, 4)")
    with pytest.raises(TypeError):
        Nystrom(physics)
    refuses(
        lambda: Nystrom(physics, rank=3, regularization=0.1)(images(1, 1, 4, 4), None, 1),
        "gradient",
    )
    monkeypatch.setattr(memory, "free_memory", lambda place: 4 * 64 * 3 * 8 - 1)
    refuses(lambda: Nystrom(0.5, (1, 4, 4), rank=3, regularization=0.1), "physics", "float")
    refuses(lambda: Nystrom(physics, rank=3, regularization=0.1), "rank", "3", "free")
