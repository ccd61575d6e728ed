"""Images as geometries of `pullback-flat-renderer`: sine network, pixels, network of Fourier features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pullback.diffreps.fourier import FourierFeatures
from pullback.diffreps.siren import Siren
from pullback.errors import check_at_least
from torch import Tensor, nn

from .._framework import register
from .renderer import FlatGeometry


@register("pullback-siren-image")
class SirenImage(FlatGeometry):
    """colour = network(x, y), a `Siren`: `layers` sine layers of width `hidden`, omega their ω."""

    @dataclass
    class Config(FlatGeometry.Config):
        hidden: int = 128
        layers: int = 3
        omega: float = 30.0

    cfg: Config

    def configure(self) -> None:
        super().configure()
        self.network = Siren(2, 3, self.cfg.hidden, self.cfg.layers, self.cfg.omega)

    def forward(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        return self.network(rays_o[..., :2])


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
        super().configure()
        self.values = nn.Parameter(torch.zeros(3, self.cfg.height, self.cfg.width))

    def forward(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        place = rays_o[..., :2].reshape(1, 1, -1, 2)
        found = F.grid_sample(self.values[None], place, padding_mode="border", align_corners=False)
        return found[0, :, 0].T.reshape(*rays_o.shape[:-1], 3)


@register("pullback-fourier-image")
class FourierImage(FlatGeometry):
    """colour = network(x, y), `FourierFeatures` with the same arguments."""

    @dataclass
    class Config(FlatGeometry.Config):
        features: int = 64
        bandwidth: float = 4.0
        hidden: int = 128
        layers: int = 2
        seed: int = 0

    cfg: Config

    def configure(self) -> None:
        super().configure()
        cfg = self.cfg
        self.network = FourierFeatures(2, 3, cfg.features, cfg.bandwidth, cfg.hidden, cfg.layers, cfg.seed)

    def forward(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        return self.network(rays_o[..., :2])
