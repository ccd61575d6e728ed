"""One model's calls shared out over processes, each on its own device; every process gets all answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from .. import processes
from ..denoiser import Sigma
from ..errors import UserError
from .joint import group_of
from .protocol import LatentModel, Prompts


class Sharded:
    """A model that computes this process's part of the views, and gathers the others' parts.

    All processes of torch.distributed's default group make the same calls in the same order: a sampler with the same
    seed in each of them does. Noise and draws do not depend on the number of processes then, nor does the sample, up to
    what rounding depends on the number of views in a call. With guidance a call has two halves, each of which is whole
    on one of two processes. A model of several views keeps its groups together.

    Args:
        model: From `models.load`, on this process's device.

    Attributes:
        views: Views of `predict_x0` that this process has computed.

    Raises:
        UserError: torch.distributed has no default group.
    """

    def __init__(self, model: LatentModel):
        if not dist.is_initialized():
            raise UserError(
                "a sharded model needs torch.distributed; call torch.distributed.init_process_group, and start the "
                "program by torchrun"
            )
        self.model, self.views = model, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def predict_x0(self, noisy: Tensor, sigma: Sigma, text: Prompts) -> Tensor:
        """x̂0 [V,c,h,w] of all views; see `LatentModel`."""
        text_of: Any = text

        def part(rows: slice) -> Tensor:
            self.views += rows.stop - rows.start
            level = sigma[rows] if isinstance(sigma, Tensor) else sigma
            return self.model.predict_x0(noisy[rows], level, text_of[rows])

        return self._gathered(len(noisy), group_of(self.model), noisy.shape[1:], part).to(noisy)

    def encode(self, images: Tensor) -> Tensor:
        """Latents [V,c,h,w] of all images, differentiable; see `LatentModel`."""
        if len(images) < processes.count() or not processes.shared():
            return self._encode_each(images)
        return processes.of_rows(self._encode_each, images)

    def _encode_each(self, images: Tensor) -> Tensor:
        """Latents of images, one by one: in a batch their rounding depends on how many there are."""
        return torch.cat([self.model.encode(image) for image in images.split(1)])

    def decode(self, latents: Tensor, chunk: int | None = None) -> Tensor:
        """Images [V,3,H,W] of all latents; see `LatentModel`."""
        size = latents.shape[-2] * self.model.vae_scale_factor, latents.shape[-1] * self.model.vae_scale_factor
        part = lambda rows: self.model.decode(latents[rows], chunk)  # noqa: E731
        return self._gathered(len(latents), 1, (3, *size), part).to(latents)

    def _gathered(self, count: int, group: int, shape: Any, part: Callable[[slice], Tensor]) -> Tensor:
        """All rows, of which this process computes its part of whole groups."""
        rows = processes.own(count, group)
        mine = torch.zeros(rows.stop - rows.start, *shape, device=self.model.device)
        if len(mine):
            mine.copy_(part(rows))
        return processes.gathered(mine, count, group)
