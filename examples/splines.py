"""A drawing of smooth strokes: a representation of one's own in one file. See docs/extending.md."""

from __future__ import annotations

from typing import Any

import torch
from pullback.diffreps import pixel_centres
from pullback.errors import UserError
from torch import Tensor, nn


class Splines(nn.Module):
    """f(θ) = `strokes` cubic Bézier curves in pen colours on white paper, one over the other.

    height, width: of the one drawing that every view shows, [−1, 1]² with y down. Each stroke has four control points,
    a half-width and a colour; `samples` points stand for a curve, and edges are about a pixel soft, so that a gradient
    reaches across them. Starts as thin grey strokes from torch's global generator. Raises UserError for sizes below 1.
    """

    places: Tensor
    basis: Tensor

    def __init__(self, strokes: int, height: int, width: int, samples: int = 24):
        super().__init__()
        if min(strokes, height, width, samples) < 1:
            raise UserError(f"Splines take sizes of at least 1, not {strokes}, {height}, {width} and {samples}")
        t = torch.linspace(0, 1, samples)
        bernstein = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]
        self.register_buffer("basis", torch.stack(bernstein, 1), persistent=False)
        self.register_buffer("places", pixel_centres(height, width).view(-1, 1, 1, 2), persistent=False)
        self.size, self.soft = (height, width), 2 / min(height, width)
        middles = 1.4 * torch.rand(strokes, 1, 2) - 0.7
        self.points = nn.Parameter(middles + 0.3 * torch.randn(strokes, 4, 2))  # [N,4,2]
        self.widths = nn.Parameter(torch.full((strokes,), -2.0))  # logarithms of half-widths
        self.colours = nn.Parameter(torch.zeros(strokes, 3))  # before tanh

    def render(self, views: Any) -> Tensor:
        """[V,3,H,W] in [−1, 1] for V views, of which only the number counts."""
        curves = torch.einsum("sk,nkc->nsc", self.basis, self.points)
        distance = ((self.places - curves).square().sum(-1) + 1e-6).sqrt().amin(-1)  # [P,N]
        cover = torch.sigmoid((self.widths.exp() - distance) / self.soft * 2)
        picture = self.places.new_ones(len(cover), 3)
        for ink, colour in zip(cover.T, self.colours.tanh(), strict=True):
            picture = picture + ink[:, None] * (colour - picture)
        image = picture.T.view(3, *self.size)
        return image.expand(len(views), *image.shape)
