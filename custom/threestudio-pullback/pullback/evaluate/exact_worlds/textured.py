"""A linear-Gaussian world that is the texture of a cube, seen by several cameras; see `gauss`."""

from __future__ import annotations

import torch
from torch import Tensor

from ...diffreps import MeshTexture, orbit
from .gauss import D, GaussWorld


def cube(half: float = 0.43) -> tuple[Tensor, Tensor, Tensor]:
    """A cube about the origin.

    Args:
        half: Half of an edge.

    Returns:
        Vertices [24,3], faces [12,3], counter-clockwise from outside, and the texture's coordinates of their corners
        [12,3,2]: each side of the cube has a sixth of the texture for itself, in two rows of three.
    """
    vertices, faces, coordinates = [], [], []
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    for side in range(6):
        axis, sign = side // 2, 1.0 - 2 * (side % 2)
        out = torch.eye(3)[axis] * sign
        right = torch.eye(3)[(axis + 1) % 3] * sign
        up = torch.linalg.cross(out, right)
        corners = square * 2 - 1
        vertices.append(half * (out + corners[:, :1] * right + corners[:, 1:] * up))
        place = (torch.tensor([side % 3, side // 3]) + square) / torch.tensor([3, 2])
        for triangle in ([0, 1, 2], [0, 2, 3]):
            faces.append([4 * side + corner for corner in triangle])
            coordinates.append(place[triangle])
    return torch.cat(vertices), torch.tensor(faces), torch.stack(coordinates)


class TextureWorld(GaussWorld):
    """The grey texture of a cube, as cameras all round see it; each view is a smooth Gaussian image of its own.

    The map A is that of `MeshTexture`; the cameras see all of its texels. x is all views together: N(μ, Σ)
    for each of them, independent of the others, so the law of θ is the product of what every view asks of it. Σ is
    ½ exp(−distance²/2·length²) between pixels and `floor` beside, so that its condition number
    is about 100, as in the other Gaussian worlds; μ ~ N(0, Σ), the same for all views.

    Args:
        name: As on the command line.
        views: Cameras, at equal distances in azimuth, by turns 35° above and below the horizon.
        size: Pixels a side.
        resolution: Texels a side.
        samples: See GaussWorld.
        seed: Of μ.
        floor: Share of the variance that is independent from pixel to pixel.
        length: In pixels.
    """

    def __init__(
        self, name: str, views: int = 4, size: int = 6, resolution: int = 6, samples: int = 4000, seed: int = 0,
        floor: float = 0.15, length: float = 2.0,
    ):  # fmt: skip
        self.texture = MeshTexture(*cube(), resolution, size, size, channels=1, fovy=0.5, background=0.0).to(D)
        self.cameras = orbit(
            torch.tensor([35.0, -35.0], dtype=D).repeat(views)[:views],
            torch.arange(views, dtype=D) * (360 / views) + 30, distance=2.4,
        )  # fmt: skip
        matrix = self.texture.matrix(self.cameras).to_dense()
        at = torch.cartesian_prod(*[torch.arange(size, dtype=D)] * 2)
        each = 0.5 * (torch.exp(-torch.cdist(at, at).square() / (2 * length**2)) + floor * torch.eye(size**2, dtype=D))
        draw = torch.randn(size**2, generator=torch.Generator().manual_seed(seed), dtype=D)
        mean = torch.linalg.cholesky(each) @ draw
        self._set(name, matrix, mean.repeat(views), torch.block_diag(*[each] * views), samples)


def textured() -> TextureWorld:
    """The texture of a cube seen by four cameras, 6 × 6 px each."""
    return TextureWorld("gauss-texture")
