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
    """

    consistency: float
    threshold: float
    calls: int

    @property
    def passed(self) -> bool:
        """Whether the check found no blend."""
        return self.consistency <= self.threshold


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
    worst = floor = 0.0
    before = space.nfe
    for _ in range(draws):
        views = draw_views()
        clean = space.clean(views)
        draw = white(generator, clean)
        answer = space.denoise(clean + sigma * draw(tuple(clean.shape)), sigma, views)
        again = space.denoise(answer + sigma * draw(tuple(clean.shape)), sigma, views)
        off, own = ((a - b).square().flatten(1).mean(1) for a, b in ((answer, clean), (again, answer)))
        furthest, typical = space.read(off.max(), own.median())  # views that are blends count high in a mean
        worst, floor = max(worst, furthest), floor + (typical + 4 * sigma**2 / clean[0].numel()) / draws
    return Verdict(math.sqrt(worst), math.sqrt(floor), space.nfe - before)
