"""The implicit constraint: renders must lie in the range of θ ↦ (f(θ,π_1), …, f(θ,π_V)); a file per constraint."""

from .base import Constraint, Visit, Wrapping
from .fresh_below import Settle
from .langevin import Langevin
from .projection import Projection
from .repaint import Repaint

__all__ = ["Constraint", "Langevin", "Projection", "Repaint", "Settle", "Visit", "Wrapping"]
