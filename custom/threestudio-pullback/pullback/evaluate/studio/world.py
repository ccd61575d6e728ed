"""The studio: a small world with exact pictures of every object from every camera.

Six solids in six colours, one-coloured or with a front (x > 0) and a back (x < 0) of different colours,
under one fixed light, before a backdrop that depends on the direction of the ray alone. The shipped model
is trained on it, and NeRFs of that model are compared with it.

Conventions are threestudio's: world z up, azimuth 0° looks at the object from +x, OpenGL camera axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...views import cameras

SHAPES = ("sphere", "cube", "cylinder", "cone", "torus", "diamond")
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.10),
    "green": (0.10, 0.70, 0.15),
    "blue": (0.10, 0.22, 0.92),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.62, 0.12, 0.80),
    "cyan": (0.10, 0.80, 0.88),
}
CAMERA_DISTANCE = 2.4
FOVY_DEG = 40.0
BOUND = 0.85  # every solid lies within this distance of the origin
LIGHT = (0.64, 0.40, 0.66)  # direction towards the light: front, a little left, above


@dataclass(frozen=True)
class StudioObject:
    """One object of the world: a shape, the colour of its front and the colour of its back."""

    shape: str
    front: str
    back: str

    @property
    def caption(self) -> str:
        """The full caption, without a view."""
        if self.front == self.back:
            return f"a {self.front} {self.shape}"
        return f"a {self.shape} with a {self.front} front and a {self.back} back"


def all_objects() -> list[StudioObject]:
    """The 216 objects: 6 shapes × 6 front colours × 6 back colours."""
    return [StudioObject(s, f, b) for s in SHAPES for f in COLORS for b in COLORS]


def direction_name(elevation: float, azimuth: float) -> str:
    """The view's name by threestudio's thresholds; both angles in degrees."""
    azimuth = (azimuth + 180) % 360 - 180
    if elevation > 60:
        return "overhead"
    if abs(azimuth) < 45:
        return "front"
    return "back" if abs(azimuth) > 135 else "side"


def look_at(elevation: Tensor, azimuth: Tensor, distance: float = CAMERA_DISTANCE) -> Tensor:
    """Camera-to-world matrices [V,4,4] of cameras that look at the origin; angles [V] in degrees."""
    return cameras.orbit(elevation, azimuth, distance)


def camera_rays(c2w: Tensor, size: int, fovy_deg: float = FOVY_DEG) -> tuple[Tensor, Tensor]:
    """Origins and unit directions, each [V,size,size,3], through the pixel centres of a square image."""
    return cameras.camera_rays(c2w, math.radians(fovy_deg), size, size)


def backdrop(directions: Tensor) -> Tensor:
    """The studio's backdrop: rays' unit directions [...,3] → colours [...,3] in [0,1].

    It is warm behind the object from the front, cool from the back, greener from one side and pinker from the other,
    and lighter above: any picture shows where its camera was.
    """
    x, y, z = directions.unbind(-1)
    return torch.stack(
        [0.68 - 0.17 * x - 0.09 * y + 0.2 * z, 0.68 + 0.17 * y + 0.2 * z, 0.68 + 0.17 * x - 0.09 * y + 0.2 * z], -1
    ).clamp(0, 1)


def _revolved(p: Tensor) -> Tensor:
    return torch.stack([p[..., :2].norm(dim=-1), p[..., 2]], -1)


def signed_distance(shape: str, p: Tensor) -> Tensor:
    """Signed distance [...] (a lower bound of it outside) from points [...,3] to the surface; negative inside."""
    if shape == "sphere":
        return p.norm(dim=-1) - 0.56
    if shape == "cube":
        q = p.abs() - 0.43
        return q.clamp(min=0).norm(dim=-1) + q.amax(-1).clamp(max=0)
    q = _revolved(p)
    if shape == "torus":
        return torch.stack([q[..., 0] - 0.44, q[..., 1]], -1).norm(dim=-1) - 0.2
    if shape == "cylinder":
        d = torch.stack([q[..., 0] - 0.36, q[..., 1].abs() - 0.6], -1)
        return d.clamp(min=0).norm(dim=-1) + d.amax(-1).clamp(max=0)
    if shape == "diamond":  # two cones, base to base
        slope = torch.tensor([0.7, 0.58], dtype=p.dtype, device=p.device)
        slope = slope / slope.norm()
        return q[..., 0] * slope[0] + q[..., 1].abs() * slope[1] - 0.58 * slope[0]
    if shape == "cone":
        slope = torch.tensor([1.15, 0.6], dtype=p.dtype, device=p.device)
        slope = slope / slope.norm()
        side = q[..., 0] * slope[0] + (q[..., 1] - 0.6) * slope[1]
        return torch.maximum(side, -q[..., 1] - 0.55)
    raise ValueError(f"no shape {shape!r}; the world has {', '.join(SHAPES)}")


def _normals(shape: str, p: Tensor, h: float = 1e-3) -> Tensor:
    # the tetrahedron rule: four evaluations instead of six
    corners = torch.tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], dtype=p.dtype, device=p.device)
    n = sum(c * signed_distance(shape, p + h * c)[..., None] for c in corners)
    assert isinstance(n, Tensor)
    return n / n.norm(dim=-1, keepdim=True).clamp(min=1e-12)


@dataclass(frozen=True)
class Surface:
    """What the rays of some pictures meet.

    Attributes:
        near: Whether a ray passes near the origin [R]; the others meet nothing.
        points: Where the N near rays end [N,3].
        hit: Whether they end on the solid [N].
        normals: The solid's unit normals there [N,3].
    """

    near: Tensor
    points: Tensor
    hit: Tensor
    normals: Tensor

    @property
    def shade(self) -> Tensor:
        """The light's share of the colour [N], in [0.4, 1]."""
        light = torch.tensor(LIGHT).to(self.normals)
        return 0.70 + 0.30 * (self.normals * light / light.norm()).sum(-1)


