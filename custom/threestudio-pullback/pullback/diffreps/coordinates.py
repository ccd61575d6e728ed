"""Images as functions of place, which can be shown at any resolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError


def pixel_centres(height: int, width: int, at: Tensor | None = None) -> Tensor:
    """(x, y) [H,W,2] of the pixels' centres: x from left to right and y from top to bottom, both in (−1, 1).

    at: a tensor whose dtype and device they take; torch's defaults without.
    """
    kind = {} if at is None else {"dtype": at.dtype, "device": at.device}
    rows = (2 * torch.arange(height, **kind) + 1) / height - 1
    columns = (2 * torch.arange(width, **kind) + 1) / width - 1
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1)


class CoordinateImage(nn.Module):
    """f(θ) = colours at the pixels' centres; a subclass gives `render_at`.

    channels, height, width: of the one image that every view shows. Raises UserError for sizes below 1.
    """

    coordinates: Tensor

    def __init__(self, channels: int, height: int, width: int):
        super().__init__()
        if min(channels, height, width) < 1:
            raise UserError(f"{type(self).__name__} takes sizes of at least 1, not {channels}, {height}, {width}")
        self.channels = channels
        self.register_buffer("coordinates", pixel_centres(height, width), persistent=False)

    def render_at(self, coordinates: Tensor) -> Tensor:
        """Colours [..., C], nominally in [−1, 1], at places (x, y) [..., 2] in [−1, 1], y down."""
        raise NotImplementedError

    def image(self, height: int, width: int) -> Tensor:
        """[C, height, width] at another resolution."""
        return self.render_at(pixel_centres(height, width, self.coordinates)).movedim(-1, 0)

    def render(self, views: Any) -> Tensor:
        """[V,C,H,W] for V views, of which only the number counts."""
        image = self.render_at(self.coordinates).movedim(-1, 0)
        return image.expand(len(views), *image.shape)
