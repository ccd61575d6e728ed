"""A predictor-corrector in the manner of Song et al. 2021, with which experiments/gauss.py compares Langevin."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pullback.constraints import Constraint, Visit
from torch import Tensor


@dataclass(frozen=True)
class Corrector(Constraint):
    """At each level Euler–Maruyama steps τ = size σ² of the noisy images, then the step down.

    The noise outside of the range is new at every visit.

    Attributes:
        steps: Euler–Maruyama steps of a level; 0 for no correction.
        size: Their length.
    """

    steps: int = 4
    size: float = 0.5

    @property
    def cycles(self) -> int:
        """Visits of a level: the corrections and the step down."""
        return self.steps + 1

    def target(self, visit: Visit) -> Tensor:
        """The usual target at the step down; the render itself at a correction."""
        return super().target(visit) if visit.cycle == self.steps else visit.clean

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        """The noise of the next visit, after a correction moved along the score and with fresh noise."""
        source, new = visit.source, visit.draw()
        if visit.cycle < self.steps:
            tau, noisy = self.size * visit.sigma**2, visit.clean + visit.sigma * visit.noise
            moved = tau * (visit.x0 - noisy) / visit.sigma**2 + math.sqrt(2 * tau) * visit.draw()
            source = source + moved / visit.sigma
        return new + visit.project(source - new, visit.clean[0].numel()), None
