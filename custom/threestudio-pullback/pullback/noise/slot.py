"""One noise image per place in a group of views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import UserError
from .coupling import COUPLINGS, OneSource


@COUPLINGS.register("slot")
@dataclass(frozen=True)
class Slot(OneSource):
    """One noise image per place in a group, the same for every group and kept. Source [group,C,H,W].

    It is for joint denoisers, whose views come group by group. Every group then answers with one vote, made from the
    same noises; a denoiser of single views would vote once per place, and the votes disagree.

    Args:
        group: Views in a group.

    Raises:
        UserError: A group has no view.
    """

    group: int = 4
    kept = True

    def __post_init__(self) -> None:
        if self.group < 1:
            raise UserError(f"a group has at least 1 view, not {self.group}; set group to the denoiser's")

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One image per place [group,C,H,W]."""
        return (self.group, *shape[1:])

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        """The images, once for every group; the i-th view's place is i modulo `group`."""
        self.check_size(source, shape)
        return source.repeat(-(-shape[0] // self.group), 1, 1, 1)[: shape[0]]
