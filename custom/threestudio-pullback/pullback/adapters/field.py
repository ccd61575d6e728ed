"""The host's geometry and renderer as the sampler's differentiable representation."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class RenderedField(nn.Module):
    """θ is the field; a "view" is a camera batch of the host's datamodule (see its keys rays_o, rays_d, …).

    parts: renderer first, then whatever else changes between training and evaluation (geometry, material,
    background). rays: rays of one step of the fit, all views together.
    """

    def __init__(self, renderer: Any, parts: list[nn.Module], rays: int) -> None:
        super().__init__()
        self.renderer, self.parts, self.rays = renderer, nn.ModuleList(parts), rays
        self.epoch, self.fit_step = 0, 0

    @contextmanager
    def _evaluating(self):
        # a render is what validation shows: no jitter, no augmentation, in chunks
        were = [(m, m.training) for part in self.parts for m in part.modules()]
        try:
            for m, _ in were:
                m.training = False
            yield
        finally:
            for m, mode in were:
                m.training = mode

    def render(self, views: dict[str, Any]) -> Tensor:
        """Whole pictures [V,3,H,W] in [-1,1]."""
        with self._evaluating():
            return self.renderer(**views)["comp_rgb"].movedim(-1, 1) * 2 - 1

    def residual(self, views: dict[str, Any], target: Tensor, generator: torch.Generator) -> Tensor:
        """Render minus target [V,n,1,3] on n random pixels of each view, n = rays / V (at least 1)."""
        # the renderer's occupancy grid counts steps of the optimiser, of which a level has many
        self.fit_step += 1
        self.renderer.do_update_step(self.epoch, self.fit_step)
        count, height, width, _ = views["rays_o"].shape
        n = min(max(1, self.rays // count), height * width)
        pick = torch.randint(height * width, (count, n, 1), generator=generator, device=generator.device)
        pick = pick.to(target.device)

        def pixels(x: Tensor) -> Tensor:
            return x.reshape(count, height * width, 3).gather(1, pick.expand(-1, -1, 3))[:, :, None]

        rays = {"rays_o": pixels(views["rays_o"]), "rays_d": pixels(views["rays_d"])}
        out = self.renderer(**{**views, **rays, "height": n, "width": 1})
        return out["comp_rgb"] * 2 - 1 - pixels(target.movedim(1, -1))
