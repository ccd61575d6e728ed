"""`implicit-sdf`: a signed distance and features from a positional encoding and small networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError, check_at_least
from ..config import config_path
from ..registry import info, register, warn
from .encoding import get_encoding
from .geometry import NORMAL_TYPES, BaseGeometry
from .mesh import Mesh, isosurface
from .networks import get_mlp
from .surface import EncodedConfig

SOLIDS = ("sphere", "ellipsoid")
_STEPS, _POINTS = 1000, 4096  # of the fit to a first shape


def check_solid(cfg: Any, key: str, params: str) -> None:
    """Raises ConfigError where cfg.key is the name of a solid, and cfg.params is not its radius or three semi-axes."""
    kind, value = getattr(cfg, key), getattr(cfg, params)
    if str(kind).startswith("mesh:"):
        raise ConfigError(key, f"is '{kind}', but a mesh to start from needs threestudio; use {' or '.join(SOLIDS)}")
    if kind not in SOLIDS:
        raise ConfigError(key, f"must be {' or '.join(SOLIDS)}, not '{kind}'")
    lengths = list(value) if kind == "ellipsoid" and hasattr(value, "__iter__") else [value]
    if len(lengths) != {"sphere": 1, "ellipsoid": 3}[kind] or not all(
        type(n) in (int, float) and n > 0 for n in lengths
    ):
        what = "a radius" if kind == "sphere" else "three semi-axes"
        raise ConfigError(params, f"must be {what} above 0 for the {kind} of {key}, not {value}")


def solid(kind: str, params: Any, points: Tensor) -> Tensor:
    """The signed distance [..., 1] to a sphere, or |x/size| − 1 of an ellipsoid, negative inside.

    Args:
        kind: One of SOLIDS.
        params: The radius, or three semi-axes.
        points: [..., 3], world units.
    """
    if kind == "sphere":
        return points.norm(dim=-1, keepdim=True) - params
    return (points / torch.tensor(list(params)).to(points)).norm(dim=-1, keepdim=True) - 1


@register("implicit-sdf")
class ImplicitSDF(BaseGeometry):
    """A hash grid with one small network for the signed distance, negative inside, and one for the features.

    The keys are threestudio's. `sdf_bias` is added to the network's value: a number, or the distance to a solid of
    `sdf_bias_params`. `shape_init` fits the network to a solid before a run.
    """

    @dataclass
    class Config(EncodedConfig):
        normal_type: str | None = "finite_difference"  # one of NORMAL_TYPES
        finite_difference_normal_eps: Any = 0.01
        shape_init: str | None = None  # sphere or ellipsoid
        force_shape_init: bool = False
        sdf_bias: Any = 0.0  # a number, sphere or ellipsoid
        sdf_bias_params: Any = None

        isosurface: bool = True
        isosurface_method: str = "mt"  # "mt" or "mc-cpu": marching cubes, both of them
        isosurface_resolution: int = 128
        isosurface_threshold: float = 0.0
        isosurface_chunk: int = 0
        isosurface_coarse_to_fine: bool = True
        isosurface_deformable_grid: bool = False  # no use here
        isosurface_remove_outliers: bool = False
        isosurface_outlier_n_faces_threshold: Any = 0.01

        def __post_init__(self) -> None:
            super().__post_init__()
            eps, bias = self.finite_difference_normal_eps, self.sdf_bias
            if self.normal_type not in NORMAL_TYPES:
                raise ConfigError("normal_type", f"must be one of {', '.join(NORMAL_TYPES)}, not {self.normal_type}")
            if type(eps) not in (int, float) or not eps > 0:
                more = "; a progressive one needs threestudio" if eps == "progressive" else ""
                raise ConfigError("finite_difference_normal_eps", f"must be a number above 0, not {eps}{more}")
            if type(bias) not in (int, float):
                check_solid(self, "sdf_bias", "sdf_bias_params")
            if self.shape_init is not None:
                check_solid(self, "shape_init", "shape_init_params")
            if self.isosurface_method not in ("mt", "mc-cpu"):
                raise ConfigError("isosurface_method", f"must be 'mt' or 'mc-cpu', not {self.isosurface_method}")
            check_at_least(self, 2, "isosurface_resolution")
            check_at_least(self, 0, "isosurface_chunk")

    bbox: Tensor
    sdf_network: nn.Module
    feature_network: nn.Module
    normal_network: nn.Module

    def configure(self) -> None:
        """Builds the encoding and the networks."""
        cfg, r = self.cfg, self.cfg.radius
        self.register_buffer("bbox", torch.tensor([[-r] * 3, [r] * 3]))
        self.encoding = get_encoding(3, cfg.pos_encoding_config, config_path(cfg, "pos_encoding_config"))
        sizes = {"sdf_network": 1, "feature_network": cfg.n_feature_dims, "normal_network": 3}
        for name, size in sizes.items():
            if size and (name != "normal_network" or cfg.normal_type == "pred"):
                path = config_path(cfg, "mlp_network_config")
                setattr(self, name, get_mlp(self.encoding.n_output_dims, size, cfg.mlp_network_config, path))
        if cfg.isosurface_deformable_grid:
            warn("`%s` has no effect here", config_path(cfg, "isosurface_deformable_grid"))

    def initialize_shape(self) -> None:
        """Fits the signed distance to the solid of `shape_init`, where there is one."""
        cfg = self.cfg
        if cfg.shape_init is None or (cfg.weights is not None and not cfg.force_shape_init):
            return
        info(f"Fitting the signed distance to the {cfg.shape_init} of `{config_path(cfg, 'shape_init')}`")
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        with torch.enable_grad():
            for _ in range(_STEPS):
                points = (2 * torch.rand(_POINTS, 3, device=self.bbox.device) - 1) * cfg.radius
                loss = F.mse_loss(self.forward_sdf(points), solid(cfg.shape_init, cfg.shape_init_params, points))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        optimizer.zero_grad()

    def forward(self, points: Tensor, output_normal: bool = False) -> dict[str, Tensor]:
        """Signed distance and features at points.

        Args:
            points: [..., 3], world units.
            output_normal: also the outward unit normals.

        Returns:
            sdf [..., 1]; features [..., n_feature_dims] if there are any; normal, shading_normal and sdf_grad [..., 3].
        """
        kind, differentiate = self.cfg.normal_type if output_normal else None, torch.is_grad_enabled()
        with torch.set_grad_enabled(differentiate or kind == "analytic"):
            if kind == "analytic" and not points.requires_grad:
                points = points.detach().requires_grad_(True)
            encoded = self._encoded(points)
            sdf = self._shifted(points, self.sdf_network(encoded))
            out = {"sdf": sdf}
            if self.cfg.n_feature_dims:
                out["features"] = self._shaped(points, self.feature_network(encoded))
            if kind == "analytic":
                (slope,) = torch.autograd.grad(sdf.sum(), points, create_graph=differentiate)
            elif kind == "pred":
                slope = F.normalize(self._shaped(points, self.normal_network(encoded)), dim=-1)
            elif kind is not None:
                slope = self._slope(points, sdf)
        if kind is not None:
            out["sdf_grad"] = slope
            out["normal"] = out["shading_normal"] = F.normalize(slope, dim=-1)
        return out if differentiate else {k: v.detach() for k, v in out.items()}

    def forward_sdf(self, points: Tensor) -> Tensor:
        """Signed distance [..., 1] at points [..., 3]."""
        return self._shifted(points, self.sdf_network(self._encoded(points)))

    def export(self, points: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """The features [..., n_feature_dims] at points [..., 3], if there are any."""
        if not self.cfg.n_feature_dims:
            return {}
        return {"features": self._shaped(points, self.feature_network(self._encoded(points)))}

    def isosurface(self) -> Mesh:
        """The surface at the threshold, by marching cubes; see `mesh.isosurface`."""
        level = self.cfg.isosurface_threshold
        return isosurface(lambda x: 2 * level - self.forward_sdf(x), self.cfg, self.bbox, "negative signed distance")

    def _slope(self, points: Tensor, sdf: Tensor) -> Tensor:
        eps, r = float(self.cfg.finite_difference_normal_eps), self.cfg.radius
        steps = eps * torch.eye(3, dtype=points.dtype, device=points.device)
        ahead = self.forward_sdf((points[..., None, :] + steps).clamp(-r, r))[..., 0]
        if self.cfg.normal_type == "finite_difference":
            return (ahead - sdf) / eps
        return 0.5 * (ahead - self.forward_sdf((points[..., None, :] - steps).clamp(-r, r))[..., 0]) / eps

    def _encoded(self, points: Tensor) -> Tensor:
        return self.encoding((points.reshape(-1, 3) - self.bbox[0]) / (self.bbox[1] - self.bbox[0]))

    def _shifted(self, points: Tensor, value: Tensor) -> Tensor:
        bias, value = self.cfg.sdf_bias, self._shaped(points, value)
        return value + (solid(bias, self.cfg.sdf_bias_params, points) if isinstance(bias, str) else bias)

    @staticmethod
    def _shaped(points: Tensor, values: Tensor) -> Tensor:
        return values.view(*points.shape[:-1], values.shape[-1])
