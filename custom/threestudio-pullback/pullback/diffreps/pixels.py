"""The identity: parameters that are the images themselves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError


class Pixels(nn.Module):
    """f(θ) = θ, starting at 0 (mid-grey).

    Args:
        shape: C, H, W of one image that every view shows, or V, C, H, W of one image per view.

    Raises:
        UserError: There is another number of sizes, or one is below 1.
    """

    def __init__(self, *shape: int):
        super().__init__()
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise UserError(f"Pixels takes positive sizes C,H,W or V,C,H,W, not {shape}")
        self.values = nn.Parameter(torch.zeros(shape))

    def render(self, views: Any) -> Tensor:
        """Images [V,C,H,W]: views are indices [V] of the images; for a single image only their number counts."""
        if self.values.ndim == 3:
            return self.values.expand(len(views), *self.values.shape)
        return self.values[torch.as_tensor(views, device=self.values.device)]
