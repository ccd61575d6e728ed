"""Crops of a panorama: perspective views from one point, as the views of `sample`.

Crops are a camera batch: c2w [V,4,4], of which the rotation counts, and fovy [V], the vertical angle of view in
radians; see cameras.py. Azimuth 0 looks along +x, 90° along +y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ..errors import UserError
from .cameras import camera_rays, orbit
from .reading import read_poses


def look(elevation: Tensor, azimuth: Tensor, fovy: Tensor | float) -> dict[str, Tensor]:
    """Crops with a level horizon.

    Args:
        elevation: Where they look, [V] in [−90, 90] degrees.
        azimuth: [V] in degrees. At elevation ±90 it is that of what lies towards the crop's lower (+90) or upper (−90)
            edge.
        fovy: Vertical angle of view in degrees, [V] or one for all.

    Returns:
        c2w [V,4,4] and fovy [V] in radians.
    """
    turned = orbit(elevation, azimuth, 0.0)  # looks at the origin: half a turn about its up is missing
    about = torch.tensor([-1.0, 1.0, -1.0, 1.0]).to(turned)
    return {"c2w": turned * about, "fovy": torch.deg2rad(torch.as_tensor(fovy).to(elevation)).expand(len(elevation))}


def directions(views: Any, height: int, width: int, who: str = "a panorama") -> Tensor:
    """Unit directions [V,H,W,3] in the world through the centres of the pixels.

    Args:
        views: Crops, see `look`.
        height: Rows of a crop.
        width: Columns of a crop.
        who: The caller's name, for the error.

    Raises:
        UserError: The views are no crops.
    """
    return camera_rays(*read_poses(views, who), height, width)[1]


def equirectangular(height: int, like: Tensor) -> Tensor:
    """Unit directions [H,2H,3] of the pixels' centres of a whole panorama.

    Row 0 is the zenith, the middle column azimuth 0; azimuth grows to the left, as seen from inside.

    Args:
        height: H.
        like: A tensor whose dtype and device the result takes.
    """
    rows = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
    columns = (torch.arange(2 * height, dtype=like.dtype, device=like.device) + 0.5) / (2 * height)
    elevation, azimuth = torch.meshgrid((0.5 - rows) * math.pi, (0.5 - columns) * 2 * math.pi, indexing="ij")
    flat = elevation.cos()
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], -1)


def cover(fovy: float, overlap: float = 0.5, elevation: tuple[float, float] = (-90.0, 90.0)) -> dict[str, Tensor]:
    """Square crops that leave nothing out between the lowest and highest `elevation` of their centres.

    Args:
        fovy: Vertical angle of view in degrees.
        overlap: Share of its angle that a crop has in common with each neighbour, in [0.3, 1); below, the corners
            between four crops would be missed.
        elevation: Lowest and highest, in degrees; (0, 0) is one row round the horizon.

    Returns:
        A camera batch, see `look`.

    Raises:
        UserError: A value lies outside its range.
    """
    low, high = elevation
    if not (0 < fovy < 180 and 0.3 <= overlap < 1 and -90 <= low <= high <= 90):
        raise UserError(f"cover takes fovy in (0, 180), overlap in [0.3, 1) and elevations, not {fovy}, {overlap}")
    step = fovy * (1 - overlap)
    rows = [float(row) for row in torch.linspace(low, high, math.ceil((high - low) / step) + 1).unbind()]
    places: list[tuple[float, float]] = []
    for row in rows:
        # where the row's circle of latitude is longest
        around = 360 * math.cos(math.radians(max(abs(row) - step / 2, 0)))
        count = 1 if abs(row) == 90 else max(1, math.ceil(around / step))
        places += [(row, 360 * i / count) for i in range(count)]
    towards = torch.tensor(places)
    return look(towards[:, 0], towards[:, 1], fovy)


@dataclass(frozen=True)
class RandomCrops:
    """Crops drawn afresh at every call, as the `views` of `sample`: a row of `count` neighbours from a random azimuth.

    A narrow range of azimuths holds the crops in their places, as a model needs that draws objects in the middle alone.

    Together they go round once where count · fovy · (1 − overlap) is 360.

    Args:
        count: Crops in a draw.
        fovy: Range of the vertical angle of view in degrees, each crop's own.
        elevation: Range in degrees, each crop's own.
        overlap: Range of the share of a crop's angle that it has in common with the next, one for all crops of a draw.
        azimuth: Range in degrees of where the row begins, at the first crop's edge, one for all crops of a draw.

    Raises:
        UserError: A value lies outside its range.
    """

    count: int = 8
    fovy: tuple[float, float] = (90.0, 90.0)
    elevation: tuple[float, float] = (-60.0, 60.0)
    overlap: tuple[float, float] = (0.5, 0.5)
    azimuth: tuple[float, float] = (0.0, 360.0)

    def __post_init__(self) -> None:
        limits = {"fovy": (1, 170), "elevation": (-90, 90), "overlap": (-10, 0.95), "azimuth": (-360, 360)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise UserError(f"{name} must be [low, high] within {least} and {most}, not [{low}, {high}]")
        if self.count < 1:
            raise UserError(f"count must be at least 1, not {self.count}")

    def __call__(self, generator: Generator) -> dict[str, Tensor]:
        """A camera batch with c2w [count,4,4] and fovy [count] in radians."""

        def uniform(bounds: tuple[float, float], count: int) -> Tensor:
            drawn = torch.rand(count, generator=generator, device=generator.device)
            return bounds[0] + (bounds[1] - bounds[0]) * drawn

        fovy, elevation = uniform(self.fovy, self.count), uniform(self.elevation, self.count)
        share = 1 - uniform(self.overlap, 1)
        along = share * (fovy.cumsum(0) - fovy / 2)
        return look(elevation, uniform(self.azimuth, 1) + along, fovy)
