"""`tetrahedra-sdf-grid`: a signed distance at the vertices of a grid of tetrahedra, and features by a hash grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError, NonFiniteError, UserError, check_at_least
from ..config import config_path
from ..registry import register
from . import tetrahedra
from .mesh_parts import Mesh, remove_specks
from .sdf import check_solid, solid
from .surface import SurfaceGeometry

MOST_CUBES = 256


@register("tetrahedra-sdf-grid")
class TetrahedraSDFGrid(SurfaceGeometry):
    """A surface of triangles that moves with the distances (negative inside) and places of a grid's vertices.

    The keys are threestudio's; the grid is made here, for any resolution. It has cubes of six tetrahedra where
    threestudio's files have a lattice of another kind, so that a checkpoint of the one does not fit the other. After
    Shen et al. 2021, "Deep Marching Tetrahedra".
    """

    @dataclass
    class Config(SurfaceGeometry.Config):
        isosurface_resolution: int = 128
        isosurface_deformable_grid: bool = True  # vertices move too, by half a cube at most
        isosurface_remove_outliers: bool = False
        isosurface_outlier_n_faces_threshold: Any = 0.01
        shape_init: str | None = None  # sphere or ellipsoid
        force_shape_init: bool = False
        geometry_only: bool = False  # no features
        fix_geometry: bool = False  # distances and places are no parameters

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.shape_init is not None:
                check_solid(self, "shape_init", "shape_init_params")
            check_at_least(self, 2, "isosurface_resolution")
            if self.isosurface_resolution > MOST_CUBES:
                raise ConfigError(
                    "isosurface_resolution", f"must be at most {MOST_CUBES}, not {self.isosurface_resolution}"
                )

    sdf: Tensor
    deformation: Tensor | None

    def configure(self) -> None:
        """Makes the grid, whose distances are 0, and the networks."""
        super().configure()
        cfg = self.cfg
        self.register_buffer("isosurface_bbox", self.bbox.clone())
        self.register_buffer("grid", tetrahedra.vertices(cfg.isosurface_resolution), persistent=False)
        self._keep("sdf", torch.zeros(len(self.grid), 1))
        self._keep("deformation", torch.zeros_like(self.grid) if cfg.isosurface_deformable_grid else None)
        if not cfg.geometry_only:
            self.make_features()

    grid: Tensor
    isosurface_bbox: Tensor

    def _keep(self, name: str, value: Tensor | None) -> None:
        if self.cfg.fix_geometry or value is None:
            self.register_buffer(name, value)
        else:
            self.register_parameter(name, nn.Parameter(value))

    def initialize_shape(self) -> None:
        """Sets the distances to those of the solid of `shape_init`, where there is one."""
        cfg = self.cfg
        if cfg.shape_init is None or (cfg.weights is not None and not cfg.force_shape_init):
            return
        with torch.no_grad():
            self.sdf.copy_(solid(cfg.shape_init, cfg.shape_init_params, self._in_world(self.grid)))

    def surface(self) -> Mesh:
        """The surface as it is now, whose vertices depend on the parameters.

        Raises:
            UserError: There is none, since all distances have one sign.
            NonFiniteError: A distance is not finite.
        """
        places = self.grid
        if self.deformation is not None:
            places = places + self.deformation.tanh() / (2 * self.cfg.isosurface_resolution)
        v_pos, faces = tetrahedra.surface(self.sdf[:, 0], places, self.cfg.isosurface_resolution)
        if len(faces) == 0:
            raise self._no_surface()
        return Mesh(self._in_world(v_pos), faces)

    def _no_surface(self) -> Exception:
        if not bool(self.sdf.isfinite().all()):
            return NonFiniteError("the signed distance of tetrahedra-sdf-grid is not finite, so there is no surface")
        path = config_path(self.cfg, "shape_init")
        where = "inside" if float(self.sdf.detach().max()) < 0 else "outside"
        return UserError(
            f"there is no surface: all vertices of tetrahedra-sdf-grid are {where}; begin with a solid, such as "
            f"{path}=sphere {path}_params=0.5, and lower the learning rate if it vanishes in a run"
        )

    @torch.no_grad()
    def isosurface(self) -> Mesh:
        """The surface for an export; see `surface`. With isosurface_remove_outliers it is without its small parts."""
        mesh, key = self.surface(), "isosurface_outlier_n_faces_threshold"
        if self.cfg.isosurface_remove_outliers:
            mesh = remove_specks(mesh, getattr(self.cfg, key), config_path(self.cfg, key))
        return mesh

    def _in_world(self, unit: Tensor) -> Tensor:
        low, high = self.isosurface_bbox
        return low + unit * (high - low)
