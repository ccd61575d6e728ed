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

    with the score s = (x̂0 − y)/σ², velocities v and fresh unit noise ξ. Out of range nothing moves, and the
    noise that the denoiser needs there is turned over, w ← −α w + √(1−α²) z: what a call errs for w, the next
    one makes good. In a Gaussian world at fixed σ the step is exact, however long (BAOAB, Leimkuhler & Matthews
    2013), so what is left is how far y lags behind σ: let the levels slow down towards the last,
    `settling_sigmas`.

    Converges, with more levels and a smaller last σ, to the model's law conditioned on the range of f, for
    linear f and a Gaussian prior: in the tall case of docs/results/gauss.md the covariance is off by 0.021 after 100
    calls, 0.007 after 200 and 0.002 after 400. For a mixture: to that law around each mode; how often each mode comes
    up is decided at the σ where they part, by the model's smoothed law there. Cost: one denoiser call per view and
    level, and `iterations` of conjugate gradients, each a J v and a Jᵀ w; needs forward-mode derivatives.

    momentum: α in [0, 1); 0 is the overdamped dynamics, far slower. step: below 2, where the dynamics becomes
    unstable whatever the prior, since no score is steeper than 1/σ²; but guidance steepens it, so use 1 or less
    then. iterations: of the projection; those of an exact one are as many as θ has parameters. Takes a noise of
    one image per view, kept by slot: noise='independent', or a single view; others raise UserError. Euler only.
    """

    momentum: float = 0.9
    step: float = 1.5
    iterations: int = 20
    orders: ClassVar[tuple[int, ...]] = (1,)
    per_view_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (0 <= self.momentum < 1 and 0 < self.step < 2 and self.iterations >= 1):
            raise UserError(f"{self} needs 0 <= momentum < 1, 0 < step < 2 and iterations >= 1.")

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        if visit.sigma_next == 0:
            return visit.source, None
        if visit.source.shape != visit.clean.shape:
            raise UserError("Langevin moves the noise of every view by itself; use noise='independent'.")
        keep, renew = self.momentum, math.sqrt(1 - self.momentum**2)
        length = self.step * visit.sigma
        score = (visit.x0 - visit.clean - visit.sigma * visit.noise) / visit.sigma**2
        kicked = (visit.draw() if visit.memory is None else visit.memory) + length * score
        velocity = keep * kicked + renew * visit.draw()
        moved = visit.noise + length / 2 * (kicked + velocity) / visit.sigma_next
        outside = renew * visit.draw() - keep * visit.noise
        return outside + visit.project(moved - outside, self.iterations), velocity
