"""Noise on a sphere round the object: a part of it that two views see has the same noise in both."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..views.cameras import pixel_of
from ..views.reading import read_poses
from .coupling import COUPLINGS, OneSource


@functools.cache
def evenly(count: int) -> Tensor:
    """Points [count,3] spread evenly over the unit sphere, float64: a Fibonacci lattice (González 2010)."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    height, turn = 1 - 2 * i / count, math.pi * (1 + math.sqrt(5)) * i
    width = (1 - height**2).sqrt()
    return torch.stack([width * turn.cos(), width * turn.sin(), height], -1)


@COUPLINGS.register("surface")
@dataclass(frozen=True)
class Surface(OneSource):
    """White noise at many points of a sphere, gathered by each view's pixels; off the sphere one image for all views.

    A pixel has the sum of its points over the root of their number, so every view is unit white. Sides that no view
    sees together are independent, and a view from between agrees with both: each side of an object is decided once. All
    views together decide the outline, where most pixels lie off the sphere. Source [1,C,H·W + points].

    Args:
        share: Share of the one image's variance in the pixels on the sphere, 0 to 1; 1 is `shared`.
        radius: Of the sphere about the origin, in units of the world: about the size of the object or less, smaller
            than the cameras' distance.
        fovy: Vertical angle of view in radians, for views that are poses [V,4,4] (columns x right, y up, z backwards);
            camera batches have their own.
        points: Number of points on the sphere, several for each pixel.
        kept: Whether the noise is the same at all visits.

    Raises:
        UserError: A value is out of range; in a run, views without poses.
    """

    share: float = 0.0
    radius: float = 0.6
    fovy: float = 0.7
    points: int = 16384
    kept: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and self.radius > 0 and 0 < self.fovy < math.pi and self.points >= 1):
            raise UserError(f"{self} needs share in [0, 1], radius above 0, fovy in (0, pi) and points >= 1")

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One image and the points, [1,C,H·W + points]."""
        _, channels, height, width = shape
        return (1, channels, height * width + self.points)

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        """The noise of the points that each camera sees."""
        count, channels, height, width = shape
        pixels = height * width
        self.check_size(source, shape)
        image, on_sphere = torch.split(source[0], [pixels, self.points], 1)
        pixel = self._pixels(views, height, width).to(source.device)
        if len(pixel) != count:
            raise UserError(f"{len(pixel)} cameras for {count} renders")
        # points out of sight fall into one pixel more
        number = source.new_zeros(count, pixels + 1).scatter_add_(1, pixel, torch.ones_like(pixel, dtype=source.dtype))
        index = pixel[:, None].expand(count, channels, self.points)
        total = source.new_zeros(count, channels, pixels + 1).scatter_add_(2, index, on_sphere.expand(index.shape))
        number = number[:, None, :pixels]
        gathered = total[..., :pixels] / number.clamp(min=1).sqrt()
        mixed = math.sqrt(self.share) * image + math.sqrt(1 - self.share) * gathered
        return torch.where(number > 0, mixed, image).view(shape)

    def average(self, error: Tensor, views: Any) -> tuple[Tensor, Tensor]:
        """What the points' neighbourhoods have in the views that see them.

        Args:
            error: A number for each pixel [V,H,W].
            views: V views, as the representation renders them.

        Returns:
            The mean over a square round the point, 3/8 of the image wide, and over views [points]; 0 out of sight. And
            whether any view sees the point [points].
        """
        height, width = error.shape[1:]
        window = 3 * min(height, width) // 16 * 2 + 1
        around = F.avg_pool2d(error[:, None], window, 1, window // 2, count_include_pad=False).flatten(1)
        pixel = self._pixels(views, height, width).to(error.device)
        number = (pixel < height * width).sum(0)
        total = F.pad(around, (0, 1)).gather(1, pixel).sum(0)  # 0 in the pixel of what is out of sight
        return total / number.clamp(min=1), number > 0

    def renew(self, source: Tensor, fresh: Tensor, where: Tensor) -> Tensor:
        """The source with the points of another one where it is True [points]; the one image stays."""
        outside = where.new_zeros(source.shape[-1] - self.points)
        return torch.where(torch.cat([outside, where.to(source.device)]), fresh, source)

    def _pixels(self, views: Any, height: int, width: int) -> Tensor:
        """The pixel of each point in every view [V,points]; height·width where the point is out of sight."""
        poses, fovy = read_poses(views, "noise='surface'", self.fovy)
        poses, half = poses.detach().double(), (fovy.double() / 2).tan()[:, None]
        points, centre = self.radius * evenly(self.points).to(poses), poses[:, None, :3, 3]
        facing = ((centre - points) * points).sum(-1) > 0
        return torch.where(facing, pixel_of((points - centre) @ poses[:, :3, :3], half, height, width), height * width)
