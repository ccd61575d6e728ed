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
REACH = 2.0  # radii beyond which a disc counts as nothing: exp(−2⁴) is 1e-7
TILE = 4  # rays a side that look for their discs together


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
        colour, opacity, _ = self.seen(origins[:, 0, 0], directions)
        return (colour + (1 - opacity) * self.background).movedim(-1, 1)

    def seen(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What rays meet. A tile of neighbouring rays looks at the discs that one of them may meet, and at no others.

        Args:
            origins: [V,3], one for all rays of a camera.
            directions: [V,H,W,3], unit vectors.

        Returns:
            The discs' own light [V,H,W,3], the background's share left out, in [−1, 1]; their opacity [V,H,W,1]; and
            the depth at which they are seen, times the opacity [V,H,W,1].
        """
        rays = _tiles(directions)  # [V,G,S,3]
        away = self.positions - origins[:, None]  # [V,N,3]
        order = away.detach().square().sum(-1).argsort(-1)
        rows = torch.cat([self.radii[:, None], F.softplus(self.thicknesses + THICK)[:, None], self.colours.tanh()], 1)
        discs = torch.cat([away, rows.expand(len(away), -1, -1)], -1).gather(1, order[..., None].expand(-1, -1, 8))
        some, real = _touched(rays, discs.detach()[..., :3], discs.detach()[..., 3])
        some = some + (torch.arange(len(away), device=some.device) * order.shape[1])[:, None, None]
        discs = discs.flatten(0, 1).index_select(0, some.flatten()).view(*some.shape, 8)  # [V,G,K,8]
        radii, thick, colours = discs[..., 3:4], discs[..., 4:5], discs[..., 5:]
        scaled = discs[..., :3] / radii
        along = rays @ scaled.mT  # [V,G,S,K], in radii
        fall = (scaled.square().sum(-1)[..., None, :] - along.square()).square()
        optical = thick.mT * torch.exp(-fall) * ((along > 0) & real[..., None, :])
        light = F.pad(torch.exp(-optical.cumsum(-1)), (1, 0), value=1.0)  # that is left behind each disc
        weights = light[..., :-1] - light[..., 1:]
        seen = torch.cat([weights @ colours, 1 - light[..., -1:], (weights * along) @ radii], -1)
        seen = _untiled(seen, *directions.shape[1:3])
        return seen[..., :3], seen[..., 3:4], seen[..., 4:]


def _tiles(rays: Tensor) -> Tensor:
    """[V,H,W,C] → [V,G,S,C], squares of at most TILE rays a side."""
    count, height, width = rays.shape[:3]
    side = math.gcd(TILE, height, width)
    squares = rays.reshape(count, height // side, side, width // side, side, -1).transpose(2, 3)
    return squares.reshape(count, -1, side * side, rays.shape[3])


def _untiled(values: Tensor, height: int, width: int) -> Tensor:
    """[V,G,S,C] → [V,H,W,C], what `_tiles` undoes."""
    side = math.gcd(TILE, height, width)
    squares = values.reshape(len(values), height // side, width // side, side, side, -1).transpose(2, 3)
    return squares.reshape(len(values), height, width, -1)


@torch.no_grad()
def _touched(rays: Tensor, away: Tensor, radii: Tensor) -> tuple[Tensor, Tensor]:
    """The discs that a ray of a tile may meet.

    A ray within δ of a tile's axis passes what lies at distance l nearer than the axis does by at most δ l.

    Args:
        rays: [V,G,S,3], unit vectors.
        away: [V,N,3] from the camera.
        radii: [V,N].

    Returns:
        Numbers [V,G,K] of discs in the order given, and which of them are no filling.
    """
    axis = F.normalize(rays.mean(2), dim=-1)  # [V,G,3]
    spread = (rays - axis[..., None, :]).square().sum(-1).amax(-1, keepdim=True).sqrt()  # [V,G,1]
    length = away.square().sum(-1).sqrt()[:, None]
    passing = (length.square() - (axis @ away.mT).square()).clamp(min=0).sqrt()
    met = passing <= REACH * radii[:, None] + spread * length
    count = met.sum(-1, keepdim=True)
    most = max(1, int(count.max()))
    numbers = torch.arange(met.shape[-1], device=met.device)
    slots = torch.where(met, met.cumsum(-1) - 1, most)
    some = torch.zeros(*met.shape[:2], most + 1, dtype=torch.long, device=met.device)
    some.scatter_(-1, slots, numbers.expand_as(slots))
    return some[..., :-1], numbers[:most] < count


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
