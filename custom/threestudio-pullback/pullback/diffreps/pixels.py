"""The identity: parameters that are the images themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError


class Pixels(nn.Module):
    """f(θ) = θ. Pixels(C,H,W) is one image that every view shows; Pixels(V,C,H,W) one image per view.

    render(views): for a single image the views only count (anything with a length); for one image per view
    they are indices [V] into the first axis. Starts at 0 (mid-grey). Raises UserError for another number of
    sizes.
    """

    def __init__(self, *shape: int):
        super().__init__()
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise UserError(f"Pixels takes positive sizes C,H,W or V,C,H,W, not {shape}")
        self.values = nn.Parameter(torch.zeros(shape))

    def render(self, views: Any) -> Tensor:
        """[V,C,H,W] for V views."""
        if self.values.ndim == 3:
            return self.values.expand(len(views), *self.values.shape)
        return self.values[torch.as_tensor(views, device=self.values.device)]
