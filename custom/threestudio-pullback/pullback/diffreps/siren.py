"""Sine networks of coordinates, and an image as one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..errors import UserError
from .coordinates import CoordinateImage


class Siren(nn.Module):
    """Points [..., inputs] in [−1, 1] → [..., outputs]: sin(ω(Wx + b)) layers, the last one linear.

    hidden: width of the `layers` sine layers. omega: ω; higher holds finer detail. Weights start as in Sitzmann et
    al. 2020, "Implicit Neural Representations with Periodic Activation Functions", from torch's global generator; the
    last bias is 0. Raises UserError for sizes below 1.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 128, layers: int = 3, omega: float = 30.0):
        super().__init__()
        if min(inputs, outputs, hidden, layers) < 1 or not 0 < omega < math.inf:
            raise UserError("A SIREN takes sizes of at least 1 and omega > 0.")
        self.omega = omega
        self.sines = nn.ModuleList(nn.Linear(hidden if i else inputs, hidden) for i in range(layers))
        self.last = nn.Linear(hidden, outputs)
        with torch.no_grad():
            for i, layer in enumerate(self.sines):
                bound = math.sqrt(6 / hidden) / omega if i else 1 / inputs
                nn.init.uniform_(layer.get_parameter("weight"), -bound, bound)
            nn.init.uniform_(self.last.weight, -math.sqrt(6 / hidden) / omega, math.sqrt(6 / hidden) / omega)
            nn.init.zeros_(self.last.bias)

    def forward(self, points: Tensor) -> Tensor:
        for layer in self.sines:
            points = torch.sin(self.omega * layer(points))
        return self.last(points)


class SirenImage(CoordinateImage):
    """f(θ) = network(x, y), a `Siren` at the pixels' centres; shown at any resolution by `image`.

    channels, height, width: as for `CoordinateImage`; hidden, layers, omega: as for `Siren`.
    """

    def __init__(self, channels: int, height: int, width: int, hidden: int = 128, layers: int = 3, omega: float = 30.0):
        super().__init__(channels, height, width)
        self.network = Siren(2, channels, hidden, layers, omega)

    def render_at(self, coordinates: Tensor) -> Tensor:
        return self.network(coordinates)
