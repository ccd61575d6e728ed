"""Surfaces of density fields: marching cubes on a grid, closed at the box, without specks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Mesh:
    """Vertices v_pos [N, 3] in world units; faces t_pos_idx [M, 3] int64, counter-clockwise from outside."""

    v_pos: Tensor
    t_pos_idx: Tensor


def grid_points(bbox: Tensor, resolution: int) -> Tensor:
    """The vertices of a regular grid over a box, corners included.

    Args:
        bbox: [2, 3], lower and upper corner.
        resolution: vertices per axis, at least 2.

    Returns:
        [resolution, resolution, resolution, 3], indexed [x, y, z].
    """
    axes = [
        torch.linspace(float(lo), float(hi), resolution, dtype=bbox.dtype, device=bbox.device)
        for lo, hi in zip(bbox[0], bbox[1], strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def marching_cubes(field: Tensor, threshold: float, bbox: Tensor) -> Mesh:
    """The closed surface round the part of the box where field > threshold.

    Args:
        field: [R, R, R] values at `grid_points(bbox, R)`; some lie above the threshold and some not above it.
        threshold: the level.
        bbox: [2, 3].

    Returns:
        The mesh, on the field's device. What reaches the box's faces is cut off there and closed.

    Lorensen, Cline 1987; scikit-image's variant (Lewiner et al. 2003), which leaves no holes.
    """
    from skimage.measure import marching_cubes as lewiner

    # outside the box there is nothing: one more layer, below the threshold, closes the surface
    outside = min(0.0, float(field.min())) if threshold > 0 else threshold - 1
    padded = torch.nn.functional.pad(field.detach().float().cpu(), (1,) * 6, value=outside)
    vertices, faces, _, _ = lewiner(padded.numpy(), threshold, gradient_direction="ascent")
    at = torch.from_numpy(vertices.copy()).to(bbox) - 1
    size = torch.as_tensor(field.shape, dtype=bbox.dtype, device=bbox.device) - 1
    v_pos = bbox[0] + (at.clamp(min=0).minimum(size) / size) * (bbox[1] - bbox[0])
    return Mesh(v_pos, torch.from_numpy(faces.astype("int64")).to(bbox.device))


def remove_specks(mesh: Mesh, n_faces: int | float) -> Mesh:
    """Without the connected parts that have fewer faces than `n_faces`.

    Args:
        mesh: any mesh.
        n_faces: a count, or as a float the fraction of the largest part's count.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    faces = mesh.t_pos_idx.cpu().numpy()
    a, b = faces[:, [0, 1]].T.reshape(2, -1), faces[:, [1, 2]].T.reshape(2, -1)
    rows, columns = [*a[0], *b[0]], [*a[1], *b[1]]
    n = len(mesh.v_pos)
    _, vertex_part = connected_components(coo_matrix(([True] * len(rows), (rows, columns)), (n, n)), directed=False)
    part = torch.from_numpy(vertex_part).long()[mesh.t_pos_idx[:, 0].cpu()]
    counts = torch.bincount(part)
    least = n_faces * int(counts.max()) if isinstance(n_faces, float) else n_faces
    kept = mesh.t_pos_idx[(counts[part] >= least).to(mesh.t_pos_idx.device)]
    used, renumbered = kept.unique(return_inverse=True)
    return Mesh(mesh.v_pos[used], renumbered)