def surface(shape: str, origins: Tensor, dirs: Tensor) -> Surface:
    """Traces rays [R,3] with unit directions to a solid at the origin."""
    middle = -(origins * dirs).sum(-1)  # depth of the point nearest to the origin
    near = (origins + middle[:, None] * dirs).norm(dim=-1) < BOUND
    o, d, t = origins[near], dirs[near], middle[near] - BOUND
    active = torch.arange(len(t), device=t.device)
    for _ in range(80):  # sphere tracing, on the rays that still move
        step = signed_distance(shape, o[active] + t[active, None] * d[active])
        t[active] += step
        active = active[(step > 2e-4) & (t[active] < middle[near][active] + BOUND)]
        if not len(active):
            break
    p = o + t[:, None] * d
    hit = (t < middle[near] + BOUND) & (signed_distance(shape, p) < 4e-3)
    return Surface(near, p, hit, _normals(shape, p))


def seen(shape: str, c2w: Tensor, size: int) -> Surface:
    """`surface` for all rays of poses [V,4,4], view by view and row by row, with so many of them along each side."""
    return surface(shape, *(x.reshape(-1, 3) for x in camera_rays(c2w, size)))


def shading_buffers(shape: str, c2w: Tensor, size: int = 64, supersample: int = 2) -> Tensor:
    """What a picture is made of beside colours: shading × coverage of the front, of the back, and coverage.

    A picture is linear in its colours, so one buffer serves every colouring of a shape (see `compose`).

    Args:
        shape: One of SHAPES.
        c2w: Camera-to-world matrices [V,4,4].
        size: Pixels a side.
        supersample: Rays of a pixel, along each side.

    Returns:
        [V,3,size,size] in [0,1].
    """
    n = size * supersample
    met = seen(shape, c2w, n)
    front = met.points[:, 0] > 0
    maps = torch.zeros(len(met.near), 3, dtype=c2w.dtype, device=c2w.device)
    parts = met.shade * (met.hit & front), met.shade * (met.hit & ~front), met.hit.to(c2w)
    maps[met.near] = torch.stack(parts, -1)
    maps = maps.reshape(len(c2w), n, n, 3).movedim(-1, 1)
    return torch.nn.functional.avg_pool2d(maps, supersample)


def compose(buffers: Tensor, front: Tensor, back: Tensor, background: Tensor) -> Tensor:
    """Pictures [V,3,H,W] in [-1,1] from `shading_buffers` [V,3,H,W], colours [V,3] in [0,1], backdrop [V,3,H,W]."""
    f, b, cover = buffers[:, :1], buffers[:, 1:2], buffers[:, 2:]
    rgb = f * front[..., None, None] + b * back[..., None, None] + (1 - cover) * background
    return rgb * 2 - 1


def render(
    obj: StudioObject, c2w: Tensor, size: int = 64, supersample: int = 2, background: Tensor | None = None
) -> Tensor:
    """The exact picture of an object: camera-to-world [V,4,4] → [V,3,size,size] in [-1,1].

    Args:
        obj: The object.
        c2w: The cameras.
        size: Pixels a side.
        supersample: Rays of a pixel, along each side.
        background: What is behind it [V,3,size,size] in [0,1]; the studio's backdrop if None.
    """
    colors = [
        torch.tensor(COLORS[c], dtype=c2w.dtype, device=c2w.device).expand(len(c2w), 3) for c in (obj.front, obj.back)
    ]
    if background is None:
        background = backdrop(camera_rays(c2w, size)[1]).movedim(-1, 1)
    return compose(shading_buffers(obj.shape, c2w, size, supersample), colors[0], colors[1], background)
