"""The least-squares problem of one visit of a level, and its solution."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import FiniteChecks, NonFiniteError, UserError, fault
from .diffrep import DiffRep, RepeatedlySubsampledDiffRep, SubsampledDiffRep


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
        checks: What else must be finite; a solver reads it with its own first numbers.
    """

    diffrep: DiffRep
    views: Any
    target: Tensor
    encode: Callable[[Tensor], Tensor] | None
    generator: torch.Generator
    checks: FiniteChecks = field(default_factory=FiniteChecks)

    def difference(self) -> Tensor:
        """f(θ, views) − target, in full [V,C,H,W]."""
        render = self.diffrep.render(self.views)
        return (render if self.encode is None else self.encode(render)) - self.target

    def residuals(self, times: int) -> Iterator[Tensor]:
        """The diffrep's own unbiased random parts of the difference where it computes one, else all of it, each time.

        Args:
            times: How often; each is of the parameters when it is asked for.
        """
        rep, given = self.diffrep, (self.views, self.target, self.generator)
        if self.encode is not None or not isinstance(rep, SubsampledDiffRep):
            return (self.difference() for _ in range(times))
        if isinstance(rep, RepeatedlySubsampledDiffRep):
            return rep.residuals(*given, times)
        return (rep.residual(*given) for _ in range(times))

    def rms(self) -> float:
        """Root mean square of the whole difference."""
        with torch.no_grad():
            ((square,),) = self.checks.read(self.checks.expect(self.difference(), "the fit").square().mean().view(1))
        return math.sqrt(square)


def norms(residual: Tensor) -> Tensor:
    """The norm [V] of each view's entries, in one pass; where a part has one axis or none, that of each entry.

    Raises:
        UserError: There are no entries.
    """
    if not residual.numel():
        raise UserError("the representation's residual has no entries, so there is nothing to fit")
    rows = residual.detach().reshape(len(residual) if residual.ndim else 1, -1)
    return cast(Tensor, torch.linalg.vector_norm(rows, dim=1))  # pyright: ignore[reportUnknownMemberType]


def check_steps(losses: list[list[float]], slopes: list[list[float]]) -> None:
    """Looks for the first step that went wrong.

    Args:
        losses: Norm of the residual of each view, by step; the last may be of a measurement after the steps.
        slopes: Norm of the gradient of each parameter, by step.

    Raises:
        NonFiniteError: One of them is not finite, or too large; the message names the step.
    """
    for step, loss in enumerate(losses):
        for view, value in enumerate(loss):
            if wrong := fault(value):
                where = f"in optimiser step {step}" if step < len(slopes) else "after its last step"
                raise NonFiniteError(f"the fit has {wrong} in view {view} {where}")
        for value in slopes[step] if step < len(slopes) else []:
            if wrong := fault(value):
                raise NonFiniteError(f"the gradient of the fit has {wrong} in optimiser step {step}")
