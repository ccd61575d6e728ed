"""A network of random Fourier features of coordinates, and an image as one."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from ..errors import UserError
from .coordinates import CoordinateImage, check_sizes


class FourierFeatures(nn.Module):
    """Points [..., inputs] in [−1, 1] → [..., outputs]: an MLP with ReLUs of cos(πBx), sin(πBx).

    Source: Tancik et al. 2020, "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional
    Domains". B is fixed and kept in the state beside the weights, which start as torch's do, from its global generator.

    Args:
        inputs: Coordinates of a point.
        outputs: Values at a point.
        features: Rows of B.
        bandwidth: Standard deviation of B's normal numbers, in periods over the interval [−1, 1]; the higher, the finer
            the detail.
        hidden: Width of the hidden layers.
        layers: Number of hidden layers.
        seed: Decides B, and nothing else.

    Raises:
        UserError: A size is below 1, or the bandwidth not above 0.
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
        who = type(self).__name__
        check_sizes(who, inputs=inputs, outputs=outputs, features=features, hidden=hidden, layers=layers)
        if not 0 < bandwidth < math.inf:
            raise UserError(f"{who} needs a bandwidth above 0, not {bandwidth}")
        drawn = torch.randn(features, inputs, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("frequencies", bandwidth * drawn)
        widths = [2 * features, *[hidden] * layers]
        inner = [part for pair in itertools.pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
        self.network = nn.Sequential(*inner, nn.Linear(hidden, outputs))

    def forward(self, points: Tensor) -> Tensor:
        """Values [...,outputs] at points [...,inputs]."""
        phase = math.pi * points @ self.frequencies.T
        return self.network(torch.cat([phase.cos(), phase.sin()], -1))


class FourierImage(CoordinateImage):
    """f(θ) = network(x, y), `FourierFeatures` at the pixels' centres; shown at any resolution by `image`.

    The arguments up to `width` are those of `CoordinateImage`, the others those of `FourierFeatures`.
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
