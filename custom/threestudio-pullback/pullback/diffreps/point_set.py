"""A set of coloured discs, composited from near to far, from any camera."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..views.cameras import camera_rays
from ..views.reading import read_poses
from .coordinates import check_sizes

THICK = -1.0  # the start's optical thickness is softplus of this


class PointSet(nn.Module):
    """Discs that face each ray: where it passes a disc's centre at distance d, α = 1 − exp(−τ exp(−(d/r)⁴)).

    The discs are composited in the order of their distances from the camera (Porter and Duff 1984). The picture is a
    smooth function of their places, colours, thicknesses τ and radii r, except where two of them that overlap change
    their order. All parameters start at 0 and are in units of which 1 is much: of the start's spacing for places,
    factors e for radii. Starts as a faint grey cloud that fills a ball evenly.

    Args:
        points: N, the number of discs.
        height: Rows of a render.
        width: Columns of a render.
        radius: Of the ball that the cloud fills.
        fovy: Vertical angle of view in radians, for views that bring none.
        background: Grey level behind the discs in [−1, 1]; 1 is white.

    Raises:
        UserError: A size is below 1, the radius is not above 0, or fovy lies outside (0, π).
    """

    start: Tensor

    def __init__(
        self, points: int = 1024, height: int = 24, width: int = 24, radius: float = 1.0, fovy: float = 0.7,
        background: float = 1.0,
    ):  # fmt: skip
        super().__init__()
        check_sizes(type(self).__name__, points=points, height=height, width=width)
        if not 0 < radius < math.inf or not 0 < fovy < math.pi:
            raise UserError(f"PointSet needs radius > 0 and fovy in (0, pi) radians, not {radius} and {fovy}")
        self.height, self.width, self.fovy, self.background = height, width, fovy, background
        self.spacing = radius * (4 / 3 * math.pi / points) ** (1 / 3)
        self.register_buffer("start", radius * in_ball(points), persistent=False)
        self.places = nn.Parameter(torch.zeros(points, 3))
        self.colours = nn.Parameter(torch.zeros(points, 3))
        self.thicknesses = nn.Parameter(torch.zeros(points))
        self.sizes = nn.Parameter(torch.zeros(points))

    @property
    def positions(self) -> Tensor:
        """The discs' centres [N,3]."""
        return self.start + self.spacing * self.places

    @property
    def radii(self) -> Tensor:
        """The discs' radii [N], at which τ has fallen by a factor e."""
        return self.spacing * self.sizes.exp()

    @property
    def opacities(self) -> Tensor:
        """α [N] at the discs' centres."""
        return -torch.expm1(-F.softplus(self.thicknesses + THICK))

    def render(self, views: Any) -> Tensor:
        """Images [V,3,H,W] in [−1, 1] for poses [V,4,4] or a camera batch; see `orbit`."""
        poses, fovy = read_poses(views, type(self).__name__, self.fovy)
        origins, directions = camera_rays(poses.to(self.start), fovy.to(self.start), self.height, self.width)
        colour, opacity, _ = self.seen(origins[:, 0, 0], directions.flatten(1, 2))
        pixels = colour + (1 - opacity) * self.background
        return pixels.mT.reshape(len(poses), 3, self.height, self.width)

    def seen(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What rays meet.

        Args:
            origins: [V,3], one for all rays of a camera.
            directions: [V,P,3], unit vectors.

        Returns:
            The discs' own light [V,P,3], the background's share left out, in [−1, 1]; their opacity [V,P,1]; and the
            depth at which they are seen, times the opacity [V,P,1].
        """
        away = self.positions - origins[:, None]  # [V,N,3]
        order = away.detach().square().sum(-1).argsort(-1)
        away = away.gather(1, order[..., None].expand_as(away))
        thick = F.softplus(self.thicknesses + THICK).log()[order][:, None]
        scaled = away / self.radii[order][..., None]
        along = directions @ scaled.mT  # [V,P,N], in radii
        fall = (scaled.square().sum(-1)[:, None] - along.square()).square()
        optical = torch.exp(thick - fall) * (along > 0)
        light = F.pad(torch.exp(-optical.cumsum(-1)), (1, 0), value=1.0)  # that is left behind each disc
        weights = light[..., :-1] - light[..., 1:]
        depth = (weights * along) @ self.radii[order][..., None]
        return weights @ self.colours.tanh()[order], 1 - light[..., -1:], depth


def in_ball(count: int) -> Tensor:
    """Places [count,3] that fill the unit ball evenly: a Kronecker sequence of the plastic number's kin in 3D.

    The sequence is that of Roberts 2018, "The Unreasonable Effectiveness of Quasirandom Sequences".
    """
    share = 1.2207440846057596  # the root of x⁴ = x + 1
    steps = torch.tensor([share**-k for k in (1, 2, 3)], dtype=torch.float64)
    a, b, c = (0.5 + (torch.arange(count, dtype=torch.float64)[:, None] + 1) * steps).frac().unbind(-1)
    height, turn, out = 2 * a - 1, 2 * math.pi * b, c ** (1 / 3)
    level = (1 - height.square()).sqrt()
    places = out[:, None] * torch.stack([level * turn.cos(), level * turn.sin(), height], -1)
    return places.to(torch.get_default_dtype())
