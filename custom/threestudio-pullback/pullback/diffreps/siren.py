"""An image as a sine network of its coordinates."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError


class SirenImage(nn.Module):
    """f(θ) = network(x, y), x, y in [−1, 1] at pixel centres: sin(ω(Wx + b)) layers, the last one linear.

    channels, height, width: of the one image that every view shows. hidden: width of the `layers` sine
    layers. omega: ω; higher holds finer detail. render(views): the views only count. Weights start as in
    Sitzmann et al. 2020, "Implicit Neural Representations with Periodic Activation Functions", from torch's
    global generator. Raises UserError for sizes below 1.
    """

    coordinates: Tensor

    def __init__(self, channels: int, height: int, width: int, hidden: int = 128, layers: int = 3, omega: float = 30.0):
        super().__init__()
        if min(channels, height, width, hidden, layers) < 1 or omega <= 0:
            raise UserError("SirenImage takes sizes of at least 1 and omega > 0.")
        self.shape, self.omega = (channels, height, width), omega
        rows = (2 * torch.arange(height) + 1) / height - 1
        columns = (2 * torch.arange(width) + 1) / width - 1
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        self.register_buffer("coordinates", torch.stack([x, y], -1).view(-1, 2), persistent=False)
        self.sines = nn.ModuleList(nn.Linear(hidden if i else 2, hidden) for i in range(layers))
        self.last = nn.Linear(hidden, channels)
        with torch.no_grad():
            for i, layer in enumerate(self.sines):
                bound = math.sqrt(6 / hidden) / omega if i else 1 / 2
                nn.init.uniform_(layer.get_parameter("weight"), -bound, bound)
            nn.init.uniform_(self.last.weight, -math.sqrt(6 / hidden) / omega, math.sqrt(6 / hidden) / omega)
            nn.init.zeros_(self.last.bias)

    def render(self, views: Any) -> Tensor:
        """[V,C,H,W] for V views."""
        features = self.coordinates
        for layer in self.sines:
            features = torch.sin(self.omega * layer(features))
        image = self.last(features).T.view(self.shape)
        return image.expand(len(views), *self.shape)
