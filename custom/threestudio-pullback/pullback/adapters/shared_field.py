"""The field of a run on several devices: each process renders its part of the rays, and all get all colours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from pullback import processes
from pullback.fitting import trainable
from torch import Tensor

from .rendered_field import RenderedField


class SharedField(RenderedField):
    """A `RenderedField` of which every process holds all parameters and renders some rows of every picture.

    Rays of a step of the fit are shared out as those of pictures are, and their gradients are summed over all
    processes. Random numbers stay the same in all of them: a renderer with a `jitter` of its own gets the numbers that
    it would draw for all rays; any other draws numbers for its part, which depend on the number of processes.
    """

    def seen(self, rays: dict[str, Any]) -> Tensor:
        """Colours [V,h,w,3] in [0, 1] of all rays [V,h,w,3]."""
        views, height, width, _ = rays["rays_o"].shape
        if self.whole or height < processes.count() or not processes.shared():
            return super().seen(rays)
        rows = processes.own(height)
        part = {key: value[:, rows] if _of_rays(value, height, width) else value for key, value in rays.items()}
        with self._draws_of_all(views, height, width, rows):
            mine = super().seen({**part, "height": rows.stop - rows.start})
        mine = mine.to(rays["rays_o"].dtype).transpose(0, 1)
        return processes.of_parameters(mine, height, list(trainable(self).values())).transpose(0, 1)

    @contextlib.contextmanager
    def _draws_of_all(self, views: int, height: int, width: int, rows: slice) -> Iterator[None]:
        """Has the renderer take its part of the jitter of all rays, and the generators go on as if it had all."""
        drawn: list[Tensor] = []

        def jitter(like: Tensor) -> Tensor:
            drawn.append(like.new_empty(views * height * width))
            return torch.rand_like(drawn[-1]).view(views, height, width)[:, rows].reshape(-1)

        with torch.random.fork_rng([like.device] if (like := next(self.parameters())).is_cuda else []):
            if hasattr(self.renderer, "jitter"):
                self.renderer.jitter = jitter
            try:
                yield
            finally:
                vars(self.renderer).pop("jitter", None)
        for whole in drawn:
            torch.rand_like(whole)


def _of_rays(value: Any, height: int, width: int) -> bool:
    """Whether an entry of a batch has a row per ray."""
    return isinstance(value, Tensor) and value.ndim == 4 and value.shape[1:3] == (height, width)
