"""Sine networks of coordinates, an image as one, and many images side by side."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from .coordinates import CoordinateImage, check_sizes, pixel_centres


class Siren(nn.Module):
    """Points [..., inputs] in [−1, 1] → [..., outputs]: sin(ω(Wx + b)) layers, the last one linear.

    Weights start as in Sitzmann et al. 2020, "Implicit Neural Representations with Periodic Activation Functions", from
    torch's global generator; the last bias is 0.

    Args:
        inputs: Coordinates of a point.
        outputs: Values at a point.
        hidden: Width of the sine layers.
        layers: Number of sine layers.
        omega: ω; higher holds finer detail.

    Raises:
        UserError: A size is below 1, or ω not above 0.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 128, layers: int = 3, omega: float = 30.0):
        super().__init__()
        check_sizes(type(self).__name__, inputs=inputs, outputs=outputs, hidden=hidden, layers=layers)
        if not 0 < omega < math.inf:
            raise UserError(f"{type(self).__name__} needs an omega above 0, not {omega}")
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
        """Values [...,outputs] at points [...,inputs]."""
        for layer in self.sines:
            points = torch.sin(self.omega * layer(points))
        return self.last(points)


class SirenImage(CoordinateImage):
    """f(θ) = network(x, y), a `Siren` at the pixels' centres; shown at any resolution by `image`.

    The arguments up to `width` are those of `CoordinateImage`, the others those of `Siren`.
    """

    def __init__(self, channels: int, height: int, width: int, hidden: int = 128, layers: int = 3, omega: float = 30.0):
        super().__init__(channels, height, width)
        self.network = Siren(2, channels, hidden, layers, omega)


class SirenImages(nn.Module):
    """N images, each a `SirenImage` of its own, in one batch: render(views) shows those of indices [V].

    With noise="independent" one sampler run makes N independent samples. The images start with the weights of N
    `SirenImage`s made one after the other; the other arguments are those of `SirenImage`.

    Args:
        count: N.
        rays: Pixels, the same ones for all images, of one step of a first-order fit (see `residual`); None: all.

    Raises:
        UserError: A size is below 1.
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
        sizes = {"count": count, "channels": channels, "height": height, "width": width}
        check_sizes(type(self).__name__, **sizes, rays=1 if rays is None else rays)
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
        if not isinstance(views, slice):
            views = torch.as_tensor(views, device=self.coordinates.device)
        layers = [(w[views], b[views]) for w, b in zip(self.weights, self.biases, strict=True)]
        points = coordinates.expand(len(layers[0][0]), -1, -1)
        for weight, bias in layers[:-1]:
            points = torch.sin(self.omega * torch.baddbmm(bias, points, weight))
        return torch.baddbmm(layers[-1][1], points, layers[-1][0])

    def images(self, height: int, width: int) -> Tensor:
        """All images [N,C,height,width] at another resolution."""
        places = pixel_centres(height, width, self.coordinates).view(-1, 2)
        return self.render_at(places).mT.reshape(len(self.weights[0]), -1, height, width)

    def render(self, views: Any) -> Tensor:
        """Images [V,C,H,W] with the indices `views` [V]."""
        colours = self.render_at(self.coordinates, views).mT
        return colours.reshape(*colours.shape[:2], *self.size)

    def residual(self, views: Any, target: Tensor, generator: torch.Generator) -> Tensor:
        """A random part of render(views) − target.

        Args:
            views: Indices [V].
            target: Images [V,C,H,W].
            generator: Draws the pixels.

        Returns:
            Differences [V,rays,C] at `rays` random pixels, or at all of them.
        """
        target = target.flatten(2).mT
        if self.rays is None:
            return self.render_at(self.coordinates, views) - target
        pick = torch.randint(len(self.coordinates), (self.rays,), generator=generator, device=generator.device)
        pick = pick.to(target.device, non_blocking=True)
        return self.render_at(self.coordinates[pick], views) - target[:, pick]
