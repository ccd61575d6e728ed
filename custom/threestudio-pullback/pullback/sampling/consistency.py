"""Whether renders look to the model like its own clean images: it tells a blend without knowing the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..noise import white

if TYPE_CHECKING:
    from .sampler import Sampler


@dataclass(frozen=True)
class Judged:
    """consistency: of the worst view, rms of x̂0(u + σε, σ) − u, in the units of u. calls: spent on it.

    threshold: what it must not exceed. Its square is (2σ/√d)², d the entries of one view, since an image nearer than
    2σ to another can hardly be told from it at noise σ, plus the model's own floor, the median over views of the mean
    square of x̂0(z + σε') − z for its own answers z = x̂0(u + σε, σ).
    """

    consistency: float
    threshold: float
    calls: int

    @property
    def passed(self) -> bool:
        return self.consistency <= self.threshold


def check(sampler: Sampler, draws: int = 1) -> Judged:
    """Judges the present parameters at σ = 1, or the nearest level there is, over fresh draws of views."""
    space, sigma = sampler.space, min(max(1.0, sampler.sigmas[-2]), sampler.sigmas[0])
    found = floor = 0.0
    calls = 0
    for _ in range(draws):
        views = sampler.draw_views()
        clean = space.clean(views)
        draw = white(sampler.generator, clean)
        answer = space.denoise(clean + sigma * draw(tuple(clean.shape)), sigma, views)
        again = space.denoise(answer + sigma * draw(tuple(clean.shape)), sigma, views)
        found = max(found, (answer - clean).square().flatten(1).mean(1).max().item())
        own = (again - answer).square().flatten(1).mean(1).median()  # views that are blends count high in a mean
        floor += (own.item() + 4 * sigma**2 / clean[0].numel()) / draws
        calls += 2 * space.calls(len(clean))
    return Judged(math.sqrt(found), math.sqrt(floor), calls)
