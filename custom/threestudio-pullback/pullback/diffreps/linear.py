"""A linear map, for which the pulled-back flow has closed forms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError


class Linear(nn.Module):
    """f(θ, π_i) = A_i θ, θ [n] starting at 0.

    Args:
        matrix: A with the image's axes first: [d,n] (shown as an image [1,1,d]), [C,H,W,n], or one map per view
            [V,C,H,W,n].

    Raises:
        UserError: The matrix has another number of axes.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor):
        super().__init__()
        if matrix.ndim not in (2, 4, 5):
            raise UserError(f"Linear takes a matrix [d,n], [C,H,W,n] or [V,C,H,W,n], not {list(matrix.shape)}")
        if matrix.ndim == 2:
            matrix = matrix[None, None]
        self.register_buffer("matrix", matrix.detach().clone())
        self.theta = nn.Parameter(matrix.new_zeros(matrix.shape[-1]))

    def render(self, views: Any) -> Tensor:
        """Images [V,C,H,W]: views are indices [V] of the maps; for a single map only their number counts."""
        if self.matrix.ndim == 4:
            image = self.matrix @ self.theta
            return image.expand(len(views), *image.shape)
        return self.matrix[torch.as_tensor(views, device=self.matrix.device)] @ self.theta
