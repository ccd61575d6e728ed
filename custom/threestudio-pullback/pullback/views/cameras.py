"""Camera geometry: poses on a sphere, rays through pixels, projections.

World z is up; azimuth 0° looks at the origin from +x, 90° from +y; elevation 90° from above. Cameras have
OpenGL
axes: x right, y up, z towards the viewer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEAR, FAR = 0.01, 100.0


def on_sphere(elevation: Tensor, azimuth: Tensor, distance: Tensor) -> Tensor:
    """Points [B, 3] at elevation and azimuth [B] in degrees and distance [B] from the origin."""
    e, a = torch.deg2rad(elevation), torch.deg2rad(azimuth)
    return distance[:, None] * torch.stack([e.cos() * a.cos(), e.cos() * a.sin(), e.sin()], -1)


def look_at(position: Tensor, center: Tensor, up: Tensor) -> Tensor:
    """Camera-to-world matrices [B, 4, 4] of cameras at `position`, looking at `center`, all arguments [B, 3].

    `up` need not be perpendicular to the line of sight; if it runs along it, the camera's right is +y, as it
    is for a camera at azimuth 0 under z up.
    """
    back = F.normalize(position - center, dim=-1)
    right = torch.linalg.cross(up.expand_as(back), back)
    along = right.norm(dim=-1, keepdim=True) < 1e-6
    right = F.normalize(torch.where(along, right.new_tensor([0.0, 1.0, 0.0]), right), dim=-1)
    c2w = torch.zeros(len(position), 4, 4).to(position)
    c2w[:, :3] = torch.stack([right, torch.linalg.cross(back, right), back, position], -1)
    c2w[:, 3, 3] = 1
    return c2w


def camera_rays(c2w: Tensor, fovy: Tensor, height: int, width: int, normalize: bool = True) -> tuple[Tensor, Tensor]:
    """Origins and directions [B, height, width, 3] of the rays through the pixels' centres.

    Args:
        c2w: [B, 4, 4].
        fovy: [B], radians.
        normalize: unit directions; otherwise their component along the line of sight is 1.
    """
    x = torch.arange(width).to(c2w) + 0.5 - width / 2
    y = height / 2 - 0.5 - torch.arange(height).to(c2w)
    scale = (2 * torch.tan(fovy / 2) / height)[:, None, None]
    right, up = (scale * x).expand(-1, height, -1), (scale * y[:, None]).expand(-1, -1, width)
    local = torch.stack([right, up, -torch.ones_like(right)], -1)
    directions = torch.einsum("bhwc,bdc->bhwd", local, c2w[:, :3, :3])
    if normalize:
        directions = F.normalize(directions, dim=-1)
    return c2w[:, None, None, :3, 3].expand_as(directions), directions


def projection(fovy: Tensor, aspect: float) -> Tensor:
    """OpenGL projection matrices [B, 4, 4] with y down: (-1, -1) is the outer corner of the first pixel.

    Args:
        fovy: [B], radians.
        aspect: width / height.
    """
    matrix = torch.zeros(len(fovy), 4, 4).to(fovy)
    matrix[:, 0, 0] = 1 / (torch.tan(fovy / 2) * aspect)
    matrix[:, 1, 1] = -1 / torch.tan(fovy / 2)
    matrix[:, 2, 2] = -(FAR + NEAR) / (FAR - NEAR)
    matrix[:, 2, 3] = -2 * FAR * NEAR / (FAR - NEAR)
    matrix[:, 3, 2] = -1
    return matrix


def world_to_camera(c2w: Tensor) -> Tensor:
    """The inverse of rigid camera-to-world matrices [B, 4, 4]."""
    turn = c2w[:, :3, :3].mT
    w2c = torch.zeros_like(c2w)
    w2c[:, :3, :3], w2c[:, :3, 3:], w2c[:, 3, 3] = turn, -turn @ c2w[:, :3, 3:], 1
    return w2c


def camera_batch(c2w: Tensor, fovy: Tensor, height: int, width: int, normalize: bool) -> dict[str, Tensor]:
    """The entries of a batch that follow from the matrices: rays, projections and the position."""
    rays_o, rays_d = camera_rays(c2w, fovy, height, width, normalize)
    proj = projection(fovy, width / height)
    return {
        "rays_o": rays_o,
        "rays_d": rays_d,
        "mvp_mtx": proj @ world_to_camera(c2w),
        "proj_mtx": proj,
        "c2w": c2w,
        "camera_positions": c2w[:, :3, 3],
        "fovy": fovy,
    }
