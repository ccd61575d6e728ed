"""One noise image for all views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import UserError
from .coupling import White


@dataclass(frozen=True)
class Shared:
    """One noise image for all views, now and later: every view votes with the same ε. Source [1,C,H,W]."""

    kept: bool = True

    def draw(self, white: White, shape: tuple[int, ...]) -> Tensor:
        return white((1, *shape[1:]))

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        if tuple(source.shape[1:]) != tuple(shape[1:]):
            raise UserError(
                f"The renders changed from {list(source.shape[1:])} to {list(shape[1:])} along the path, "
                "but noise='shared' keeps one noise image; render at one size."
            )
        return source.expand(shape)
