"""What a trained preconditioner does: matrix, Jacobian, spectra, long runs, the audit of its
null space, changed conditions.
"""

from .convergence import Convergence, convergence, verdict
from .forms import Recommendation, Room
from .inspection import Inspection, inspect
from .jacobian import (
    antisymmetric_share,
    difference_errors,
    directional,
    finite_differences,
    jacobian,
    linearity_index,
    relative_distance,
)
from .matrices import as_stepsize, border_share, coordinate_blocks
from .nullspace import LeakMeter, audit, falsification, relative_norm
from .shifts import Condition, conditions, shifts, with_noise
from .singular import Spectrum
from .spectra import Spectra, spectra

__all__ = [
    "Condition",
    "Convergence",
    "Inspection",
    "LeakMeter",
    "Recommendation",
    "Room",
    "Spectra",
    "Spectrum",
    "antisymmetric_share",
    "as_stepsize",
    "audit",
    "border_share",
    "conditions",
    "convergence",
    "coordinate_blocks",
    "difference_errors",
    "directional",
    "falsification",
    "finite_differences",
    "inspect",
    "jacobian",
    "linearity_index",
    "relative_distance",
    "relative_norm",
    "shifts",
    "spectra",
    "verdict",
    "with_noise",
]
