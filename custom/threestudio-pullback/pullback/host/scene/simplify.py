"""Fewer and smoother triangles for the same closed surface."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import trimesh
from torch import Tensor

from .mesh_parts import Mesh

_ROUNDS = 10  # of smoothing: waves of some two grid cells and shorter go


def simplify(mesh: Mesh, faces: int, even: bool) -> tuple[Mesh, Tensor]:
    """The mesh without the steps of its grid, and with at most so many triangles; closed as it was.

    Smoothing keeps the volume (Taubin 1995). Triangles are collapsed by their quadric errors (Garland and Heckbert
    1997), which may leave edges with four triangles; there the surface is cut apart.

    Args:
        mesh: a closed mesh.
        faces: the most triangles; 0 keeps all.
        even: whether flat places need vertices too, for their colours: half of the triangles then go to the shape, and
            the other half come of splitting the longest edges.

    Returns:
        The mesh, and outward unit normals [N, 3] at its vertices, which are those of the smooth mesh before it lost
        triangles: at the nearest vertex, the faces' mean, weighted by their angles there.
    """
    from scipy.spatial import KDTree

    whole = trimesh.Trimesh(mesh.v_pos.cpu().numpy(), mesh.t_pos_idx.cpu().numpy(), process=False)
    whole = trimesh.smoothing.filter_taubin(whole, lamb=0.5, nu=0.52, iterations=_ROUNDS)
    v_pos, t_pos_idx = np.asarray(whole.vertices, np.float32), np.asarray(whole.faces, np.int32)
    normals = np.asarray(whole.vertex_normals)
    if 0 < faces < len(t_pos_idx):
        fewer = _fewer(v_pos, t_pos_idx, faces, even)
        normals = normals[KDTree(v_pos).query(fewer[0])[1]]
        v_pos, t_pos_idx = fewer
    on = mesh.v_pos.device
    simple = Mesh(torch.from_numpy(v_pos.copy()).to(on), torch.from_numpy(t_pos_idx.astype(np.int64)).to(on))
    return simple, torch.from_numpy(normals.astype(np.float32)).to(on)


def _fewer(v_pos: np.ndarray, t_pos_idx: np.ndarray, faces: int, even: bool) -> tuple[np.ndarray, np.ndarray]:
    import fast_simplification
    import manifold3d

    fewer: Any = fast_simplification.simplify(v_pos, t_pos_idx, target_count=faces // 2 if even else faces)
    solid = manifold3d.Manifold(manifold3d.Mesh(fewer[0], fewer[1].astype(np.uint32)))
    if solid.is_empty():  # it takes closed surfaces alone
        return fewer
    length = float(np.linalg.norm(np.ptp(v_pos, axis=0))) / 4
    split = solid
    while even and split.num_tri() <= faces:
        solid, split, length = split, solid.refine_to_length(length), 0.85 * length
    clean = solid.to_mesh()
    return clean.vert_properties[:, :3], clean.tri_verts
