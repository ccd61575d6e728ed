"""Groups of views: what a joint denoiser sees together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError


@dataclass(frozen=True)
class Group:
    """Cameras of one elevation at fixed steps of azimuth; by default four, 90° apart, as MVDream has them.

    Args:
        steps: Each camera's azimuth less the first one's, in degrees; the first is 0.

    Raises:
        UserError: There is no step, or the first is not 0.
    """

    steps: tuple[float, ...] = (0.0, 90.0, 180.0, 270.0)

    def __post_init__(self) -> None:
        if not self.steps or self.steps[0] != 0:
            raise UserError(
                f"a group's steps of azimuth must begin with 0, not {list(self.steps)}; give them in degrees"
            )

    def __len__(self) -> int:
        return len(self.steps)

    def spread(self, elevation: Tensor, azimuth: Tensor) -> tuple[Tensor, Tensor]:
        """Elevations and azimuths of all cameras, group by group.

        Args:
            elevation: Of the groups, [G] in degrees.
            azimuth: Of their first cameras, [G] in degrees.

        Returns:
            Two [G·V], in degrees.
        """
        steps = torch.tensor(self.steps).to(azimuth)
        return elevation.repeat_interleave(len(self)), (azimuth[:, None] + steps).flatten()


def evenly(views: int) -> Group:
    """The group of `views` cameras spread evenly round.

    Raises:
        UserError: There are none.
    """
    return Group(tuple(360 * i / views for i in range(views)))
