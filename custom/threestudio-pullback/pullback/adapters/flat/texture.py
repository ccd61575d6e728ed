"""`pullback-texture`: the texture of a given mesh, as a geometry of the flat renderer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pullback.diffreps import MeshTexture
from pullback.errors import ConfigError, check_at_least
from pullback.meshes.reading import read
from torch import Tensor

from .._framework import info, register
from .renderer import FlatGeometry


@register("pullback-texture")
class TextureGeometry(FlatGeometry):
    """colour = the texture where a ray meets the mesh, `background` where it does not.

    It tries all triangles for each ray, so it is for meshes of some thousands; `pullback texture` takes larger ones.
    """

    @dataclass
    class Config(FlatGeometry.Config):
        mesh: str = "???"  # a glb, obj or ply; no other file is read
        resolution: int = 128  # texels a side
        radius: float = 0.7  # the mesh is centred, and no point of it lies farther out
        background: float = 1.0  # grey, in [-1, 1]

        def __post_init__(self) -> None:
            check_at_least(self, 1, "resolution")
            if self.radius <= 0:
                raise ConfigError("radius", f"must be above 0, not {self.radius}")
            if self.mesh == "???":
                raise ConfigError("mesh", "is not set; give a glb, obj or ply")

    cfg: Config

    def configure(self) -> None:
        """Reads the mesh; the texture starts grey."""
        super().configure()
        surface = read(Path(self.cfg.mesh), self.cfg.resolution)
        for note in surface.notes:
            info(f"{self.cfg.mesh}: {note}")
        vertices, faces = torch.from_numpy(surface.in_world(self.cfg.radius)), torch.from_numpy(surface.faces)
        coordinates = torch.from_numpy(surface.coordinates[surface.corners])
        self.image = MeshTexture(vertices, faces, coordinates, self.cfg.resolution)

    def forward(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        """Origins and directions [...,3] of rays → colours [...,3], nominally in [−1, 1]."""
        colours, met = self.image.colours(rays_o, rays_d)
        return torch.where(met[..., None], colours, self.cfg.background)
