"""One operator, every method: quality against seconds, hyperparameters chosen on validation
images.
"""

from .compare import compare
from .table import Comparison, Row

__all__ = ["Comparison", "Row", "compare"]
