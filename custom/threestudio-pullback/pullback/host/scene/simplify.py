"""Fewer and smoother triangles for the same closed surface."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from torch import Tensor

from .mesh_parts import Mesh

_ROUNDS = 10  # of smoothing: waves of some two grid cells and shorter go


def simplify(mesh: Mesh, faces: int) -> Mesh:
    """The mesh without the steps of its grid, and with at most so many triangles; closed as it was.

    Smoothing keeps the volume (Taubin 1995). Triangles are collapsed by their quadric errors (Garland and Heckbert
    1997), which may leave edges with four triangles; there the surface is cut apart.

    Args:
        mesh: a closed mesh.
        faces: the most triangles; 0 keeps all.
    """
    import fast_simplification
    import manifold3d

    v_pos, t_pos_idx = (x.cpu().numpy() for x in (mesh.v_pos.float(), mesh.t_pos_idx.int()))
    whole = trimesh.Trimesh(v_pos, t_pos_idx, process=False)
    v_pos = np.asarray(
        trimesh.smoothing.filter_taubin(whole, lamb=0.5, nu=0.52, iterations=_ROUNDS).vertices, np.float32
    )
    if 0 < faces < len(t_pos_idx):
        v_pos, t_pos_idx = fast_simplification.simplify(v_pos, t_pos_idx, target_count=faces)
        solid = manifold3d.Manifold(manifold3d.Mesh(v_pos, t_pos_idx.astype(np.uint32)))
        if not solid.is_empty():
            clean = solid.to_mesh()
            v_pos, t_pos_idx = clean.vert_properties[:, :3], clean.tri_verts
    return Mesh(
        torch.from_numpy(v_pos.copy()).to(mesh.v_pos), torch.from_numpy(t_pos_idx.astype(np.int64)).to(mesh.t_pos_idx)
    )


def vertex_normals(mesh: Mesh) -> Tensor:
    """Unit normals [N, 3] outwards: the faces' mean at each vertex, weighted by their angles there."""
    whole = trimesh.Trimesh(mesh.v_pos.cpu().numpy(), mesh.t_pos_idx.cpu().numpy(), process=False)
    return torch.from_numpy(np.array(whole.vertex_normals)).to(mesh.v_pos)
