"""The implicit constraint: renders must lie in the range of θ ↦ (f(θ,π_1), …, f(θ,π_V)); a file per constraint."""

from .base import CONSTRAINTS, Constraint, Visit
from .fresh_below import FreshBelow, Settle
from .langevin import Langevin
from .projection import Projection
from .repaint import Repaint

__all__ = ["CONSTRAINTS", "Constraint", "FreshBelow", "Langevin", "Projection", "Repaint", "Settle", "Visit"]

CONSTRAINTS.discover(__name__, __path__)
