import pytest
import torch
from batteries import relative, rng

from dipa import linalg


def spd(n: int, seed: int) -> torch.Tensor:
    matrix = torch.randn(n, n, generator=rng(seed))
    return matrix @ matrix.T


@pytest.mark.parametrize("seed", range(3))
def test_squared_norm_is_the_largest_eigenvalue(seed):
    gram = spd(12, seed)
    value = linalg.squared_norm(
        lambda v: (v.flatten(1) @ gram).reshape(v.shape), (1, 3, 4), tol=1e-9
    )
    assert value == pytest.approx(torch.linalg.eigvalsh(gram).max().item(), rel=1e-4)
    assert value == linalg.squared_norm(
        lambda v: (v.flatten(1) @ gram).reshape(v.shape), (1, 3, 4), tol=1e-9
    )


def test_squared_norm_follows_dtype():
    gram = spd(12, 0).double()
    value = linalg.squared_norm(
        lambda v: (v.flatten(1) @ gram).reshape(v.shape), (1, 3, 4), like=gram, tol=1e-14
    )
    assert value == pytest.approx(torch.linalg.eigvalsh(gram).max().item(), rel=1e-10)


def test_squared_norm_of_zero_is_zero():
    assert linalg.squared_norm(torch.zeros_like, (1, 4, 4)) == 0.0


def test_dense_recovers_the_matrix():
    matrix = torch.randn(5, 12, generator=rng(0))
    assert relative(linalg.dense(lambda x: x.flatten(1) @ matrix.T, (3, 2, 2)), matrix) < 1e-6
    double = linalg.dense(
        lambda x: x.flatten(1) @ matrix.double().T, (3, 2, 2), dtype=torch.float64
    )
    assert double.dtype == torch.float64 and torch.equal(double, matrix.double())


def test_dot_test_tells_an_adjoint_from_something_else():
    matrix = torch.randn(6, 6, generator=rng(0), dtype=torch.float64)
    x, y = torch.randn((2, 3, 6), generator=rng(1), dtype=torch.float64)
    assert linalg.dot_test_error(lambda v: v @ matrix.T, lambda v: v @ matrix, x, y) < 1e-14
    assert linalg.dot_test_error(lambda v: v @ matrix.T, lambda v: v @ matrix.T, x, y) > 1e-2


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_orthonormal_range_has_the_rank_and_spans_the_rows(rank):
    matrix = torch.randn(8, rank, generator=rng(rank)) @ torch.randn(
        rank, 10, generator=rng(rank + 1)
    )
    rows = linalg.orthonormal_range(matrix)
    assert rows.shape == (rank, 10) and rows.dtype == matrix.dtype
    assert torch.allclose(rows @ rows.T, torch.eye(rank), atol=1e-5)
    assert relative(matrix @ rows.T @ rows, matrix) < 1e-5


def test_orthonormal_range_of_zero_is_empty():
    assert linalg.orthonormal_range(torch.zeros(3, 4)).shape == (0, 4)
