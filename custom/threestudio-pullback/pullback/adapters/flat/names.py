"""The geometries of images and panoramas, by their names in configs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pullback import diffreps
from pullback.errors import check_at_least
from torch import Tensor, nn

from .._framework import register
from .geometry import register_flat
from .renderer import FlatGeometry

register_flat("pullback-siren-image", diffreps.SirenImage)
register_flat("pullback-fourier-image", diffreps.FourierImage)
register_flat("pullback-panorama", diffreps.Panorama)
register_flat("pullback-panorama-grid", diffreps.EquirectangularGrid, resolution=256)


@register("pullback-pixels")
class Pixels(FlatGeometry):
    """Pixels height × width, grey at first, bilinear between their centres."""

    @dataclass
    class Config(FlatGeometry.Config):
        height: int = 64
        width: int = 64

        def __post_init__(self) -> None:
            check_at_least(self, 1, "height", "width")

    cfg: Config

    def configure(self) -> None:
        """Makes the grey pixels."""
        super().configure()
        self.values = nn.Parameter(torch.zeros(3, self.cfg.height, self.cfg.width))

    def forward(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        """Origins and directions [...,3] of rays → colours [...,3], by the origins' x and y."""
        place = rays_o[..., :2].reshape(1, 1, -1, 2)
        colours = F.grid_sample(self.values[None], place, padding_mode="border", align_corners=False)
        return colours[0, :, 0].T.reshape(*rays_o.shape[:-1], 3)
