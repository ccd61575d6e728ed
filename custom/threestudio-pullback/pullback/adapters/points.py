"""`point-set` and `point-renderer`: coloured discs as geometry, and what draws them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pullback.diffreps import PointSet
from pullback.diffreps.point_set import TILE
from pullback.errors import ConfigError, UserError, check_at_least
from pullback.output import whole
from pullback.output.arrays import to_bytes
from torch import Tensor

from ._framework import BaseGeometry, Renderer, info, register


@register("point-set")
class PointSetGeometry(BaseGeometry):
    """The discs of `PointSet`, which start as a grey cloud in a ball."""

    @dataclass
    class Config(BaseGeometry.Config):
        points: int = 2048
        radius: float = 0.75  # of the ball that the cloud fills at first

        def __post_init__(self) -> None:
            check_at_least(self, 1, "points")
            if not 0 < self.radius < 1e6:
                raise ConfigError("radius", f"must be above 0 and at most 1e6, not {self.radius}")

    cfg: Config

    def configure(self) -> None:
        """Makes the cloud."""
        super().configure()
        self.discs = PointSet(self.cfg.points, radius=self.cfg.radius)

    @torch.no_grad()
    def save_whole(self, folder: str | Path, about: Mapping[str, Any] | None = None) -> None:
        """Writes the discs' centres, with colours and opacities, as points.ply."""
        import trimesh

        discs = self.discs
        colours = torch.cat([(discs.colours.tanh() + 1) / 2, discs.opacities[:, None]], 1)
        rgba: Any = to_bytes(colours.cpu().numpy(), (0, 1))
        cloud = trimesh.PointCloud(discs.positions.cpu().numpy(), rgba)
        path = Path(folder) / "points.ply"
        path.parent.mkdir(parents=True, exist_ok=True)
        content: Any = cloud.export(file_type="ply")
        whole.write(path, content)
        info(f"The {len(rgba)} points are in {path}")


@register("point-renderer")
class PointRenderer(Renderer):
    """Composites the discs of a `point-set` before the background, in the order of their distances from the camera."""

    @dataclass
    class Config(Renderer.Config):
        eval_chunk_size: int = 2**23  # pairs of a ray and a disc at a time where there is no gradient

        def __post_init__(self) -> None:
            check_at_least(self, 1, "eval_chunk_size")

    cfg: Config

    def configure(self, geometry: Any, material: Any, background: Any) -> None:
        """Keeps the parts.

        Raises:
            UserError: The geometry is no `point-set`.
        """
        super().configure(geometry, material, background)
        if not isinstance(geometry, PointSetGeometry):
            raise UserError(
                "`system.renderer_type` is point-renderer, which draws point sets only; set "
                "system.geometry_type=point-set, or choose another renderer"
            )

    def forward(self, rays_o: Tensor, rays_d: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """Renders rays.

        Args:
            rays_o: Origins [B,H,W,3], one for all rays of an image.
            rays_d: Unit directions [B,H,W,3].
            **kwargs: Other keys of the batch, which have no effect.

        Returns:
            comp_rgb, comp_rgb_fg and comp_rgb_bg [B,H,W,3], opacity and depth [B,H,W,1].

        Raises:
            UserError: The rays of an image start in several places, as those of a flat picture do.
        """
        differentiated = torch.is_grad_enabled()
        if not differentiated and not bool((rays_o == rays_o[:, :1, :1]).all()):
            raise UserError("point-renderer needs cameras with one centre; `data_type` draws parallel rays")
        pairs = rays_d.shape[2] * len(rays_o) * self.geometry.cfg.points
        rows = rays_d.shape[1] if differentiated else TILE * max(1, self.cfg.eval_chunk_size // (TILE * pairs))
        parts = [self.geometry.discs.seen(rays_o[:, 0, 0], rays) for rays in rays_d.split(rows, 1)]
        light, opacity, depth = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        seen, behind = (light + opacity) / 2, self.background(dirs=rays_d)
        return {
            "comp_rgb": seen + (1 - opacity) * behind, "comp_rgb_fg": seen, "comp_rgb_bg": behind,
            "opacity": opacity, "depth": depth / opacity.clamp(min=1e-5),
        }  # fmt: skip
