"""What a trained preconditioner does: the null-space audit of a reconstruction."""

from .nullspace import audit, relative_norm

__all__ = ["audit", "relative_norm"]
