"""The check of a run: the model compares the renders with its own clean images, and so detects a blend."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..noise import white
from .space import Space


@dataclass(frozen=True)
class Verdict:
    """The result of a check of the present renders.

    Attributes:
        consistency: Root mean square of x̂0(u + σε, σ) − u in the worst view, in the units of u.
        threshold: The largest consistency of renders that are no blend. Its square is (2σ/√d)² plus the model's own
            floor. d is the number of entries of one view: images nearer than 2σ to each other look alike at noise σ.
            The floor is the median over views of the mean square of x̂0(z + σε') − z for the model's own answers
            z = x̂0(u + σε, σ).
        calls: Denoiser calls of the check.
        floor: The model's own floor, a root mean square; 0 where the threshold was given.
    """

    consistency: float
    threshold: float
    calls: int
    floor: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the check found no blend."""
        return self.consistency <= self.threshold

    @property
    def tells(self) -> bool:
        """Whether the check can tell: the model's own floor is no larger than what the check resolves, 2σ/√d.

        The floor is a median over views and the consistency is of the worst view. Where the floor is the larger part of
        the threshold, the model's own pictures lie above it as blends do.
        """
        return 2 * self.floor**2 <= self.threshold**2


def check(
    space: Space, draw_views: Callable[[], Any], sigmas: Sequence[float], generator: torch.Generator, draws: int = 1
) -> Verdict:
    """Checks the present parameters at σ = 1, or the nearest level there is.

    Args:
        space: The representation and the denoiser.
        draw_views: () -> fresh views, since a fit may be right for its own views alone.
        sigmas: The run's levels, decreasing, ending in 0.
        generator: Draws the noise.
        draws: Number of draws of views; the worst view of all counts.
    """
    sigma = min(max(1.0, sigmas[-2]), sigmas[0])
    worst = own = resolved = 0.0
    before = space.nfe
    for _ in range(draws):
        views = draw_views()
        clean = space.clean(views)
        draw = white(generator, clean)
        answer = space.denoise(clean + sigma * draw(tuple(clean.shape)), sigma, views)
        again = space.denoise(answer + sigma * draw(tuple(clean.shape)), sigma, views)
        resolved = 4 * sigma**2 / clean[0].numel()
        off, moved = ((a - b).square().flatten(1).mean(1) for a, b in ((answer, clean), (again, answer)))
        furthest, typical = space.read(off.max(), moved.median())  # views that are blends count high in a mean
        worst, own = max(worst, furthest), own + typical / draws
    return Verdict(math.sqrt(worst), math.sqrt(own + resolved), space.nfe - before, math.sqrt(own))
