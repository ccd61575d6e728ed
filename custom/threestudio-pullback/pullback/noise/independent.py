"""One noise image per view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .coupling import COUPLINGS, OneSource


@COUPLINGS.register("fresh", kept=False)
@COUPLINGS.register("independent")
@dataclass(frozen=True)
class Independent(OneSource):
    """One noise image per view. Source [V,C,H,W], by slot: the i-th view of every visit has the i-th noise.

    Where every visit draws its views, slot i is another camera each time and keeps its noise; the number of views must
    then stay the same.

    Args:
        kept: False draws new noise at every visit ("fresh"): u then follows the mean field E_ε[x̂0(u + σε, σ)], which
            seeks modes and does not sample.
    """

    kept: bool = True

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the renders."""
        return tuple(shape)

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        """The source itself."""
        self.check_size(source, shape)
        return source
