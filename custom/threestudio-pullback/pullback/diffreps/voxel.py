"""A voxel grid of density and colour, volume-rendered from any camera."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..views.cameras import camera_rays


class VoxelField(nn.Module):
    """Density and RGB on a grid over [−1, 1]³, by emission and absorption (Max 1995; Mildenhall et al. 2020).

    Starts as a faint grey fog. The lookup gathers the eight corners, because torch's grid_sample has no forward-mode
    derivative in 3D.

    Args:
        resolution: R, the grid points per axis, at least 2.
        height: Rows of a render.
        width: Columns of a render.
        samples: Points per ray, at the midpoints of equal pieces of its way through the cube.
        fovy: Vertical angle of view in radians.
        background: Grey level behind the field in [−1, 1]; 1 is white.

    Raises:
        UserError: A size is below 1, resolution below 2, or fovy outside (0, π).
    """

    def __init__(
        self,
        resolution: int = 24,
        height: int = 24,
        width: int = 24,
        samples: int = 32,
        fovy: float = 0.7,
        background: float = 1.0,
    ):
        super().__init__()
        if resolution < 2 or min(height, width, samples) < 1 or not 0 < fovy < math.pi:
            raise UserError("VoxelField takes resolution >= 2, other sizes >= 1 and fovy in (0, pi) radians")
        self.resolution, self.height, self.width, self.samples = resolution, height, width, samples
        self.fovy, self.background = fovy, background
        self.density = nn.Parameter(torch.full((resolution**3, 1), -2.0))
        self.colour = nn.Parameter(torch.zeros(resolution**3, 3))

    def render(self, views: Tensor) -> Tensor:
        """Images [V,3,H,W] in [−1, 1] for poses [V,4,4]; see `orbit`."""
        points, pieces = self._points(views)
        return self._composite(self._lookup(points, self.grid), pieces)

    @property
    def grid(self) -> Tensor:
        """Density and colour as they are looked up, before softplus and tanh [R³,4], x slowest."""
        return torch.cat([self.density, self.colour], 1)

    def _points(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Where the rays are sampled [V,H,W,S,3], and how long a piece of each is [V,H,W,1]."""
        return self._along(*self._rays(views))

    def _along(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Points [...,S,3] on rays [...,3], at the midpoints of pieces [...,1]."""
        near, far = self._inside(origins, directions)
        edge = (torch.arange(self.samples, dtype=near.dtype, device=near.device) + 0.5) / self.samples
        along = near + (far - near) * edge  # [...,S]
        return origins[..., None, :] + along[..., None] * directions[..., None, :], (far - near) / self.samples

    def _composite(self, raw: Tensor, pieces: Tensor) -> Tensor:
        """Images [V,3,H,W] from the grid's values at the points [V,H,W,S,4]."""
        colour, through = self._emitted(raw, pieces)
        return (colour + through * self.background).permute(0, 3, 1, 2)

    @staticmethod
    def _emitted(raw: Tensor, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """The field's own light [...,3] and the share of the background's that passes [...,1], along rays."""
        planes = raw.movedim(-1, 0).contiguous()  # PyTorch's tanh and softplus are many times slower with strides
        optical = F.softplus(planes[0]) * 10 * pieces
        before = optical.cumsum(-1) - optical
        weights = (-before).exp() * -torch.expm1(-optical)  # [...,S]
        colour = (weights * torch.tanh(planes[1:])).sum(-1).movedim(0, -1)
        return colour, 1 - weights.sum(-1, keepdim=True)

    def _rays(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and unit directions [V,H,W,3] in the world, row 0 on top."""
        return camera_rays(views.to(self.density), self.fovy, self.height, self.width)

    @staticmethod
    def _inside(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Distances [V,H,W,1] at which each ray enters and leaves the cube; equal where it misses."""
        safe = torch.where(directions.abs() < 1e-9, torch.full_like(directions, 1e-9), directions)
        first, second = (-1 - origins) / safe, (1 - origins) / safe
        near = torch.minimum(first, second).amax(-1, keepdim=True).clamp(min=0)
        far = torch.maximum(first, second).amin(-1, keepdim=True)
        return near, torch.maximum(near, far)

    def _corners(self, points: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For each of a cell's eight corners: rows of the grid [...] and weights [...,1] at points [...,3]."""
        last = self.resolution - 1
        scaled = ((points + 1) / 2 * last).clamp(0, last)
        low = scaled.floor().clamp(max=last - 1)
        part = scaled - low
        low = low.long()
        sides = 1 - part, part
        for corner in itertools.product((0, 1), repeat=3):
            x, y, z = (low[..., axis] + step for axis, step in enumerate(corner))
            a, b, c = (sides[step][..., axis : axis + 1] for axis, step in enumerate(corner))
            yield (x * self.resolution + y) * self.resolution + z, a * b * c

    def _lookup(self, points: Tensor, grid: Tensor) -> Tensor:
        """Trilinear interpolation of grid [R³,K] at points [...,3] in [−1, 1]³ (x slowest): [...,K]."""
        value = grid.new_zeros(())
        for rows, weight in self._corners(points):
            value = value + weight * grid[rows]
        return value
