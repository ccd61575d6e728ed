"""`nvdiff-rasterizer`: pictures of a surface of triangles, by this package's rasteriser in place of nvdiffrast's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError, UserError, check_at_least
from ...render.rasterise import antialias, interpolate, rasterise
from ..config import config_path
from ..registry import register
from .mesh_parts import Mesh
from .renderer import Renderer


@register("nvdiff-rasterizer")
class Rasterizer(Renderer):
    """The surface before the background, its silhouettes smoothed, which is how they move.

    The keys are threestudio's, but for `samples`. Smoothing finds a silhouette where the triangle beside it is seen at
    the centre of a pixel; triangles that are smaller than a pixel need several samples. Whole pictures are drawn, and
    no single rays.
    """

    @dataclass
    class Config(Renderer.Config):
        context_type: str = "gl"  # nvdiffrast's; no use here
        samples: int = 1  # of a pixel along each side

        def __post_init__(self) -> None:
            if self.context_type not in ("gl", "cuda"):
                raise ConfigError("context_type", f"must be 'gl' or 'cuda', not '{self.context_type}'")
            check_at_least(self, 1, "samples")

    def configure(self, geometry: Any, material: Any, background: Any) -> None:
        """Takes the scene; raises UserError where the geometry has no surface of triangles."""
        super().configure(geometry, material, background)
        if not hasattr(geometry, "surface"):
            raise UserError(
                "`system.renderer_type` is nvdiff-rasterizer, which needs a surface of triangles; set "
                "system.geometry_type to tetrahedra-sdf-grid or custom-mesh, or choose another renderer"
            )

    def forward(
        self, mvp_mtx: Tensor, camera_positions: Tensor, light_positions: Tensor, height: int, width: int,
        rays_d: Tensor, **kwargs: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Renders pictures.

        Args:
            mvp_mtx: [B, 4, 4], from the world to clip space, y pointing down.
            camera_positions: [B, 3].
            light_positions: [B, 3].
            height: Rows.
            width: Columns.
            rays_d: [B, H, W, 3], where the background is looked up.
            **kwargs: Other keys of the batch, which have no effect.

        Returns:
            comp_rgb, comp_rgb_fg and comp_rgb_bg [B, H, W, 3], opacity and depth, which is along the ray, [B, H, W, 1];
            comp_normal [B, H, W, 3], (n + 1)/2 · opacity, where there are normals; and mesh.
        """
        mesh: Mesh = self.geometry.surface()
        count, many = len(mvp_mtx), self.cfg.samples
        with torch.autocast(mvp_mtx.device.type, enabled=False):
            pos = F.pad(mesh.v_pos.float(), (0, 1), value=1.0) @ mvp_mtx.float().mT
            tri = mesh.t_pos_idx.int()
            rast, _ = rasterise(pos, tri, (many * height, many * width), grad_db=False)
            columns = [mesh.v_pos] + ([_normals(mesh)] if self.material.requires_normal or not self.training else [])
            seen = interpolate(torch.cat(columns, -1).float(), rast, tri)[0].to(mesh.v_pos.dtype)
        met = rast[..., 3] > 0
        image, points = met.nonzero()[:, 0], seen[met]
        away = points[:, :3] - camera_positions[image]
        colours = self._colours(points, away, light_positions.expand(count, 3)[image])
        rows = [colours, torch.ones_like(away[:, :1]), away.norm(dim=-1, keepdim=True)]
        rows += [(F.normalize(points[:, 3:], dim=-1) + 1) / 2] if len(columns) > 1 else []
        with torch.autocast(mvp_mtx.device.type, enabled=False):
            sharp = torch.cat([row.to(mesh.v_pos.dtype) for row in rows], -1)
            layers = sharp.new_zeros(*met.shape, sharp.shape[1]).index_put((met,), sharp)
            smooth = antialias(layers.float(), rast, pos, tri).to(mesh.v_pos.dtype)
            smooth = smooth.unflatten(2, (width, many)).unflatten(1, (height, many)).mean((2, 4))
        front, opacity, depth, *normal = smooth.split([row.shape[1] for row in rows], -1)
        behind = self.background(dirs=rays_d)
        out = {
            "comp_rgb": front + (1 - opacity) * behind, "comp_rgb_fg": front, "comp_rgb_bg": behind, "mesh": mesh,
            "opacity": opacity, "depth": depth / opacity.clamp(min=1e-5),
        }  # fmt: skip
        return {**out, "comp_normal": normal[0]} if normal else out

    def _colours(self, seen: Tensor, away: Tensor, lights: Tensor) -> Tensor:
        """Colours [N, C] of points on the surface, with normals beside them [N, 3 or 6]."""
        points, normals = seen[:, :3], seen[:, 3:]
        field = self.geometry(points, output_normal=False)
        if "features" not in field:
            path = config_path(self.geometry.cfg, "n_feature_dims")
            raise UserError(f"`{path}` is 0 or geometry_only is true, but the material makes colours of features")
        if self.material.requires_normal:
            field["shading_normal"] = F.normalize(normals, dim=-1)
        return self.material(viewdirs=F.normalize(away, dim=-1), positions=points, light_positions=lights, **field)


def _normals(mesh: Mesh) -> Tensor:
    """Outward unit normals [N, 3] at the vertices, of the faces weighted by their areas."""
    a, b, c = mesh.v_pos[mesh.t_pos_idx].unbind(1)
    each = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(mesh.v_pos)
    for corner in mesh.t_pos_idx.unbind(1):
        total = total.index_add(0, corner, each)
    return F.normalize(total, dim=-1)
