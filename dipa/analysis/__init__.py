"""What a trained preconditioner does: Jacobian, spectra, long runs, the audit of its null space, and changed conditions."""

from .convergence import Convergence, convergence, verdict
from .jacobian import antisymmetric_share, directional, finite_differences, jacobian, linearity_index
from .nullspace import LeakMeter, audit, falsification, relative_norm
from .shifts import Condition, conditions, shifts, with_noise
from .spectra import Spectra, spectra

__all__ = [
    "Condition",
    "Convergence",
    "LeakMeter",
    "Spectra",
    "antisymmetric_share",
    "audit",
    "conditions",
    "convergence",
    "directional",
    "falsification",
    "finite_differences",
    "jacobian",
    "linearity_index",
    "relative_norm",
    "shifts",
    "spectra",
    "verdict",
    "with_noise",
]
