"""What Langevin is held against in experiments/gauss.py: a predictor-corrector in the manner of Song et al. 2021."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pullback.constraints import Constraint, Visit
from torch import Tensor


@dataclass(frozen=True)
class Corrector(Constraint):
    """At each level `steps` Euler–Maruyama steps τ = size σ² of the noisy images, then the step down.

    Noise outside the range is drawn afresh at every visit. steps = 0: no correction.
    """

    steps: int = 4
    size: float = 0.5

    @property
    def cycles(self) -> int:
        return self.steps + 1

    def target(self, visit: Visit) -> Tensor:
        return super().target(visit) if visit.cycle == self.steps else visit.clean

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        source, new = visit.source, visit.draw()
        if visit.cycle < self.steps:
            tau, noisy = self.size * visit.sigma**2, visit.clean + visit.sigma * visit.noise
            moved = tau * (visit.x0 - noisy) / visit.sigma**2 + math.sqrt(2 * tau) * visit.draw()
            source = source + moved / visit.sigma
        return new + visit.project(source - new, visit.clean[0].numel()), None
