"""One noise image per view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import UserError
from .coupling import White


@dataclass(frozen=True)
class Independent:
    """One noise image per view. Source [V,C,H,W], by slot: the i-th view of every visit has the i-th noise.

    With views drawn afresh at every visit, slot i is another camera each time and its noise travels along;
    the number of views must then stay the same. `kept=False` draws all of it anew at every visit ("fresh"): u
    then follows the mean field E_ε[x̂0(u + σε, σ)], which seeks modes instead of sampling.
    """

    kept: bool = True

    def draw(self, white: White, shape: tuple[int, ...]) -> Tensor:
        return white(shape)

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        if tuple(source.shape) != tuple(shape):
            raise UserError(
                f"The renders changed from {list(source.shape)} to {list(shape)} along the path, but "
                "noise='independent' keeps one image per view; keep their number and size or use 'shared'."
            )
        return source
