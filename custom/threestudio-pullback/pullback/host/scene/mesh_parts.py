"""A triangle mesh and its connected parts: specks and what lies hidden inside are left out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError


@dataclass
class Mesh:
    """Vertices v_pos [N, 3] in world units; faces t_pos_idx [M, 3] int64, counter-clockwise from outside."""

    v_pos: Tensor
    t_pos_idx: Tensor


def remove_specks(mesh: Mesh, n_faces: int | float, key: str = "n_faces") -> Mesh:
    """The mesh without the connected parts that have fewer faces than `n_faces`.

    Args:
        mesh: any mesh.
        n_faces: a count, or as a float the fraction of the largest part's count.
        key: config path of `n_faces`, for the error.

    Raises:
        UserError: no part has as many.
    """
    part = _part_of_faces(mesh)
    counts = torch.bincount(part)
    most = int(counts.max())
    least = n_faces * most if isinstance(n_faces, float) else n_faces
    if least > most:
        raise UserError(f"`{key}` = {n_faces} leaves nothing to export: the largest part has {most} faces; lower it")
    return _only(mesh, counts[part] >= least)


def without_hidden_parts(mesh: Mesh) -> Mesh:
    """The mesh without the closed parts that lie inside another one, such as the walls of a hollow.

    Args:
        mesh: any mesh whose parts are closed and do not cross each other.
    """
    part = _part_of_faces(mesh)
    corners = mesh.v_pos[mesh.t_pos_idx]
    a, b, c = corners.unbind(1)
    volume = torch.zeros(int(part.max()) + 1).to(mesh.v_pos)
    volume.index_add_(0, part, (a * torch.linalg.cross(b, c)).sum(-1) / 6)
    groups = [(part == p).nonzero()[:, 0] for p in range(len(volume))]
    boxes = [(corners[g].amin((0, 1)), corners[g].amax((0, 1))) for g in groups]

    def hidden(p: int) -> bool:
        point = corners[groups[p][0], 0]
        return any(
            q != p
            and volume[q] > 0
            and bool(((point > boxes[q][0]) & (point < boxes[q][1])).all())
            and _turns(corners[groups[q]], point) > 0.5
            for q in range(len(groups))
        )

    inside = torch.tensor([hidden(p) for p in range(len(groups))], device=part.device)
    return _only(mesh, ~inside[part])


def _turns(corners: Tensor, point: Tensor) -> float:
    """How often the triangles [M, 3, 3] go round a point: 1 inside of a closed mesh, 0 outside.

    The sum of their solid angles over 4π; the formula is that of Van Oosterom and Strackee 1983.
    """
    a, b, c = (corners - point).double().unbind(1)
    la, lb, lc = (x.norm(dim=-1) for x in (a, b, c))
    above = (a * torch.linalg.cross(b, c)).sum(-1)
    below = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return float(2 * torch.atan2(above, below).sum() / (4 * math.pi))


def _part_of_faces(mesh: Mesh) -> Tensor:
    """The number [M] of the connected part that each face belongs to."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    faces = mesh.t_pos_idx.cpu().numpy()
    rows, columns = faces[:, :2].T.ravel(), faces[:, 1:].T.ravel()
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), (len(mesh.v_pos), len(mesh.v_pos)))
    _, vertex_part = connected_components(graph, directed=False)
    part = torch.from_numpy(vertex_part).long()[mesh.t_pos_idx[:, 0].cpu()]
    return part.unique(return_inverse=True)[1].to(mesh.t_pos_idx.device)


def _only(mesh: Mesh, faces: Tensor) -> Mesh:
    """The mesh of the faces [M] that are true, with the vertices that they need."""
    vertices, renumbered = mesh.t_pos_idx[faces].unique(return_inverse=True)
    return Mesh(mesh.v_pos[vertices], renumbered)
