"""A network of random Fourier features of coordinates, and an image as one."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from ..errors import UserError
from .coordinates import CoordinateImage


class FourierFeatures(nn.Module):
    """Points [..., inputs] in [−1, 1] → [..., outputs]: an MLP with ReLUs of cos(πBx), sin(πBx).

    features: rows of B, normal numbers with standard deviation `bandwidth`, in periods over the interval [−1, 1]: the
    higher, the finer the detail. B is drawn from `seed` alone, fixed, and kept in the state beside the weights. hidden:
    width of the `layers` hidden layers, which start as torch's do, from its global generator. Source: Tancik et al.
    2020, "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional Domains". Raises UserError
    for sizes below 1.
    """

    frequencies: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        features: int = 64,
        bandwidth: float = 4.0,
        hidden: int = 128,
        layers: int = 2,
        seed: int = 0,
    ):
        super().__init__()
        if min(inputs, outputs, features, hidden, layers) < 1 or not 0 < bandwidth < math.inf:
            raise UserError("Fourier features take sizes of at least 1 and bandwidth > 0")
        drawn = torch.randn(features, inputs, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("frequencies", bandwidth * drawn)
        widths = [2 * features, *[hidden] * layers]
        inner = [part for pair in itertools.pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
        self.network = nn.Sequential(*inner, nn.Linear(hidden, outputs))

    def forward(self, points: Tensor) -> Tensor:
        phase = math.pi * points @ self.frequencies.T
        return self.network(torch.cat([phase.cos(), phase.sin()], -1))


class FourierImage(CoordinateImage):
    """f(θ) = network(x, y), `FourierFeatures` at the pixels' centres; shown at any resolution by `image`.

    channels, height, width: as for `CoordinateImage`; the rest as for `FourierFeatures`.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        features: int = 64,
        bandwidth: float = 4.0,
        hidden: int = 128,
        layers: int = 2,
        seed: int = 0,
    ):
        super().__init__(channels, height, width)
        self.network = FourierFeatures(2, channels, features, bandwidth, hidden, layers, seed)

    def render_at(self, coordinates: Tensor) -> Tensor:
        return self.network(coordinates)
