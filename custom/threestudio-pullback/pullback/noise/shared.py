"""One noise image for all views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .coupling import COUPLINGS, OneSource


@COUPLINGS.register("shared")
@dataclass(frozen=True)
class Shared(OneSource):
    """One noise image for all views and visits: each view has the same ε. Source [1,C,H,W].

    Args:
        kept: Whether it is the same at all visits.
    """

    kept: bool = True

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One image [1,C,H,W]."""
        return (1, *shape[1:])

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        """The one image, for every view."""
        self.check_size(source, shape)
        return source.expand(shape)
