"""Panoramas as geometries of `pullback-flat-renderer`: `pullback-panorama`, `pullback-panorama-grid`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pullback.diffreps import EquirectangularGrid, Panorama, SphereImage
from pullback.errors import check_at_least
from pullback.views import crops
from torch import Tensor

from .._framework import register
from .renderer import FlatGeometry


class SphereGeometry(FlatGeometry):
    """colour = image(direction); a subclass makes the `image`.

    equirect_height: rows of the whole panorama that is saved at the end of a run.
    """

    @dataclass
    class Config(FlatGeometry.Config):
        equirect_height: int = 512

        def __post_init__(self) -> None:
            check_at_least(self, 1, "equirect_height")

    cfg: Config
    image: SphereImage

    def forward(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        return self.image.colours(rays_d)

    @torch.no_grad()
    def save_whole(self, folder: str | Path) -> None:
        """The whole panorama in all its files, see panorama_files.save_all."""
        from pullback.output.panorama_files import save_all

        towards = crops.equirectangular(self.cfg.equirect_height, next(self.parameters()))
        save_all(folder, torch.stack([self.image.colours(row) for row in towards]).movedim(-1, 0).cpu())


@register("pullback-panorama")
class PanoramaGeometry(SphereGeometry):
    """A `Siren` of the direction: `layers` sine layers of width `hidden`, omega their ω."""

    @dataclass
    class Config(SphereGeometry.Config):
        hidden: int = 128
        layers: int = 3
        omega: float = 30.0

    cfg: Config

    def configure(self) -> None:
        super().configure()
        self.image = Panorama(3, 1, 1, self.cfg.hidden, self.cfg.layers, self.cfg.omega)


@register("pullback-panorama-grid")
class PanoramaGridGeometry(SphereGeometry):
    """Pixels resolution × 2 resolution of an equirectangular picture, grey at first, bilinear between their centres."""

    @dataclass
    class Config(SphereGeometry.Config):
        resolution: int = 256

    cfg: Config

    def configure(self) -> None:
        super().configure()
        self.image = EquirectangularGrid(3, 1, 1, self.cfg.resolution)
