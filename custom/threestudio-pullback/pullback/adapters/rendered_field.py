"""The host's geometry and renderer as the sampler's differentiable representation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

PIXELS_PER_RENDER = 2**16  # of whole pictures, which are rendered some views at a time to bound the memory


class RenderedField(nn.Module):
    """θ is the field; views are a camera batch of the host's datamodule (keys rays_o, rays_d, …).

    Args:
        renderer: The host's.
        geometry: The module that holds most of θ.
        surroundings: Material and background.
        rays: Rays of one step of the fit, all views together.
        epoch: The epoch that the renderer's schedules get.

    Attributes:
        fit_step: Steps of the fit so far, which the renderer's schedules get.
    """

    def __init__(
        self, renderer: Any, geometry: nn.Module, surroundings: list[nn.Module], rays: int, epoch: int = 0
    ) -> None:
        super().__init__()
        self.renderer, self.geometry, self.rays = renderer, geometry, rays
        self.surroundings = nn.ModuleList(surroundings)
        self.epoch, self.fit_step = epoch, 0
        # a renderer of the bundled host need not return what no loss here reads
        self._only: dict[str, Any] = {"per_sample": False} if getattr(renderer, "optional_samples", False) else {}

    def render(self, views: dict[str, Any]) -> Tensor:
        """Whole pictures [V,3,H,W] in [-1,1], as in validation: without jitter and augmentation."""
        count, height, width, _ = views["rays_o"].shape
        size = max(1, PIXELS_PER_RENDER // (height * width))
        with _evaluating(self.renderer, self.geometry, self.surroundings):
            self.renderer.do_update_step(self.epoch, self.fit_step)
            parts = [
                self.renderer(**_some(views, slice(i, i + size), count))["comp_rgb"] for i in range(0, count, size)
            ]
        return torch.cat(parts).movedim(-1, 1) * 2 - 1

    def residual(self, views: dict[str, Any], target: Tensor, generator: torch.Generator) -> Tensor:
        """Render minus target [V,n,1,3] at n random pixels of each view, n = rays / V (at least 1).

        With gradients the call counts as a step of the fit; without it is a measurement only.
        """
        step = torch.is_grad_enabled()
        count, height, width, _ = views["rays_o"].shape
        n = min(max(1, self.rays // count), height * width)
        pick = torch.randint(height * width, (count, n, 1), generator=generator, device=generator.device)
        pick = pick.to(target.device)

        def pixels(x: Tensor) -> Tensor:
            return x.reshape(count, height * width, 3).gather(1, pick.expand(-1, -1, 3))[:, :, None]

        rays = {"rays_o": pixels(views["rays_o"]), "rays_d": pixels(views["rays_d"])}
        # the renderer may jitter its samples, but a random light or backdrop would be another f than the target's
        with _evaluating(self.surroundings, *([] if step else [self.renderer, self.geometry])):
            # schedules and the renderer's occupancy grid count steps of the optimiser, of which a level has many
            self.fit_step += step
            self.renderer.do_update_step(self.epoch, self.fit_step)
            out = self.renderer(**{**views, **rays, "height": n, "width": 1}, **self._only)
            self.renderer.do_update_step_end(self.epoch, self.fit_step)
        return out["comp_rgb"] * 2 - 1 - pixels(target.movedim(1, -1))


@contextmanager
def _evaluating(*parts: nn.Module) -> Iterator[None]:
    modes = [(m, m.training) for part in parts for m in part.modules()]
    try:
        for part in parts:
            part.eval()  # the flag alone is not enough: a renderer may have a switch of its own for jitter
        yield
    finally:
        for m, mode in modes:  # outermost first, so that each part ends in its own mode
            if m.training != mode:
                m.train(mode)


def _some(views: dict[str, Any], part: slice, count: int) -> dict[str, Any]:
    """The views of `part`: entries with one row per view are cut, all others (height, width) stay."""
    return {k: v[part] if isinstance(v, Tensor) and v.ndim and len(v) == count else v for k, v in views.items()}
