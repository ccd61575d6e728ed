"""Noise on the sphere of directions: crops of a panorama that overlap see the same noise where they do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..views import crops
from .surface import evenly


@dataclass(frozen=True)
class Spherical:
    """White noise in cells of equal solid angle; a pixel takes the sum of the cells in its footprint over √number.

    In one crop every cell lies in one pixel, so each crop is exactly unit white. Two pixels of different crops
    correlate n_both/√(n_one n_other), the numbers of cells in both footprints and in each: as integrals of one white
    noise over the footprints do. Directions that no crop sees together are independent. The pixels are those of what
    the denoiser sees; for latents, theirs. A pixel without a cell takes that of an image of its own.

    narrowest: the angle of view in radians of the narrowest crop; its middle pixel holds `cells` cells on average,
    those of wider ones more. fovy: vertical angle of view in radians of views that are bare poses [V,4,4]; see
    crops.frames.
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

    def draw(self, white: Any, shape: tuple[int, ...]) -> Tensor:
        _, channels, height, width = shape
        return white((1, channels, height * width + self._number(height)))

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        count, channels, height, width = shape
        pixels, number = height * width, self._number(height)
        if tuple(source.shape[1:]) != (channels, pixels + number):
            raise UserError(
                "The renders' size or channels changed along the path, but noise='spherical' keeps one noise on the "
                "sphere; render at one size."
            )
        rotation, half = crops.frames(views, self.fovy)
        if len(rotation) != count:
            raise UserError(f"{len(rotation)} crops for {count} renders.")
        image, cells = source[0].split([pixels, number], 1)
        towards = evenly(number).to(source.device)
        noise = [
            _integrated(image, cells, *_footprints(towards, turn, tangent, height, width))
            for turn, tangent in zip(rotation.to(towards), half.to(towards), strict=True)
        ]
        return torch.stack(noise).view(shape)


def _footprints(towards: Tensor, turn: Tensor, tangent: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Which cells, in directions `towards` [N,3], a crop sees [n], and in which pixel each lies [n]."""
    right, up, back = turn.T
    depth = -(towards @ back)
    corner = tangent * math.hypot(1, width / height)
    near = (depth > 1 / (1 + corner**2).sqrt() - 1e-6).nonzero()[:, 0]  # few, where crops are narrow
    there, scale = towards[near], 0.5 * height / tangent / depth[near]
    column = (there @ right * scale + width / 2).floor()
    row = (height / 2 - there @ up * scale).floor()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return near[inside], (row * width + column)[inside].long()


def _integrated(image: Tensor, cells: Tensor, seen: Tensor, pixel: Tensor) -> Tensor:
    """One crop's noise [C,H·W]."""
    number = torch.bincount(pixel, minlength=image.shape[1])
    total = torch.zeros_like(image).index_add_(1, pixel, cells[:, seen])
    return torch.where(number > 0, total / number.clamp(min=1).sqrt().to(total), image)
