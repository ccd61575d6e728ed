"""`tetrahedra-sdf-grid`: a signed distance at the vertices of a grid of tetrahedra, and features by a hash grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError, NonFiniteError, UserError, check_at_least
from ..config import config_path
from ..registry import register
from . import tetrahedra
from .encoding import get_encoding, hash_grid
from .geometry import BaseGeometry
from .mesh_parts import Mesh, remove_specks
from .networks import get_mlp, one_hidden_layer
from .sdf import check_solid, solid

MOST_CUBES = 256


@register("tetrahedra-sdf-grid")
class TetrahedraSDFGrid(BaseGeometry):
    """A surface of triangles that moves with the distances (negative inside) and places of a grid's vertices.

    The keys are threestudio's; the grid is made here, for any resolution. It has cubes of six tetrahedra where
    threestudio's files have a lattice of another kind, so that a checkpoint of the one does not fit the other. After
    Shen et al. 2021, "Deep Marching Tetrahedra".
    """

    @dataclass
    class Config(BaseGeometry.Config):
        radius: float = 1.0
        isosurface_resolution: int = 128
        isosurface_deformable_grid: bool = True  # vertices move too, by half a cube at most
        isosurface_remove_outliers: bool = False
        isosurface_outlier_n_faces_threshold: Any = 0.01
        n_input_dims: int = 3
        n_feature_dims: int = 3
        pos_encoding_config: dict = field(default_factory=hash_grid)
        mlp_network_config: dict = field(default_factory=one_hidden_layer)
        shape_init: str | None = None  # sphere or ellipsoid
        shape_init_params: Any = None
        shape_init_mesh_up: str = "+z"
        shape_init_mesh_front: str = "+x"
        force_shape_init: bool = False
        geometry_only: bool = False  # no features
        fix_geometry: bool = False  # distances and places are no parameters

        def __post_init__(self) -> None:
            if not self.radius > 0:
                raise ConfigError("radius", f"must be above 0, not {self.radius}")
            if self.n_input_dims != 3:
                raise ConfigError("n_input_dims", f"must be 3, not {self.n_input_dims}")
            if self.shape_init is not None:
                check_solid(self, "shape_init", "shape_init_params")
            check_at_least(self, 2, "isosurface_resolution")
            if self.isosurface_resolution > MOST_CUBES:
                raise ConfigError(
                    "isosurface_resolution", f"must be at most {MOST_CUBES}, not {self.isosurface_resolution}"
                )
            check_at_least(self, 0, "n_feature_dims")

    bbox: Tensor
    sdf: Tensor
    deformation: Tensor | None

    def configure(self) -> None:
        """Makes the grid, whose distances are 0, and the networks."""
        cfg, r = self.cfg, self.cfg.radius
        self.register_buffer("bbox", torch.tensor([[-r] * 3, [r] * 3]))
        self.register_buffer("isosurface_bbox", self.bbox.clone())
        self.register_buffer("grid", tetrahedra.vertices(cfg.isosurface_resolution), persistent=False)
        self._keep("sdf", torch.zeros(len(self.grid), 1))
        self._keep("deformation", torch.zeros_like(self.grid) if cfg.isosurface_deformable_grid else None)
        if not cfg.geometry_only and cfg.n_feature_dims:
            self.encoding = get_encoding(3, cfg.pos_encoding_config, config_path(cfg, "pos_encoding_config"))
            path = config_path(cfg, "mlp_network_config")
            self.feature_network = get_mlp(
                self.encoding.n_output_dims, cfg.n_feature_dims, cfg.mlp_network_config, path
            )

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

    def forward(self, points: Tensor, output_normal: bool = False) -> dict[str, Tensor]:
        """The features [..., n_feature_dims] at points [..., 3], if there are any. Normals are those of the surface."""
        if not hasattr(self, "encoding"):
            return {}
        encoded = self.encoding((points.reshape(-1, 3) - self.bbox[0]) / (self.bbox[1] - self.bbox[0]))
        return {"features": self.feature_network(encoded).view(*points.shape[:-1], self.cfg.n_feature_dims)}

    def export(self, points: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """See `forward`."""
        return self(points)

    def _in_world(self, unit: Tensor) -> Tensor:
        low, high = self.isosurface_bbox
        return low + unit * (high - low)
