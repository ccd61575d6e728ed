"""The least-squares problem of one level's visit, and what came of it."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import check_finite
from .diffrep import DiffRep, SubsampledDiffRep


class Outcome(enum.Enum):
    """How a fit ended; the value says what to make of it."""

    CONVERGED = "the fit reached its minimum"
    STEPS_EXHAUSTED = "the fit improved until its steps ran out; more steps may fit closer"
    STALLED = "the fit found no better parameters; raise the damping or the conjugate-gradient iterations"
    DIVERGED = "the fit ended worse than it began; lower the learning rate or take more steps"


@dataclass(frozen=True)
class Solution:
    """residual: root mean square of f(θ) − target over all views, at the parameters now in the diffrep.

    FirstOrder estimates it on a random subset where the diffrep offers one.
    start: the same before the fit. steps: optimiser steps or Gauss–Newton iterations taken.
    """

    residual: float
    start: float
    steps: int
    outcome: Outcome


@dataclass(frozen=True)
class Fit:
    """The least-squares problem of one level visit.

    target: [V,C,H,W] in the renders' space, or in the latent space of `encode` where that is given.
    generator: for random subsets of the residual.
    """

    diffrep: DiffRep
    views: Any
    target: Tensor
    encode: Callable[[Tensor], Tensor] | None
    generator: torch.Generator

    def difference(self) -> Tensor:
        """f(θ, views) − target, in full [V,C,H,W]."""
        render = self.diffrep.render(self.views)
        return (render if self.encode is None else self.encode(render)) - self.target

    def residual(self) -> Tensor:
        """The diffrep's own unbiased random subset of the difference where it offers one, else all of it."""
        if self.encode is None and isinstance(self.diffrep, SubsampledDiffRep):
            return self.diffrep.residual(self.views, self.target, self.generator)
        return self.difference()

    def estimate(self) -> float:
        """rms of `residual`, for the price of one step."""
        with torch.no_grad():
            return math.sqrt(check_finite(self.residual(), "the fit").square().mean().item())

    def rms(self) -> float:
        with torch.no_grad():
            return math.sqrt(check_finite(self.difference(), "the fit").square().mean().item())
