"""Textures: charts of a mesh, and colours at their texels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...meshes import charts
from .mesh_parts import Mesh

_PIXELS = 2**22  # of boxes round triangles, at a time


def unwrap(mesh: Mesh, chart_options: dict[str, Any], pack_options: dict[str, Any], size: int) -> tuple[Tensor, Tensor]:
    """v_tex [K, 2] and t_tex_idx [M, 3] of a mesh, on its device; see `charts.unwrap`."""
    arrays = mesh.v_pos.cpu().numpy(), mesh.t_pos_idx.cpu().numpy()
    v_tex, t_tex_idx = (torch.from_numpy(x) for x in charts.unwrap(*arrays, chart_options, pack_options, size))
    return v_tex.to(mesh.v_pos.device), t_tex_idx.to(mesh.v_pos.device)


def bake(
    mesh: Mesh,
    normals: Tensor,
    v_tex: Tensor,
    t_tex_idx: Tensor,
    size: int,
    colour: Callable[[Tensor, Tensor], Tensor | None],
) -> Tensor | None:
    """A texture: the colour at the centre of each texel that a chart covers, and that of the nearest one elsewhere.

    Args:
        mesh: The mesh.
        normals: [N, 3] at its vertices.
        v_tex: [K, 2] in the unit square.
        t_tex_idx: [M, 3] indices into v_tex.
        size: Width and height.
        colour: Points and unit normals [P, 3] → colours [P, 3], or None where there are none.

    Returns:
        [size, size, 3], row 0 at v = 0; None where there are no colours.
    """
    from scipy.ndimage import distance_transform_edt

    corners = v_tex[t_tex_idx].double().cpu() * size
    face = torch.full((size * size,), -1)
    weights = torch.zeros(size * size, 3, dtype=torch.float64)
    for texel, triangle, at in _covered(corners, size):
        face[texel], weights[texel] = triangle, at
    (texel,) = (face >= 0).nonzero(as_tuple=True)
    picked = mesh.t_pos_idx[face[texel].to(mesh.t_pos_idx.device)]
    share = weights[texel].to(mesh.v_pos)[:, :, None]
    normal = torch.nn.functional.normalize((share * normals[picked]).sum(1), dim=-1)
    colours = colour((share * mesh.v_pos[picked]).sum(1), normal)
    if colours is None:
        return None
    picture = torch.zeros(size * size, 3, dtype=colours.dtype)
    picture[texel] = colours.cpu()
    empty = (face < 0).view(size, size).numpy()
    nearest: Any = distance_transform_edt(empty, return_distances=False, return_indices=True)
    rows, columns = nearest.astype(np.int64)
    return picture[torch.from_numpy(rows * size + columns)]


def _covered(corners: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Texels whose centres lie in triangles [M, 3, 2]: row · size + column, the triangle, and barycentrics [P, 3]."""
    low = (corners.amin(1) - 0.5).ceil().clamp(0, size - 1).long()
    high = (corners.amax(1) - 0.5).floor().clamp(0, size - 1).long()
    width, height = (high - low + 1).clamp(min=0).unbind(-1)
    group = (width * height).cumsum(0) // _PIXELS
    for g in range(int(group[-1]) + 1):
        triangles = (group == g).nonzero()[:, 0]
        area = (width * height)[triangles]
        triangle = triangles.repeat_interleave(area)
        within = torch.arange(len(triangle)) - (area.cumsum(0) - area).repeat_interleave(area)
        column = low[triangle, 0] + within % width[triangle]
        row = low[triangle, 1] + within // width[triangle]
        centre = torch.stack([column, row], -1) + 0.5
        a, b, c = corners[triangle].unbind(1)
        edges = torch.stack(
            [_cross(b - centre, c - centre), _cross(c - centre, a - centre), _cross(a - centre, b - centre)], -1
        )
        at = edges / edges.sum(-1, keepdim=True)  # a triangle of no area gives NaN, which is no texel's
        inside = (at >= -1e-9).all(-1)
        yield (row * size + column)[inside], triangle[inside], at[inside]


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
