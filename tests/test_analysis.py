"""The null-space audit against dense linear algebra."""

import pytest
import torch

from dipa import operators
from dipa.analysis import audit


def test_audit_against_dense_projectors():
    physics = operators.single_pixel((1, 8, 8), ratio=0.3)
    matrix = torch.stack([physics.A(e.reshape(1, 1, 8, 8)).flatten() for e in torch.eye(64)], dim=1).double()
    rng = torch.Generator().manual_seed(0)
    x_true, x = torch.rand(4, 1, 8, 8, generator=rng), torch.rand(4, 1, 8, 8, generator=rng)
    y = physics.A(x_true)
    found = audit(x, x_true, y, physics, physics.range_basis())

    projector = torch.linalg.pinv(matrix) @ matrix
    error = (x - x_true).flatten(1).double()
    inside = error @ projector.T
    scale = x_true.flatten(1).double().norm(dim=1)
    residual = (error @ matrix.T).norm(dim=1) / y.flatten(1).double().norm(dim=1)
    assert found["error_range"] == pytest.approx((inside.norm(dim=1) / scale).mean().item(), rel=1e-5)
    assert found["error_null"] == pytest.approx(((error - inside).norm(dim=1) / scale).mean().item(), rel=1e-5)
    assert found["residual"] == pytest.approx(residual.mean().item(), rel=1e-5)


def test_audit_of_the_truth_is_zero():
    physics = operators.single_pixel((1, 8, 8), ratio=0.5)
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    assert all(value < 1e-6 for value in audit(x, x, physics.A(x), physics, physics.range_basis()).values())
