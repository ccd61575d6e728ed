"""Sine networks of coordinates, an image as one, and many images side by side."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .coordinates import CoordinateImage, pixel_centres


class Siren(nn.Module):
    """Points [..., inputs] in [−1, 1] → [..., outputs]: sin(ω(Wx + b)) layers, the last one linear.

    hidden: width of the `layers` sine layers. omega: ω; higher holds finer detail. Weights start as in Sitzmann et
    al. 2020, "Implicit Neural Representations with Periodic Activation Functions", from torch's global generator; the
    last bias is 0. Raises UserError for sizes below 1.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 128, layers: int = 3, omega: float = 30.0):
        super().__init__()
        if min(inputs, outputs, hidden, layers) < 1 or not 0 < omega < math.inf:
            raise UserError("A SIREN takes sizes of at least 1 and omega > 0")
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


class SirenImages(nn.Module):
    """N images, each a `SirenImage` of its own, in one batch: render(views) shows those of indices [V].

    count: N. rays: pixels, the same ones for all images, of one step of a first-order fit (see `residual`); all of them
    where None. With noise="independent" one sampler run makes N independent samples. Other arguments as for
    `SirenImage`, whose weights they start with, one image after the other. Raises UserError for sizes below 1.
    """

    coordinates: Tensor

    def __init__(
        self,
        count: int,
        channels: int,
        height: int,
        width: int,
        hidden: int = 128,
        layers: int = 3,
        omega: float = 30.0,
        rays: int | None = None,
    ):
        super().__init__()
        if min(count, channels, height, width, 1 if rays is None else rays) < 1:
            raise UserError("SirenImages takes sizes of at least 1")
        networks = [Siren(2, channels, hidden, layers, omega) for _ in range(count)]
        self.omega, self.rays, self.size = omega, rays, (height, width)
        each = [[*network.sines, network.last] for network in networks]
        self.weights = nn.ParameterList(
            torch.stack([x.weight.detach().T for x in row]) for row in zip(*each, strict=True)
        )
        self.biases = nn.ParameterList(
            torch.stack([x.bias.detach()[None] for x in row]) for row in zip(*each, strict=True)
        )
        self.register_buffer("coordinates", pixel_centres(height, width).view(-1, 2), persistent=False)

    def render_at(self, coordinates: Tensor, views: Any = slice(None)) -> Tensor:
        """Colours [V,P,C] of the images `views` at places [P,2]; see `CoordinateImage.render_at`."""
        views = views if isinstance(views, slice) else torch.as_tensor(views, device=self.coordinates.device)
        layers = [(w[views], b[views]) for w, b in zip(self.weights, self.biases, strict=True)]
        points = coordinates.expand(len(layers[0][0]), -1, -1)
        for weight, bias in layers[:-1]:
            points = torch.sin(self.omega * torch.baddbmm(bias, points, weight))
        return torch.baddbmm(layers[-1][1], points, layers[-1][0])

    def images(self, height: int, width: int) -> Tensor:
        """[N,C,height,width] at another resolution."""
        places = pixel_centres(height, width, self.coordinates).view(-1, 2)
        return self.render_at(places).mT.unflatten(-1, (height, width))

    def render(self, views: Any) -> Tensor:
        """[V,C,H,W] of the images with indices `views`."""
        return self.render_at(self.coordinates, views).mT.unflatten(-1, self.size)

    def residual(self, views: Any, target: Tensor, generator: torch.Generator) -> Tensor:
        """render(views) − target at `rays` random pixels, [V,rays,C]."""
        target = target.flatten(2).mT
        if self.rays is None:
            return self.render_at(self.coordinates, views) - target
        pick = torch.randint(len(self.coordinates), (self.rays,), generator=generator, device=generator.device)
        pick = pick.to(target.device)
        return self.render_at(self.coordinates[pick], views) - target[:, pick]
