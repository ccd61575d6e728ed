"""Whether renders look to the model like its own clean images: it tells a blend without knowing the answer."""

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
    """What a check says of the present renders.

    Attributes:
        consistency: of the worst view, rms of x̂0(u + σε, σ) − u, in the units of u.
        threshold: what it must not exceed. Its square is (2σ/√d)², d the entries of one view, since an image nearer
            than 2σ to another can hardly be told from it at noise σ, plus the model's own floor, the median over views
            of the mean square of x̂0(z + σε') − z for its own answers z = x̂0(u + σε, σ).
        calls: denoiser calls spent on it.
    """

    consistency: float
    threshold: float
    calls: int

    @property
    def passed(self) -> bool:
        """Whether the renders are no blend, as far as this tells."""
        return self.consistency <= self.threshold


def check(
    space: Space, draw_views: Callable[[], Any], sigmas: Sequence[float], generator: torch.Generator, draws: int = 1
) -> Verdict:
    """Checks the present parameters at σ = 1, or the nearest level there is.

    Args:
        space: the representation and the denoiser.
        draw_views: () -> views; fresh ones, since a fit may be right for the views it has just seen alone.
        sigmas: the run's levels, decreasing, ending in 0.
        generator: draws the noise.
        draws: of views; the worst view of all counts.
    """
    sigma = min(max(1.0, sigmas[-2]), sigmas[0])
    worst = floor = 0.0
    calls = 0
    for _ in range(draws):
        views = draw_views()
        clean = space.clean(views)
        draw = white(generator, clean)
        answer = space.denoise(clean + sigma * draw(tuple(clean.shape)), sigma, views)
        again = space.denoise(answer + sigma * draw(tuple(clean.shape)), sigma, views)
        worst = max(worst, (answer - clean).square().flatten(1).mean(1).max().item())
        own = (again - answer).square().flatten(1).mean(1).median()  # views that are blends count high in a mean
        floor += (own.item() + 4 * sigma**2 / clean[0].numel()) / draws
        calls += 2 * space.calls(len(clean))
    return Verdict(math.sqrt(worst), math.sqrt(floor), calls)
