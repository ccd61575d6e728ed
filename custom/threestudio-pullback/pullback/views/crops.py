"""Crops of a panorama: perspective views from one point, as the views of `sample`.

Crops are a camera batch: c2w [V,4,4], of which the rotation counts (columns x right, y up, z backwards), and fovy [V],
the vertical angle of view in radians. The world has z up; azimuth 0 looks along +x, 90° along +y.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..errors import UserError


def look(elevation: Tensor, azimuth: Tensor, fovy: Tensor | float) -> dict[str, Tensor]:
    """Crops toward elevation in [−90, 90] and azimuth, in degrees [V], fovy degrees high, the horizon level.

    At elevation ±90 the azimuth is that of what lies towards the crop's lower (+90) or upper (−90) edge.
    """
    fovy = torch.deg2rad(torch.as_tensor(fovy).to(elevation)).expand(len(elevation))
    e, a = torch.deg2rad(elevation), torch.deg2rad(azimuth)
    pose = torch.zeros(len(e), 4, 4, dtype=e.dtype, device=e.device)
    pose[:, :3, 0] = torch.stack([a.sin(), -a.cos(), torch.zeros_like(a)], -1)
    pose[:, :3, 1] = torch.stack([-e.sin() * a.cos(), -e.sin() * a.sin(), e.cos()], -1)
    pose[:, :3, 2] = -torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()], -1)
    pose[:, 3, 3] = 1
    return {"c2w": pose, "fovy": fovy}


def frames(views: Any, fovy: float | None = None) -> tuple[Tensor, Tensor]:
    """Rotations [V,3,3] and tan(fovy/2) [V] of crops; where views are bare poses [V,4,4], `fovy` radians holds for all.

    Raises UserError for anything else, and for a fovy outside (0, π).
    """
    angle: Any = fovy
    if isinstance(views, Mapping):
        views, angle = views.get("c2w"), views.get("fovy")
    known = isinstance(views, Tensor) and views.ndim == 3 and tuple(views.shape[1:]) in ((4, 4), (3, 4))
    if not known or angle is None:
        raise UserError("Crops of a panorama are a camera batch with c2w [V,4,4] and fovy [V]; see crops.look.")
    angle = torch.as_tensor(angle).to(views).expand(len(views))
    if not bool(((angle > 0) & (angle < math.pi)).all()):
        raise UserError("The fovy of a crop must lie between 0 and pi radians.")
    return views[:, :3, :3], (angle / 2).tan()


def directions(views: Any, height: int, width: int) -> Tensor:
    """Unit directions [V,H,W,3] in the world through the centres of square pixels, row 0 on top."""
    rotation, half = frames(views)
    rows = torch.arange(height, dtype=half.dtype, device=half.device) + 0.5 - height / 2
    columns = torch.arange(width, dtype=half.dtype, device=half.device) + 0.5 - width / 2
    down, right = torch.meshgrid(2 * rows / height, 2 * columns / height, indexing="ij")
    flat = torch.stack([right, -down], -1) * half[:, None, None, None]
    return torch.einsum("vij,vhwj->vhwi", rotation, F.normalize(F.pad(flat, (0, 1), value=-1.0), dim=-1))


def equirectangular(height: int, like: Tensor) -> Tensor:
    """Unit directions [H,2H,3] of the pixels' centres of a whole panorama, in the dtype and on the device of `like`.

    Row 0 is the zenith, the middle column azimuth 0; azimuth grows to the left, as seen from inside.
    """
    rows = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5) / height
    columns = (torch.arange(2 * height, dtype=like.dtype, device=like.device) + 0.5) / (2 * height)
    elevation, azimuth = torch.meshgrid((0.5 - rows) * math.pi, (0.5 - columns) * 2 * math.pi, indexing="ij")
    flat = elevation.cos()
    return torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), elevation.sin()], -1)


def cover(fovy: float, overlap: float = 0.5, elevation: tuple[float, float] = (-90.0, 90.0)) -> dict[str, Tensor]:
    """Square crops that leave nothing out between the lowest and highest `elevation` of their centres.

    fovy in degrees; overlap: the share of its angle that a crop has in common with each neighbour, in [0.3, 1): below,
    the corners between four crops would be missed. elevation (0, 0) is one row round the horizon. Raises UserError for
    other values.
    """
    low, high = elevation
    if not (0 < fovy < 180 and 0.3 <= overlap < 1 and -90 <= low <= high <= 90):
        raise UserError(f"cover takes fovy in (0, 180), overlap in [0.3, 1) and elevations, not {fovy}, {overlap}.")
    step = fovy * (1 - overlap)
    rows = torch.linspace(low, high, math.ceil((high - low) / step) + 1).tolist()
    places = []
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

    fovy, elevation: ranges in degrees, each crop's own. overlap: range of the share of a crop's angle that it has in
    common with the next, one for all crops of a draw; together they go round once where count · fovy · (1 − overlap)
    is 360. Raises UserError for other values.
    """

    count: int = 8
    fovy: tuple[float, float] = (90.0, 90.0)
    elevation: tuple[float, float] = (-60.0, 60.0)
    overlap: tuple[float, float] = (0.5, 0.5)

    def __post_init__(self) -> None:
        limits = {"fovy": (1, 170), "elevation": (-90, 90), "overlap": (-10, 0.95)}
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise UserError(f"{name} must be [low, high] within {least} and {most}, not [{low}, {high}].")
        if self.count < 1:
            raise UserError(f"count must be at least 1, not {self.count}.")

    def __call__(self, generator: Generator) -> dict[str, Tensor]:
        """c2w [count,4,4] and fovy [count]."""

        def uniform(bounds: tuple[float, float], count: int) -> Tensor:
            drawn = torch.rand(count, generator=generator, device=generator.device)
            return bounds[0] + (bounds[1] - bounds[0]) * drawn

        fovy, elevation = uniform(self.fovy, self.count), uniform(self.elevation, self.count)
        share = 1 - uniform(self.overlap, 1)
        along = share * (fovy.cumsum(0) - fovy / 2)
        return look(elevation, uniform((0.0, 360.0), 1) + along, fovy)
