"""Images as functions of place, which can be shown at any resolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError


def check_sizes(who: str, **sizes: int) -> None:
    """Refuses sizes below 1.

    Args:
        who: The owner's name, for the error.
        **sizes: By the names of the constructor's arguments.

    Raises:
        UserError: One of them is below 1.
    """
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{who} needs {name} of at least 1, not {size}")


def pixel_centres(height: int, width: int, at: Tensor | None = None) -> Tensor:
    """(x, y) [H,W,2] of the pixels' centres: x from left to right and y from top to bottom, both in (−1, 1).

    Args:
        height: Rows of pixels.
        width: Columns of pixels.
        at: A tensor whose dtype and device the result takes; torch's defaults without.
    """
    dtype, device = (None, None) if at is None else (at.dtype, at.device)
    rows = (2 * torch.arange(height, dtype=dtype, device=device) + 1) / height - 1
    columns = (2 * torch.arange(width, dtype=dtype, device=device) + 1) / width - 1
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], -1)


class CoordinateImage(nn.Module):
    """f(θ) = colours at the pixels' centres; a subclass has a `network` of places, or gives `render_at`.

    Args:
        channels: Of the one image that every view shows.
        height: Its rows of pixels.
        width: Its columns of pixels.

    Raises:
        UserError: A size is below 1.
    """

    coordinates: Tensor
    network: nn.Module

    def __init__(self, channels: int, height: int, width: int):
        super().__init__()
        check_sizes(type(self).__name__, channels=channels, height=height, width=width)
        self.channels = channels
        self.register_buffer("coordinates", pixel_centres(height, width), persistent=False)

    def render_at(self, coordinates: Tensor) -> Tensor:
        """Colours [...,C], nominally in [−1, 1], at places (x, y) [...,2] in [−1, 1], y down."""
        return self.network(coordinates)

    def image(self, height: int, width: int) -> Tensor:
        """The image [C,height,width] at another resolution."""
        return self.render_at(pixel_centres(height, width, self.coordinates)).movedim(-1, 0)

    def render(self, views: Any) -> Tensor:
        """Images [V,C,H,W] for V views, of which only the number counts."""
        image = self.render_at(self.coordinates).movedim(-1, 0)
        return image.expand(len(views), *image.shape)
