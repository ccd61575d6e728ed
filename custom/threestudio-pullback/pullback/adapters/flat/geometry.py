"""Geometries of `pullback-flat-renderer` made from representations: config and parameters follow the constructor."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import torch
from pullback.diffreps import CoordinateImage, SphereImage
from pullback.errors import check_at_least
from pullback.views import crops
from torch import Tensor

from .._framework import register
from .renderer import FlatGeometry

FIXED = {"channels": 3, "height": 1, "width": 1}
"""Arguments that no config has: a geometry gives one colour for each ray."""


class _FromDiffRep(FlatGeometry):
    """A geometry whose config's fields are the arguments of `diffrep`, but for those in FIXED."""

    diffrep: ClassVar[type]

    def built(self) -> Any:
        """The representation that the config describes."""
        names = inspect.signature(self.diffrep).parameters
        return self.diffrep(**{name: FIXED[name] if name in FIXED else getattr(self.cfg, name) for name in names})


class ImageGeometry(_FromDiffRep):
    """colour = image(x, y), a `CoordinateImage`, whose modules and parameters are the geometry's own."""

    def configure(self) -> None:
        """Builds the image."""
        super().configure()
        image: CoordinateImage = self.built()
        self.render_at = image.render_at
        # checkpoints hold `network…`, not `image.network…`: both modules register what they have in the same places
        for name in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            places = getattr(image, name)
            places.update(getattr(self, name))
            object.__setattr__(self, name, places)

    def forward(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        """Origins and directions [...,3] of rays → colours [...,3], by the origins' x and y."""
        return self.render_at(rays_o[..., :2])


class SphereGeometry(_FromDiffRep):
    """colour = image(direction), a `SphereImage`.

    The config's `equirect_height` is the rows of the whole panorama that a run saves at its end.
    """

    @dataclass
    class Config(FlatGeometry.Config):
        equirect_height: int = 512

        def __post_init__(self) -> None:
            check_at_least(self, 1, "equirect_height")

    cfg: Config

    def configure(self) -> None:
        """Builds the panorama."""
        super().configure()
        self.image: SphereImage = self.built()

    def forward(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        """Origins and directions [...,3] of rays → colours [...,3], by the directions."""
        return self.image.colours(rays_d)

    @torch.no_grad()
    def save_whole(self, folder: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Writes the whole panorama in all its files, with metadata; see panorama_files.save_all."""
        from pullback.output.panorama_files import save_all

        towards = crops.equirectangular(self.cfg.equirect_height, next(self.parameters()))
        equirect = torch.stack([self.image.colours(row) for row in towards]).movedim(-1, 0).cpu()
        save_all(folder, equirect, (about or {}).get("prompt") or "Panorama", about)


def register_flat(name: str, diffrep: type[CoordinateImage] | type[SphereImage], **defaults: Any) -> Any:
    """Registers a representation as the geometry `name`.

    Args:
        name: Its `system.geometry_type` in configs.
        diffrep: The class. Its constructor's arguments are the keys of the config, with their types and defaults;
            `channels`, `height` and `width` are not among them.
        **defaults: Other defaults for some of them.

    Returns:
        The geometry's class.
    """
    base: Any = SphereGeometry if issubclass(diffrep, SphereImage) else ImageGeometry
    types = get_type_hints(diffrep.__init__)
    fields = [
        (key, types[key], defaults.get(key, "???" if argument.default is argument.empty else argument.default))
        for key, argument in inspect.signature(diffrep).parameters.items()
        if key not in FIXED
    ]
    body = {"Config": dataclasses.make_dataclass("Config", fields, bases=(base.Config,)), "diffrep": diffrep}
    return register(name)(type(f"{diffrep.__name__}Geometry", (base,), {"__doc__": diffrep.__doc__, **body}))
