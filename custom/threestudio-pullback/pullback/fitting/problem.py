"""The least-squares problem of one visit of a level, and its solution."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import NonFiniteError, check_finite
from .diffrep import DiffRep, SubsampledDiffRep


class Outcome(enum.Enum):
    """How a fit ended; the value is a sentence with advice."""

    CONVERGED = "the fit reached its minimum"
    STEPS_EXHAUSTED = "the fit improved until its steps ran out; more steps may fit closer"
    STALLED = "the fit found no better parameters; raise the damping or the conjugate-gradient iterations"
    DIVERGED = "the fit ended worse than it began; lower the learning rate or take more steps"


@dataclass(frozen=True)
class Solution:
    """The result of a fit.

    Attributes:
        residual: Root mean square of f(θ) − target over all views after the fit. FirstOrder estimates it on a random
            part where the diffrep computes one.
        start: The same before the fit.
        steps: Optimiser steps, or iterations of Gauss–Newton.
        outcome: How the fit ended.
    """

    residual: float
    start: float
    steps: int
    outcome: Outcome


@dataclass(frozen=True)
class Fit:
    """The least-squares problem of one visit of a level.

    Attributes:
        diffrep: The representation.
        views: The views to render.
        target: [V,C,H,W] in the renders' space, or in the latent space of `encode` where there is one.
        encode: A map of the render, or None.
        generator: For random parts of the residual.
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
        """The diffrep's own unbiased random part of the difference where it computes one, else all of it."""
        if self.encode is None and isinstance(self.diffrep, SubsampledDiffRep):
            return self.diffrep.residual(self.views, self.target, self.generator)
        return self.difference()

    def estimate(self) -> float:
        """Root mean square of `residual`; it costs one step."""
        with torch.no_grad():
            return math.sqrt(check_finite(self.residual(), "the fit").square().mean().item())

    def rms(self) -> float:
        """Root mean square of the whole difference."""
        with torch.no_grad():
            return math.sqrt(check_finite(self.difference(), "the fit").square().mean().item())


def check_steps(losses: list[Tensor], slopes: list[Tensor]) -> float:
    """The mean square residual of the first step.

    Raises:
        NonFiniteError: A step's loss [V] or the norm of a gradient is not finite; the message names the first one.
    """
    values = cast(list[list[float]], torch.stack(losses).tolist())  # pyright: ignore[reportUnknownMemberType]
    norms = cast(list[list[float]], torch.stack(slopes).tolist())  # pyright: ignore[reportUnknownMemberType]
    for step, (loss, slope) in enumerate(zip(values, norms, strict=True)):
        bad = [view for view, value in enumerate(loss) if not math.isfinite(value)]
        if bad:
            raise NonFiniteError(f"the fit has a NaN or infinity in view {bad[0]} in optimiser step {step}")
        if not all(map(math.isfinite, slope)):
            raise NonFiniteError(f"the gradient of the fit has a NaN or infinity in optimiser step {step}")
    return sum(values[0]) / len(values[0])
