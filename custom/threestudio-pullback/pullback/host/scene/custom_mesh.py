"""`custom-mesh`: a given mesh that stays as it is, and features by a positional encoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import ConfigError, UserError
from ...meshes.shapes import read_shape
from ..config import config_path
from ..registry import info, register
from .mesh_parts import Mesh
from .surface import SurfaceGeometry

WAYS = {sign + name: way * np.eye(3)[i] for sign, way in (("+", 1.0), ("-", -1.0)) for i, name in enumerate("xyz")}
PREFIX = "mesh:"


@register("custom-mesh")
class CustomMesh(SurfaceGeometry):
    """The triangles of a glb, obj or ply; what is learned is their colours.

    The keys are threestudio's, and so is the mesh's place: the mean of the vertices at the origin, the farthest
    coordinate `shape_init_params` away, the file's axis `shape_init_mesh_up` at +z and `shape_init_mesh_front` at +x.
    """

    @dataclass
    class Config(SurfaceGeometry.Config):
        shape_init: str = ""  # mesh:PATH; no other file is read

        def __post_init__(self) -> None:
            super().__post_init__()
            if not str(self.shape_init).startswith(PREFIX):
                raise ConfigError(
                    "shape_init", f"must be {PREFIX}PATH, the path of a glb, obj or ply, not '{self.shape_init}'"
                )
            size = self.shape_init_params
            if type(size) not in (int, float) or not 0 < size <= self.radius:
                raise ConfigError(
                    "shape_init_params", f"must be a number above 0 and at most the radius, {self.radius}, not {size}"
                )
            for key in ("shape_init_mesh_up", "shape_init_mesh_front"):
                if getattr(self, key) not in WAYS:
                    raise ConfigError(key, f"must be one of {', '.join(WAYS)}, not '{getattr(self, key)}'")
            if self.shape_init_mesh_up[1] == self.shape_init_mesh_front[1]:
                raise ConfigError(
                    "shape_init_mesh_front",
                    f"must be another axis than shape_init_mesh_up, {self.shape_init_mesh_up}, not "
                    f"'{self.shape_init_mesh_front}'",
                )

    v_buffer: Tensor
    t_buffer: Tensor

    def configure(self) -> None:
        """Reads the mesh; raises UserError where it cannot be used."""
        super().configure()
        path = self.cfg.shape_init.removeprefix(PREFIX)
        try:
            shape = read_shape(path)
        except UserError as error:
            raise UserError(f"`{config_path(self.cfg, 'shape_init')}`: {error}") from error
        for note in shape.notes:
            info(f"{path}: {note}")
        # corners of one place are one vertex, whatever their texture coordinates, so that the surface is connected
        used, corners = np.unique(shape.faces, return_inverse=True)
        places, vertex = np.unique(shape.vertices[used], axis=0, return_inverse=True)
        faces = vertex.reshape(-1)[corners].reshape(-1, 3)
        places = places - places.mean(0)
        up, front = WAYS[self.cfg.shape_init_mesh_up], WAYS[self.cfg.shape_init_mesh_front]
        turned = places @ np.stack([front, np.cross(up, front), up], 1)
        turned = turned * (self.cfg.shape_init_params / np.abs(turned).max())
        self.register_buffer("v_buffer", torch.from_numpy(turned).to(self.bbox))
        self.register_buffer("t_buffer", torch.from_numpy(faces))
        self.make_features()

    def surface(self) -> Mesh:
        """The mesh, which has no parameters."""
        return Mesh(self.v_buffer, self.t_buffer)

    def isosurface(self) -> Mesh:
        """See `surface`."""
        return self.surface()
