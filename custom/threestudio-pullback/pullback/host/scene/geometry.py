"""A density field as renderer and exporter see it: density, features for colours, normals, a surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError, UserError, check_at_least
from ...render.field import DENSITIES, Field
from ..base import BaseModule
from ..config import config_path
from ..registry import warn
from .mesh import Mesh, isosurface
from .networks import get_activation

NORMAL_TYPES = ("analytic", "finite_difference", "finite_difference_laplacian", "pred")
BLOBS = ("blob", "blob_magic3d", "blob_dreamfusion")


class BaseGeometry(BaseModule):
    """Anything that a renderer can draw."""

    role = "geometry"

    def fused(self) -> Field | str:
        """What the fused kernels need to know of this geometry, or why they cannot render it."""
        return "the fused kernels have no such geometry"

    def export(self, points: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """Features at surface points [..., 3], for the material's `export`."""
        return {}


class DensityField(BaseGeometry):
    """A density and features at every point of the cube [-radius, radius]³.

    A subclass gives `raw`; density = activation(raw density + bias). The bias is a number or a blob round the
    origin, scale·(1 − |x|/std) (Lin et al. 2023, "blob" and "blob_magic3d") or
    scale·exp(−|x|²/2std²) (Poole et al. 2022, "blob_dreamfusion").
    """

    @dataclass
    class Config(BaseGeometry.Config):
        radius: float = 1.0

        n_feature_dims: int = 3
        density_activation: str | None = "softplus"
        density_bias: Any = "blob_magic3d"  # a number or one of BLOBS
        density_blob_scale: float = 10.0
        density_blob_std: float = 0.5
        normal_type: str | None = "finite_difference"  # one of NORMAL_TYPES, or null: no normals
        finite_difference_normal_eps: float = 0.01

        isosurface: bool = True
        isosurface_method: str = "mt"  # "mt" or "mc-cpu": marching cubes, both of them
        isosurface_resolution: int = 128
        isosurface_threshold: Any = 25.0  # a density, or "auto": where the light from outside fades
        isosurface_chunk: int = 0  # points at a time; 0: 32768
        isosurface_coarse_to_fine: bool = True  # once more, in the box the first surface fills
        isosurface_deformable_grid: bool = False  # no use to a density
        isosurface_remove_outliers: bool = True
        isosurface_outlier_n_faces_threshold: Any = 0.01  # a count, or a fraction of the largest part's

        def __post_init__(self) -> None:
            for name in ("radius", "density_blob_std", "finite_difference_normal_eps"):
                if not getattr(self, name) > 0:
                    raise ConfigError(name, f"must be above 0, not {getattr(self, name)}")
            bias, threshold = self.density_bias, self.isosurface_threshold
            if self.normal_type not in (None, *NORMAL_TYPES):
                names = ", ".join(NORMAL_TYPES)
                raise ConfigError("normal_type", f"must be null or one of {names}, not {self.normal_type}")
            if not _is_number(bias) and bias not in BLOBS:
                raise ConfigError("density_bias", f"must be a number or one of {', '.join(BLOBS)}, not {bias}")
            if not _is_number(threshold) and threshold != "auto":
                raise ConfigError("isosurface_threshold", f"must be a number or 'auto', not {threshold}")
            if self.isosurface_method not in ("mt", "mc-cpu"):
                raise ConfigError("isosurface_method", f"must be 'mt' or 'mc-cpu', not {self.isosurface_method}")
            check_at_least(self, 2, "isosurface_resolution")
            check_at_least(self, 0, "n_feature_dims", "isosurface_chunk")

    bbox: Tensor

    def configure(self) -> None:
        """Makes the box [2, 3] and the activation."""
        r = self.cfg.radius
        self.register_buffer("bbox", torch.tensor([[-r] * 3, [r] * 3]))
        self.density_activation = get_activation(
            self.cfg.density_activation, config_path(self.cfg, "density_activation")
        )
        self.density_blob_std: float = self.cfg.density_blob_std
        if self.cfg.isosurface_deformable_grid:
            warn("`%s` has no effect on a density field", config_path(self.cfg, "isosurface_deformable_grid"))

    def raw(self, points: Tensor, features: bool, normal: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Override: the values at points [N, 3] in [0, 1].

        Returns:
            Density before the activation [N, 1]; features [N, n_feature_dims] and normals [N, 3], or None where
            the argument is false.
        """
        raise NotImplementedError

    def forward(self, points: Tensor, output_normal: bool = False) -> dict[str, Tensor]:
        """Density and features at points.

        Args:
            points: [..., 3], world units.
            output_normal: also the outward unit normals.

        Returns:
            density [..., 1] ≥ 0, features [..., n_feature_dims] if there are any, normal and shading_normal
            [..., 3].

        Raises:
            UserError: normals are needed, and `normal_type` is null.
        """
        kind = self.cfg.normal_type if output_normal else None
        if output_normal and kind is None:
            path = config_path(self.cfg, "normal_type")
            raise UserError(f"`{path}` is null, but the material or the renderer needs normals; try {path}=analytic")
        differentiate = torch.is_grad_enabled()
        with torch.set_grad_enabled(differentiate or kind == "analytic"):
            if kind == "analytic" and not points.requires_grad:
                points = points.detach().requires_grad_(True)
            density, features, predicted = self._evaluate(points, True, kind == "pred")
            out = {"density": density}
            if features is not None:
                out["features"] = features
            if kind == "analytic":
                (slope,) = torch.autograd.grad(density.sum(), points, create_graph=differentiate)
                normal = -slope
            elif kind == "pred" and predicted is not None:
                normal = predicted
            elif kind is not None:
                normal = self._finite_difference(points, density)
        if kind is not None:
            out["normal"] = out["shading_normal"] = F.normalize(normal, dim=-1)
        return out if differentiate else {k: v.detach() for k, v in out.items()}

    def forward_density(self, points: Tensor) -> Tensor:
        """Density [..., 1] at points [..., 3]."""
        return self._evaluate(points, False, False)[0]

    def export(self, points: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """The features [..., n_feature_dims] at points [..., 3], if there are any."""
        features = self._evaluate(points, True, False)[1]
        return {} if features is None else {"features": features}

    def _evaluate(self, points: Tensor, features: bool, normal: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        flat = points.reshape(-1, 3)
        unit = (flat - self.bbox[0]) / (self.bbox[1] - self.bbox[0])
        raw, more, predicted = self.raw(unit, features and self.cfg.n_feature_dims > 0, normal)
        density = self.density_activation(raw + self._bias(flat))
        shape = points.shape[:-1]
        return (
            density.view(*shape, 1),
            None if more is None else more.view(*shape, more.shape[-1]),
            None if predicted is None else predicted.view(*shape, 3),
        )

    def _bias(self, points: Tensor) -> Tensor | float:
        kind, scale, std = self.cfg.density_bias, self.cfg.density_blob_scale, self.density_blob_std
        if _is_number(kind):
            return float(kind)
        if kind == "blob_dreamfusion":
            return scale * torch.exp(-0.5 * points.square().sum(-1, keepdim=True) / std**2)
        return scale * (1 - points.norm(dim=-1, keepdim=True) / std)

    def fused(self) -> Field | str:
        """See `BaseGeometry.fused`; a subclass gives `_kernel`."""
        cfg, r = self.cfg, self.cfg.radius
        activation = str(cfg.density_activation).lower()
        if cfg.n_feature_dims != 3:
            return f"the fused kernels have 3 features, not {cfg.n_feature_dims}"
        if activation not in DENSITIES:
            return f"the fused kernels have no density activation {activation}"
        kernel, box = self._kernel(), ((-r, -r, -r), (r, r, r))
        if isinstance(kernel, str):
            return kernel
        if _is_number(cfg.density_bias):
            return Field(*kernel, activation, float(cfg.density_bias), box=box)
        blob = 2 if cfg.density_bias == "blob_dreamfusion" else 1
        return Field(*kernel, activation, 0.0, blob, cfg.density_blob_scale, self.density_blob_std, box)

    def _kernel(self) -> tuple[str, list[Tensor], list[float]] | str:
        """Override: name, tensors and settings of the fused kernels, or why there are none."""
        return "the fused kernels have no such geometry"

    def _finite_difference(self, points: Tensor, density: Tensor) -> Tensor:
        eps, r = self.cfg.finite_difference_normal_eps, self.cfg.radius
        steps = eps * torch.eye(3, dtype=points.dtype, device=points.device)
        ahead = self.forward_density((points[..., None, :] + steps).clamp(-r, r))[..., 0]
        if self.cfg.normal_type == "finite_difference_laplacian":
            behind = self.forward_density((points[..., None, :] - steps).clamp(-r, r))[..., 0]
            return 0.5 * (behind - ahead) / eps
        return (density - ahead) / eps

    def isosurface(self) -> Mesh:
        """The surface at the threshold, by marching cubes; see `mesh.isosurface`."""
        return isosurface(self.forward_density, self.cfg, self.bbox)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
