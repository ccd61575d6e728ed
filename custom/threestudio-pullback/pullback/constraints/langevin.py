"""Langevin dynamics inside the range of the representation, one step with every level visit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..errors import UserError
from .base import CONSTRAINTS, Constraint, Visit


@CONSTRAINTS.register("langevin")
@dataclass(frozen=True)
class Langevin(Constraint):
    """Underdamped Langevin dynamics of the noisy images y = u + σ P ε, P the projector onto the range of J.

    θ takes the plain step, and each visit's one denoiser call also drives a step of the noise:

        v ← v + h s,  Δ = h v/2,  v ← α v + √(1−α²) ξ,  Δ ← Δ + h v/2,  P ε ← P (ε + Δ/σ'),  h = step σ

    with the score s = (x̂0 − y)/σ², velocities v and fresh unit noise ξ. Out of range nothing moves, and the noise that
    the denoiser needs there changes its sign, w ← −α w + √(1−α²) z, so that the errors of two calls cancel. In a
    Gaussian world at fixed σ the step is exact, however long (BAOAB, Leimkuhler & Matthews 2013). The remaining error
    is the lag of y behind σ: let the levels slow down towards the last, see `settling_sigmas`.

    Converges, with more levels and a smaller last σ, to the model's law conditioned on the range of f, for
    linear f and a Gaussian prior: in the tall case of docs/results/gauss.md the covariance is off by 0.021 after 100
    calls, 0.007 after 200 and 0.002 after 400. For a mixture it converges to that law around each mode. The model's
    smoothed law at the σ where the modes part decides how often each mode comes up. Cost: one denoiser call per view
    and level, and `iterations` of conjugate gradients, each a J v and a Jᵀ w. It needs forward-mode derivatives. Euler
    only.

    Args:
        momentum: α in [0, 1); 0 is the overdamped dynamics, which is far slower.
        step: Above 0 and below 2, where the dynamics becomes unstable for every prior, since no score is steeper than
            1/σ². Guidance makes it steeper; use 1 or less then.
        iterations: Of the projection; an exact one needs as many as θ has parameters.

    Raises:
        UserError: A value is out of range; in a run, the noise has not one image per view, kept by slot, as
            noise='independent' has, or any noise of a single view.
    """

    momentum: float = 0.9
    step: float = 1.5
    iterations: int = 20
    orders: ClassVar[tuple[int | str, ...]] = (1,)
    per_view_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (0 <= self.momentum < 1 and 0 < self.step < 2 and self.iterations >= 1):
            raise UserError(f"{self} needs 0 <= momentum < 1, 0 < step < 2 and iterations >= 1")

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        """The noise after one step of the dynamics, and the velocities."""
        if visit.sigma_next == 0:
            return visit.source, None
        if visit.source.shape != visit.clean.shape:
            raise UserError("Langevin moves the noise of each view on its own; use noise='independent'")
        keep, renew = self.momentum, math.sqrt(1 - self.momentum**2)
        length = self.step * visit.sigma
        score = (visit.x0 - visit.clean - visit.sigma * visit.noise) / visit.sigma**2
        kicked = (visit.draw() if visit.memory is None else visit.memory) + length * score
        velocity = keep * kicked + renew * visit.draw()
        moved = visit.noise + length / 2 * (kicked + velocity) / visit.sigma_next
        outside = renew * visit.draw() - keep * visit.noise
        return outside + visit.project(moved - outside, self.iterations), velocity
