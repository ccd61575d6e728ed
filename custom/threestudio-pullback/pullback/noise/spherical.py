"""Noise on the sphere of directions: crops of a panorama see the same noise where they overlap."""

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
    """White noise in cells of equal solid angle; a pixel has the sum of the cells in its footprint over √number.

    In one crop every cell lies in one pixel, so each crop is exactly unit white. Two pixels of different crops
    correlate n_both/√(n_one n_other), the numbers of cells in both footprints and in each, like integrals of one white
    noise over the footprints. Directions that no crop sees together are independent. The pixels are those that the
    denoiser sees; for a latent denoiser they are latents. A pixel without a cell has the noise of one further image.
    Source [1,C,H·W + cells on the sphere].

    Args:
        narrowest: The angle of view of the narrowest crop, in radians.
        cells: Cells in its middle pixel, on average; pixels of wider crops have more.
        fovy: Vertical angle of view in radians of views without one.
        kept: Whether the noise is the same at all visits.

    Raises:
        UserError: A value is out of range; in a run, views that are no crops.
    """

    narrowest: float = 0.8
    cells: float = 4.0
    fovy: float = 0.7
    kept: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.narrowest < math.pi and self.cells >= 1 and 0 < self.fovy < math.pi):
            raise UserError(f"{self} needs angles in (0, pi) and at least 1 cell")

    def _number(self, height: int) -> int:
        pixel = 2 * math.tan(self.narrowest / 2) / height
        return math.ceil(4 * math.pi * self.cells / pixel**2)

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One image and the cells, [1,C,H·W + cells]."""
        _, channels, height, width = shape
        return (1, channels, height * width + self._number(height))

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        """The noise of the crops' footprints."""
        count, _, height, width = shape
        pixels, number = height * width, self._number(height)
        self.check_size(source, shape)
        poses, fovy = read_poses(views, "noise='spherical'", self.fovy)
        if len(poses) != count:
            raise UserError(f"{len(poses)} crops for {count} renders")
        image, cells = torch.split(source[0], [pixels, number], 1)
        towards = evenly(number).to(source.device)
        noise = [
            _integral(image, cells, *_footprints(towards, turn, half, height, width))
            for turn, half in zip(poses[:, :3, :3].to(towards), (fovy / 2).tan().to(towards), strict=True)
        ]
        return torch.stack(noise).view(shape)


def _footprints(towards: Tensor, turn: Tensor, half: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The cells that a crop sees [n], of those in directions `towards` [N,3], and the pixel of each [n]."""
    corner = half * math.hypot(1, width / height)
    near = (-(towards @ turn[:, 2]) > 1 / (1 + corner**2).sqrt() - 1e-6).nonzero()[:, 0]  # few, where crops are narrow
    pixel = pixel_of(towards[near] @ turn, half, height, width)
    inside = pixel < height * width
    return near[inside], pixel[inside]


def _integral(image: Tensor, cells: Tensor, near: Tensor, pixel: Tensor) -> Tensor:
    """One crop's noise [C,H·W]."""
    number = torch.bincount(pixel, minlength=image.shape[1])
    total = torch.zeros_like(image).index_add_(1, pixel, cells[:, near])
    return torch.where(number > 0, total / number.clamp(min=1).sqrt().to(total), image)
