"""Panoramas: colours of the directions from one point, seen through perspective crops."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..views import crops
from .coordinates import check_sizes
from .siren import Siren


class SphereImage(nn.Module):
    """f(θ) = a colour for every direction; a subclass has a `network` of directions, or gives `colours`.

    Args:
        height: Rows of a crop.
        width: Columns of a crop.

    Raises:
        UserError: A size is below 1.
    """

    _kind: Tensor
    network: nn.Module

    def __init__(self, height: int, width: int):
        super().__init__()
        check_sizes(type(self).__name__, height=height, width=width)
        self.height, self.width = height, width
        self.register_buffer("_kind", torch.zeros(()), persistent=False)  # the dtype and device of what is rendered

    def colours(self, directions: Tensor) -> Tensor:
        """Colours [...,C], nominally in [−1, 1], of unit directions [...,3] in a world with z up."""
        return self.network(directions)

    def render(self, views: Any) -> Tensor:
        """Crops [V,C,H,W] of a camera batch with c2w [V,4,4] and fovy [V] in radians; see crops.py.

        Raises:
            UserError: The views are no crops.
        """
        towards = crops.directions(views, self.height, self.width, type(self).__name__)
        return self.colours(towards.to(self._kind)).movedim(-1, 1)

    def equirectangular(self, height: int) -> Tensor:
        """The whole panorama [C,H,2H] from inside, x forward, y left, z up.

        Row 0 is the zenith, the middle column azimuth 0 (+x); azimuth grows to the left, so +y lies left of the middle
        and ±180° at both edges.
        """
        return self.colours(crops.equirectangular(height, self._kind)).movedim(-1, 0)


class Panorama(SphereImage):
    """A `Siren` of the unit direction (x, y, z): smooth on the whole sphere, so without a seam or poles.

    The finest detail is of the order of 1/ω radians. `height` and `width` are those of the crops; the arguments from
    `hidden` on are those of `Siren`.
    """

    def __init__(self, channels: int, height: int, width: int, hidden: int = 128, layers: int = 3, omega: float = 30.0):
        super().__init__(height, width)
        self.network = Siren(3, channels, hidden, layers, omega)


class EquirectangularGrid(SphereImage):
    """Pixels [C,R,2R] of an equirectangular picture, bilinear between their centres; linear in them.

    Columns go on across ±180°. At the poles, where all columns meet, the colour is the mean of the outermost row. The
    lookup gathers the corners, since torch's grid_sample has no forward-mode derivative. Starts at 0 (mid-grey).

    Args:
        channels: C.
        height: Rows of a crop.
        width: Columns of a crop.
        resolution: R.

    Raises:
        UserError: A size is below 1.
    """

    def __init__(self, channels: int, height: int, width: int, resolution: int = 64):
        super().__init__(height, width)
        check_sizes(type(self).__name__, channels=channels, resolution=resolution)
        self.resolution = resolution
        self.values = nn.Parameter(torch.zeros(channels, resolution, 2 * resolution))

    def colours(self, directions: Tensor) -> Tensor:
        """The bilinear colours [...,C] of unit directions [...,3]."""
        rows, columns = self.values.shape[1:]
        x, y, z = directions.unbind(-1)
        row = (0.5 - torch.atan2(z, torch.hypot(x, y)) / math.pi) * rows - 0.5
        column = (0.5 - torch.atan2(y, x) / (2 * math.pi)) * columns - 0.5
        # a row at each pole, half a pixel beyond the outermost centres
        poles = self.values[:, [0, -1]].mean(2, keepdim=True).expand(-1, -1, columns)
        table = torch.cat([poles[:, :1], self.values, poles[:, 1:]], 1).flatten(1)
        row = torch.where(row < 0, 2 * row + 1, torch.where(row > rows - 1, 2 * row - rows + 2, row + 1))
        row = row.clamp(0, rows + 1)
        top, left = row.floor().clamp(max=rows), column.floor()
        down, right = row - top, column - left
        top, left = top.long(), left.long()
        value = table.new_zeros(())
        for i, vertical in ((0, 1 - down), (1, down)):
            for j, horizontal in ((0, 1 - right), (1, right)):
                index = (top + i) * columns + (left + j) % columns
                value = value + vertical * horizontal * table[:, index]
        return value.movedim(0, -1)
