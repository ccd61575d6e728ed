"""`pullback-flat-renderer`: pictures without volume, one lookup for each ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pullback.errors import UserError, check_at_least
from torch import Tensor

from .._framework import BaseGeometry, Renderer, register


class FlatGeometry(BaseGeometry):
    """A geometry for `pullback-flat-renderer`: a colour for every ray, and no surface behind it.

    A subclass defines `forward`. An image reads rays_o[..., :2], the pixel's place (x, y) in [−1, 1], y down, of the
    orthographic rays of `pullback-image-datamodule`; a panorama reads rays_d.
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
    """The colours of a `FlatGeometry` for any rays, at any resolution. They hide all of the background."""

    @dataclass
    class Config(Renderer.Config):
        eval_chunk_size: int = 65536  # rays at a time where there is no gradient

        def __post_init__(self) -> None:
            check_at_least(self, 1, "eval_chunk_size")

    cfg: Config

    def configure(self, geometry: Any, material: Any, background: Any) -> None:
        """Keeps the parts.

        Raises:
            UserError: The geometry is no `FlatGeometry`.
        """
        super().configure(geometry, material, background)
        if not isinstance(geometry, FlatGeometry):
            raise UserError(
                "`system.renderer_type` is pullback-flat-renderer, which shows images and panoramas only; choose a "
                "geometry such as pullback-siren-image, or another renderer"
            )

    def forward(self, rays_o: Tensor, rays_d: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """Renders rays.

        Colours are (c + 1)/2, not cut off at 0 and 1, so that a fit that overshoots keeps its gradient.

        Args:
            rays_o: Origins [B,H,W,3].
            rays_d: Unit directions [B,H,W,3].
            **kwargs: Other keys of the batch, which have no effect.

        Returns:
            comp_rgb, comp_rgb_fg and comp_rgb_bg [B,H,W,3]; opacity and depth, which are 1, and z_variance, which is 0,
            [B,H,W,1].
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
