"""The host's geometry and renderer as the sampler's differentiable representation."""

from __future__ import annotations

import inspect
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
        rays: Rays of one step of the fit, all views together. A rasteriser draws whole pictures in every step.
        epoch: The epoch that the renderer's schedules get.

    Attributes:
        fit_step: Steps of the fit so far, which the renderer's schedules get.
        whole: Whether the renderer draws whole pictures alone.
    """

    def __init__(
        self, renderer: Any, geometry: nn.Module, surroundings: list[nn.Module], rays: int, epoch: int = 0
    ) -> None:
        super().__init__()
        self.renderer, self.geometry, self.rays = renderer, geometry, rays
        self.surroundings = nn.ModuleList(surroundings)
        self.epoch, self.fit_step = epoch, 0
        self.whole = "rays_o" not in inspect.signature(renderer.forward).parameters
        # a renderer of the bundled host need not return what no loss here reads
        self._only: dict[str, Any] = {"per_sample": False} if getattr(renderer, "optional_samples", False) else {}

    def render(self, views: dict[str, Any]) -> Tensor:
        """Whole pictures [V,3,H,W] in [-1,1], as in validation: without jitter and augmentation."""
        count, height, width, _ = views["rays_o"].shape
        size = max(1, PIXELS_PER_RENDER // (height * width))
        with _evaluating(self.renderer, self.geometry, self.surroundings):
            self.renderer.do_update_step(self.epoch, self.fit_step)
            parts = [self.seen(_some(views, slice(i, i + size), count)) for i in range(0, count, size)]
        return torch.cat(parts).movedim(-1, 1) * 2 - 1

    def residual(self, views: dict[str, Any], target: Tensor, generator: torch.Generator) -> Tensor:
        """Render minus target [V,n,1,3] at n random pixels of each view, n = rays / V (at least 1), or [V,H,W,3].

        With gradients the call counts as a step of the fit; without it is a measurement only.
        """
        return next(self.residuals(views, target, generator, 1))

    def residuals(
        self, views: dict[str, Any], target: Tensor, generator: torch.Generator, times: int
    ) -> Iterator[Tensor]:
        """As many residuals as asked for, each at new pixels.

        Rays and target lie in one table, so that a step has one gather; all draws go to the device together.
        """
        if self.whole:
            shift = -1 - target.movedim(1, -1)
            yield from (torch.add(shift, self._colours(views), alpha=2) for _ in range(times))
            return
        count, height, width, _ = views["rays_o"].shape
        n, size = min(max(1, self.rays // count), height * width), height * width
        picks = torch.randint(size, (times, count, n), generator=generator, device=generator.device, dtype=torch.int32)
        picks = (picks + torch.arange(count, dtype=torch.int32, device=picks.device)[:, None] * size).flatten(1)
        picks = picks.to(target.device, non_blocking=True)
        columns = [views["rays_o"], views["rays_d"], -1 - target.movedim(1, -1)]
        fixed = self._fixed_background()
        with torch.no_grad(), _evaluating(self.surroundings):
            columns += [] if fixed is None else [fixed(dirs=views["rays_d"])]
        table = torch.cat(columns, -1).flatten(0, 2)
        for pick in picks:
            origins, directions, shift, *behind = table.index_select(0, pick).view(count, n, 1, -1).split(3, -1)
            rays = {"rays_o": origins, "rays_d": directions, "height": n, "width": 1}
            yield torch.add(shift, self._colours({**views, **rays}, *behind), alpha=2)

    def _fixed_background(self) -> nn.Module | None:
        """The background, if its colours are the same in all steps and the renderer takes colours instead of it."""
        background = getattr(self.renderer, "background", None) if self._only else None
        return None if background is None or any(p.requires_grad for p in background.parameters()) else background

    def _colours(self, rays: dict[str, Any], behind: Tensor | None = None) -> Tensor:
        """Colours of rays in [0, 1], in front of given colours or the background's."""
        step = torch.is_grad_enabled()
        only = self._only if behind is None else {**self._only, "bg_color": behind}
        # the renderer may jitter its samples, but a random light or backdrop would be another f than the target's
        with _evaluating(self.surroundings, *([] if step else [self.renderer, self.geometry])):
            # schedules and the renderer's occupancy grid count steps of the optimiser, of which a level has many
            self.fit_step += step
            self.renderer.do_update_step(self.epoch, self.fit_step)
            seen = self.seen({**rays, **only})
            self.renderer.do_update_step_end(self.epoch, self.fit_step)
        return seen

    def seen(self, rays: dict[str, Any]) -> Tensor:
        """Colours [V,h,w,3] in [0, 1] of rays [V,h,w,3], as the renderer draws them."""
        return self.renderer(**rays)["comp_rgb"]


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
