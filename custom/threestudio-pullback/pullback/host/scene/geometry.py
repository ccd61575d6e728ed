"""What a density field is to renderer and exporter: values, colours' features, normals, a surface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError, NonFiniteError, UserError, check_at_least
from ..base import BaseModule
from ..config import config_path
from ..registry import info, warn
from .mesh import Mesh, grid_points, marching_cubes, remove_specks
from .networks import get_activation

NORMAL_TYPES = ("analytic", "finite_difference", "finite_difference_laplacian", "pred")
BLOBS = ("blob", "blob_magic3d", "blob_dreamfusion")


class BaseGeometry(BaseModule):
    """Anything a renderer can be given."""

    def export(self, points: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """Features at surface points [..., 3], for the material's `export`."""
        return {}


class DensityField(BaseGeometry):
    """A density and features at every point of the cube [-radius, radius]³.

    A subclass gives `raw(points)`; density = activation(raw density + bias). The bias is a number or a blob
    round the origin, scale·(1 − |x|/std) (Lin et al. 2023, "blob" and "blob_magic3d") or
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
        isosurface_threshold: Any = 25.0  # a density, or "auto": the mean of all densities above 1e-5
        isosurface_chunk: int = 0  # points at a time; 0: all
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
                known = ", ".join(NORMAL_TYPES)
                raise ConfigError("normal_type", f"must be null or one of {known}, not {self.normal_type}")
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
        r = self.cfg.radius
        self.register_buffer("bbox", torch.tensor([[-r] * 3, [r] * 3]))
        self.density_activation = get_activation(
            self.cfg.density_activation, config_path(self.cfg, "density_activation")
        )
        self.density_blob_std: float = self.cfg.density_blob_std
        if self.cfg.isosurface_deformable_grid:
            warn("`%s` has no effect on a density field", config_path(self.cfg, "isosurface_deformable_grid"))

    def raw(self, points: Tensor, features: bool, normal: bool) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the field holds at points [N, 3], given in [0, 1].

        Pre-activation density [N, 1] and, if asked, features [N, n_feature_dims] and normals [N, 3].
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

    def forward_field(self, points: Tensor) -> tuple[Tensor, None]:
        """The field whose level set is the surface, [..., 1]: the density. A density has no deformation."""
        return self.forward_density(points), None

    def forward_level(self, field: Tensor, threshold: float) -> Tensor:
        """Zero on the surface, negative inside."""
        return threshold - field

    def export(self, points: Tensor, **kwargs: Any) -> dict[str, Tensor]:
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

    def _finite_difference(self, points: Tensor, density: Tensor) -> Tensor:
        eps, r = self.cfg.finite_difference_normal_eps, self.cfg.radius
        steps = eps * torch.eye(3, dtype=points.dtype, device=points.device)
        ahead = self.forward_density((points[..., None, :] + steps).clamp(-r, r))[..., 0]
        if self.cfg.normal_type == "finite_difference_laplacian":
            behind = self.forward_density((points[..., None, :] - steps).clamp(-r, r))[..., 0]
            return 0.5 * (behind - ahead) / eps
        return (density - ahead) / eps

    @torch.no_grad()
    def isosurface(self) -> Mesh:
        """The surface at the threshold, by marching cubes.

        Raises:
            UserError: isosurface is switched off, or nothing, or everything, is denser than the threshold.
            NonFiniteError: the density is not finite somewhere.
        """
        if not self.cfg.isosurface:
            raise UserError(f"`{config_path(self.cfg, 'isosurface')}` is false; a mesh needs it to be true")
        mesh = self._isosurface(self.bbox)
        if self.cfg.isosurface_coarse_to_fine:
            low, high = mesh.v_pos.amin(0), mesh.v_pos.amax(0)
            margin = 0.1 * (high - low)
            mesh = self._isosurface(torch.stack([(low - margin).max(self.bbox[0]), (high + margin).min(self.bbox[1])]))
        return mesh

    def _isosurface(self, bbox: Tensor) -> Mesh:
        points = grid_points(bbox, self.cfg.isosurface_resolution)
        flat = points.reshape(-1, 3)
        chunks = flat.split(self.cfg.isosurface_chunk or len(flat))
        field = torch.cat([self.forward_field(c)[0] for c in chunks]).view(points.shape[:3])
        if not field.isfinite().all():
            raise NonFiniteError("the density is not finite at some points of the surface grid; no mesh can be made")
        threshold = self._threshold(field)
        mesh = marching_cubes(field, threshold, bbox)
        if self.cfg.isosurface_remove_outliers:
            mesh = remove_specks(mesh, self.cfg.isosurface_outlier_n_faces_threshold)
        return mesh

    def _threshold(self, field: Tensor) -> float:
        low, high = float(field.min()), float(field.max())
        path = config_path(self.cfg, "isosurface_threshold")
        if self.cfg.isosurface_threshold == "auto":
            occupied = field[field > 1e-5]
            if not len(occupied) or high == low:
                raise UserError(
                    f"there is no surface to export: the density lies between {low:.3g} and {high:.3g} "
                    "everywhere; train the geometry first, or longer"
                )
            threshold = float(occupied.mean())
            info("isosurface threshold: %.4g", threshold)
            return threshold
        threshold = float(self.cfg.isosurface_threshold)
        if high <= threshold or threshold < low:
            raise UserError(
                f"there is no surface to export at `{path}` = {threshold:g}: the density lies between "
                f"{low:.3g} and {high:.3g}; try {path}={(low + high) / 2:.2g} or {path}=auto"
            )
        return threshold


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
