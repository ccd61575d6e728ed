"""The fit of one level: the least-squares problem, its solvers, and the render linearised in its parameters."""

from .diffrep import DiffRep, RepeatedlySubsampledDiffRep, SubsampledDiffRep
from .linearise import FlatRender, conjugate_gradients, trainable
from .problem import Fit, Outcome, Solution
from .solvers import FirstOrder, GaussNewton, Solver

__all__ = [
    "DiffRep",
    "FirstOrder",
    "Fit",
    "FlatRender",
    "GaussNewton",
    "Outcome",
    "RepeatedlySubsampledDiffRep",
    "Solution",
    "Solver",
    "SubsampledDiffRep",
    "conjugate_gradients",
    "trainable",
]
