"""Cameras: the one pose, the one pinhole with its inverse, and the one projection.

World z is up. Azimuth 0° looks at the origin from +x, 90° from +y; elevation 90° looks from above. Camera axes are as
in OpenGL: x right, y up, z towards the viewer. A pose is a camera-to-world matrix [4,4] or [3,4], whose columns are
these axes and the position. Pixels are square, row 0 is on top, and `fovy` is the vertical angle of view.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NEAR, FAR = 0.01, 100.0


def on_sphere(elevation: Tensor, azimuth: Tensor, distance: Tensor | float = 1.0) -> Tensor:
    """Points [V,3] at elevation and azimuth [V] in degrees and distance [V], or one for all, from the origin."""
    e, a = torch.deg2rad(elevation), torch.deg2rad(azimuth)
    direction = torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()], -1)
    return torch.as_tensor(distance, dtype=direction.dtype, device=direction.device).reshape(-1, 1) * direction


def orbit(elevation: Tensor, azimuth: Tensor, distance: Tensor | float = 3.0) -> Tensor:
    """Poses [V,4,4] of cameras on a sphere, which look at the origin with the world's z up.

    Args:
        elevation: [V] in [−90, 90] degrees; at ±90 the camera's right is still that of its azimuth.
        azimuth: [V] in degrees.
        distance: From the origin, [V] or one for all.
    """
    back, a = on_sphere(elevation, azimuth), torch.deg2rad(azimuth)
    right = torch.stack([-a.sin(), a.cos(), torch.zeros_like(a)], -1)
    return _pose(right, torch.cross(back, right, dim=-1), back, on_sphere(elevation, azimuth, distance))


def look_at(position: Tensor, centre: Tensor, up: Tensor) -> Tensor:
    """Poses [V,4,4] of cameras at `position`, looking at `centre`, all arguments [V,3] or [3].

    `up` need not be perpendicular to the line of sight. Where it runs along it, the camera's right is +y, as for a
    camera at azimuth 0 with z up.
    """
    back = F.normalize(position - centre, dim=-1)
    right = torch.cross(up.expand_as(back), back, dim=-1)
    along = right.square().sum(-1, keepdim=True) < 1e-12
    right = F.normalize(torch.where(along, torch.tensor([0.0, 1.0, 0.0]).to(right), right), dim=-1)
    return _pose(right, torch.cross(back, right, dim=-1), back, position)


def _pose(right: Tensor, up: Tensor, back: Tensor, position: Tensor) -> Tensor:
    upper = torch.stack([right, up, back, position], -1)
    return torch.cat([upper, torch.tensor([0.0, 0.0, 0.0, 1.0]).to(upper).expand(len(upper), 1, 4)], 1)


def directions(fovy: Tensor, height: int, width: int) -> Tensor:
    """Directions [V,H,W,3] in camera axes through the centres of the pixels, z = −1, for fovy [V] in radians."""
    x = torch.arange(width).to(fovy) + 0.5 - width / 2
    y = height / 2 - 0.5 - torch.arange(height).to(fovy)
    up, right = torch.meshgrid(y, x, indexing="ij")
    scale = (2 * torch.tan(fovy / 2) / height)[:, None, None, None]
    return F.pad(scale * torch.stack([right, up], -1), (0, 1), value=-1.0)


def pixel_of(points: Tensor, half: Tensor, height: int, width: int) -> Tensor:
    """The pixels that show points; the inverse of `directions`.

    Args:
        points: [...,3] in camera axes.
        half: tan(fovy/2), which broadcasts with [...].
        height: Rows of the picture.
        width: Columns of the picture.

    Returns:
        Indices row · width + column [...]; height · width where the camera does not see the point.
    """
    x, y, z = points.unbind(-1)
    scale = 0.5 * height / half / -z
    column, row = (x * scale + width / 2).floor(), (height / 2 - y * scale).floor()
    visible = (z < 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return torch.where(visible, row * width + column, height * width).long()


def camera_rays(
    c2w: Tensor, fovy: Tensor | float, height: int, width: int, normalize: bool = True
) -> tuple[Tensor, Tensor]:
    """Rays through the centres of the pixels.

    Args:
        c2w: Poses [V,4,4] or [V,3,4].
        fovy: In radians, [V] or one for all.
        height: Rows of the picture.
        width: Columns of the picture.
        normalize: Whether directions have length 1; otherwise their component along the line of sight is 1.

    Returns:
        Origins and directions [V,H,W,3] in the world.
    """
    local = directions(torch.as_tensor(fovy, dtype=c2w.dtype, device=c2w.device).expand(len(c2w)), height, width)
    with _in_full_precision(c2w):
        rays = torch.einsum("vhwj,vij->vhwi", local, c2w[:, :3, :3])
    return c2w[:, None, None, :3, 3].expand_as(rays), F.normalize(rays, dim=-1) if normalize else rays


def projection(fovy: Tensor, aspect: float) -> Tensor:
    """OpenGL projection matrices [V,4,4] with y down: (−1, −1) is the outer corner of the first pixel.

    Args:
        fovy: [V] in radians.
        aspect: Width / height.
    """
    matrix = torch.zeros(len(fovy), 4, 4).to(fovy)
    matrix[:, 0, 0] = 1 / (torch.tan(fovy / 2) * aspect)
    matrix[:, 1, 1] = -1 / torch.tan(fovy / 2)
    matrix[:, 2, 2] = -(FAR + NEAR) / (FAR - NEAR)
    matrix[:, 2, 3] = -2 * FAR * NEAR / (FAR - NEAR)
    matrix[:, 3, 2] = -1
    return matrix


def world_to_camera(c2w: Tensor) -> Tensor:
    """The inverses [V,4,4] of poses [V,4,4]."""
    turn = c2w[:, :3, :3].mT
    w2c = torch.zeros_like(c2w)
    with _in_full_precision(c2w):
        w2c[:, :3, :3], w2c[:, :3, 3:], w2c[:, 3, 3] = turn, -turn @ c2w[:, :3, 3:], 1
    return w2c


def _in_full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Where a trainer's mixed precision is off: half of it would move a ray by a pixel."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def camera_batch(c2w: Tensor, fovy: Tensor, height: int, width: int, normalize: bool = True) -> dict[str, Tensor]:
    """The entries of a framework's batch that follow from poses [V,4,4] and fovy [V]: rays, projections, positions."""
    rays_o, rays_d = camera_rays(c2w, fovy, height, width, normalize)
    proj = projection(fovy, width / height)
    with _in_full_precision(c2w):
        mvp_mtx = proj @ world_to_camera(c2w)
    return {
        "rays_o": rays_o,
        "rays_d": rays_d,
        "mvp_mtx": mvp_mtx,
        "proj_mtx": proj,
        "c2w": c2w,
        "camera_positions": c2w[:, :3, 3],
        "fovy": fovy,
    }
