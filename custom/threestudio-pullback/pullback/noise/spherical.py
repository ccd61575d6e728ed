"""Noise on the sphere of directions: crops of a panorama that overlap see the same noise where they do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..views.cameras import pixel_of
from ..views.reading import read_poses
from .coupling import COUPLINGS, OneSource
from .surface import evenly


@COUPLINGS.register("spherical")
@dataclass(frozen=True)
class Spherical(OneSource):
    """White noise in cells of equal solid angle; a pixel takes the sum of the cells in its footprint over √number.

    In one crop every cell lies in one pixel, so each crop is exactly unit white. Two pixels of different crops
    correlate n_both/√(n_one n_other), the numbers of cells in both footprints and in each: as integrals of one white
    noise over the footprints do. Directions that no crop sees together are independent. The pixels are those of what
    the denoiser sees; for latents, theirs. A pixel without a cell takes that of an image of its own.

    narrowest: the angle of view in radians of the narrowest crop; its middle pixel holds `cells` cells on average,
    those of wider ones more. fovy: vertical angle of view in radians of views that bring none.
    Source [1,C,H·W + cells on the sphere]. Raises UserError for other values, and views that are no crops.
    """

    narrowest: float = 0.8
    cells: float = 4.0
    fovy: float = 0.7
    kept: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.narrowest < math.pi and self.cells >= 1 and 0 < self.fovy < math.pi):
            raise UserError(f"{self} needs angles in (0, pi) and at least 1 cell.")

    def _number(self, height: int) -> int:
        pixel = 2 * math.tan(self.narrowest / 2) / height
        return math.ceil(4 * math.pi * self.cells / pixel**2)

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        _, channels, height, width = shape
        return (1, channels, height * width + self._number(height))

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        count, _, height, width = shape
        pixels, number = height * width, self._number(height)
        self.check_size(source, shape)
        poses, fovy = read_poses(views, "noise='spherical'", self.fovy)
        if len(poses) != count:
            raise UserError(f"{len(poses)} crops for {count} renders.")
        image, cells = torch.split(source[0], [pixels, number], 1)
        towards = evenly(number).to(source.device)
        noise = [
            _integrated(image, cells, *_footprints(towards, turn, half, height, width))
            for turn, half in zip(poses[:, :3, :3].to(towards), (fovy / 2).tan().to(towards), strict=True)
        ]
        return torch.stack(noise).view(shape)


def _footprints(towards: Tensor, turn: Tensor, half: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Which cells, in directions `towards` [N,3], a crop sees [n], and in which pixel each lies [n]."""
    corner = half * math.hypot(1, width / height)
    near = (-(towards @ turn[:, 2]) > 1 / (1 + corner**2).sqrt() - 1e-6).nonzero()[:, 0]  # few, where crops are narrow
    pixel = pixel_of(towards[near] @ turn, half, height, width)
    inside = pixel < height * width
    return near[inside], pixel[inside]


def _integrated(image: Tensor, cells: Tensor, seen: Tensor, pixel: Tensor) -> Tensor:
    """One crop's noise [C,H·W]."""
    number = torch.bincount(pixel, minlength=image.shape[1])
    total = torch.zeros_like(image).index_add_(1, pixel, cells[:, seen])
    return torch.where(number > 0, total / number.clamp(min=1).sqrt().to(total), image)
