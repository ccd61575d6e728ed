"""What the geometries that are surfaces of triangles share: the box, and features by a positional encoding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError, check_at_least
from ..config import config_path
from .encoding import get_encoding, hash_grid
from .geometry import BaseGeometry
from .mesh_parts import Mesh
from .networks import get_mlp, one_hidden_layer


@dataclass
class EncodedConfig(BaseGeometry.Config):
    """The keys of a geometry in the cube [-radius, radius]³ with an encoding, one network and a first shape."""

    radius: float = 1.0
    n_input_dims: int = 3
    n_feature_dims: int = 3
    pos_encoding_config: dict = field(default_factory=hash_grid)
    mlp_network_config: dict = field(default_factory=one_hidden_layer)
    shape_init_params: Any = None
    shape_init_mesh_up: str = "+z"
    shape_init_mesh_front: str = "+x"

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise ConfigError("radius", f"must be above 0, not {self.radius}")
        if self.n_input_dims != 3:
            raise ConfigError("n_input_dims", f"must be 3, not {self.n_input_dims}")
        check_at_least(self, 0, "n_feature_dims")


class SurfaceGeometry(BaseGeometry):
    """A surface of triangles in the cube [-radius, radius]³; a subclass gives `surface` and calls `make_features`."""

    @dataclass
    class Config(EncodedConfig):
        pass

    bbox: Tensor

    def configure(self) -> None:
        """Makes the box."""
        r = self.cfg.radius
        self.register_buffer("bbox", torch.tensor([[-r] * 3, [r] * 3]))

    def make_features(self) -> None:
        """Makes the encoding and its network, where n_feature_dims is above 0."""
        cfg = self.cfg
        if cfg.n_feature_dims:
            self.encoding = get_encoding(3, cfg.pos_encoding_config, config_path(cfg, "pos_encoding_config"))
            path = config_path(cfg, "mlp_network_config")
            self.feature_network = get_mlp(
                self.encoding.n_output_dims, cfg.n_feature_dims, cfg.mlp_network_config, path
            )

    def surface(self) -> Mesh:
        """The surface as it is now."""
        raise NotImplementedError

    def isosurface(self) -> Mesh:
        """The surface for an export, without derivatives."""
        raise NotImplementedError

    def forward(self, points: Tensor, output_normal: bool = False) -> dict[str, Tensor]:
        """The features [..., n_feature_dims] at points [..., 3], if there are any. Normals are those of the surface."""
        if not hasattr(self, "encoding"):
            return {}
        encoded = self.encoding((points.reshape(-1, 3) - self.bbox[0]) / (self.bbox[1] - self.bbox[0]))
        return {"features": self.feature_network(encoded).view(*points.shape[:-1], self.cfg.n_feature_dims)}

    def export(self, points: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """See `forward`."""
        return self(points)
