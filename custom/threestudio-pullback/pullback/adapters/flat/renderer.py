"""`pullback-flat-renderer`: pictures of what has no volume, looked up once for each ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pullback.errors import UserError, check_at_least
from torch import Tensor

from .._framework import BaseGeometry, Renderer, register


class FlatGeometry(BaseGeometry):
    """A geometry for `pullback-flat-renderer`: a colour for every ray, and no surface behind it.

    A subclass gives `forward`. An image looks at rays_o[..., :2], the pixel's place (x, y) in [−1, 1], y down, of the
    orthographic rays of `pullback-image-datamodule`; a panorama looks at rays_d.
    """

    @dataclass
    class Config(BaseGeometry.Config):
        pass

    cfg: Config

    def forward(self, rays_o: Tensor, rays_d: Tensor) -> Tensor:
        """Origins and unit directions [...,3] of rays → colours [...,3], nominally in [−1, 1]."""
        raise NotImplementedError


@register("pullback-flat-renderer")
class FlatRenderer(Renderer):
    """The colours of a `FlatGeometry`, which hides all of the background; any rays, so any resolution."""

    @dataclass
    class Config(Renderer.Config):
        eval_chunk_size: int = 65536  # rays at a time where no gradient is asked for

        def __post_init__(self) -> None:
            check_at_least(self, 1, "eval_chunk_size")

    cfg: Config

    def configure(self, geometry: Any, material: Any, background: Any) -> None:
        super().configure(geometry, material, background)
        if not isinstance(geometry, FlatGeometry):
            raise UserError(
                "`system.renderer_type` is pullback-flat-renderer, which shows images and panoramas only; choose a "
                "geometry such as pullback-siren-image, or another renderer"
            )

    def forward(self, rays_o: Tensor, rays_d: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """Rays [B,H,W,3] → comp_rgb, comp_rgb_fg, comp_rgb_bg [B,H,W,3], opacity, depth, z_variance [B,H,W,1].

        Colours are (c + 1)/2, not cut off at 0 and 1, so that what a fit overshoots keeps its gradient. opacity and
        depth are 1, z_variance 0. Other keys of the batch are of no use here.
        """
        flat = [rays.reshape(-1, 3) for rays in torch.broadcast_tensors(rays_o, rays_d)]
        size = len(flat[0]) if torch.is_grad_enabled() else self.cfg.eval_chunk_size
        parts = [self.geometry(*rays) for rays in zip(*(rays.split(size) for rays in flat), strict=True)]
        rgb = (torch.cat(parts).view(*rays_d.shape[:-1], 3) + 1) / 2
        one = torch.ones_like(rgb[..., :1])
        return {
            "comp_rgb": rgb, "comp_rgb_fg": rgb, "comp_rgb_bg": self.background(dirs=rays_d),
            "opacity": one, "depth": one, "z_variance": torch.zeros_like(one),
        }  # fmt: skip
