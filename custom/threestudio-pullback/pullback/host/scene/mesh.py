"""The surface of a density field: marching cubes on a grid, closed at the box, without specks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import NonFiniteError, UserError
from ..config import config_path
from ..registry import info


@dataclass
class Mesh:
    """Vertices v_pos [N, 3] in world units; faces t_pos_idx [M, 3] int64, counter-clockwise from outside."""

    v_pos: Tensor
    t_pos_idx: Tensor


@torch.no_grad()
def isosurface(density: Callable[[Tensor], Tensor], cfg: Any, bbox: Tensor) -> Mesh:
    """The surface at a threshold of the density.

    Args:
        density: [N, 3] points in world units → [N, 1].
        cfg: the keys isosurface… of a geometry.
        bbox: [2, 3], where to look; coarse_to_fine looks once more in the box that the first surface fills.

    Raises:
        UserError: `isosurface` is false, or nothing, or everything, is denser than the threshold.
        NonFiniteError: the density is not finite somewhere.
    """
    if not cfg.isosurface:
        raise UserError(f"`{config_path(cfg, 'isosurface')}` is false; a mesh needs it to be true")
    mesh = _surface(density, cfg, bbox)
    if cfg.isosurface_coarse_to_fine:
        low, high = mesh.v_pos.amin(0), mesh.v_pos.amax(0)
        margin = 0.1 * (high - low)
        mesh = _surface(density, cfg, torch.stack([(low - margin).max(bbox[0]), (high + margin).min(bbox[1])]))
    return mesh


def _surface(density: Callable[[Tensor], Tensor], cfg: Any, bbox: Tensor) -> Mesh:
    points = grid_points(bbox, cfg.isosurface_resolution)
    flat = points.reshape(-1, 3)
    chunks = flat.split(cfg.isosurface_chunk or len(flat))
    field = torch.cat([density(c) for c in chunks]).view(points.shape[:3])
    if not field.isfinite().all():
        raise NonFiniteError("the density is not finite at some points of the surface grid; no mesh can be made")
    mesh = marching_cubes(field, _threshold(field, cfg), bbox)
    return remove_specks(mesh, cfg.isosurface_outlier_n_faces_threshold) if cfg.isosurface_remove_outliers else mesh


def _threshold(field: Tensor, cfg: Any) -> float:
    low, high = float(field.min()), float(field.max())
    if cfg.isosurface_threshold == "auto":
        occupied = field[field > 1e-5]
        if not len(occupied) or high == low:
            raise UserError(
                f"there is no surface to export: the density lies between {low:.3g} and {high:.3g} "
                "everywhere; train the geometry first, or longer"
            )
        threshold = float(occupied.mean())
        info("isosurface threshold: %.4g", threshold)
        return threshold
    threshold = float(cfg.isosurface_threshold)
    if high <= threshold or threshold < low:
        path = config_path(cfg, "isosurface_threshold")
        raise UserError(
            f"there is no surface to export at `{path}` = {threshold:g}: the density lies between "
            f"{low:.3g} and {high:.3g}; try {path}={(low + high) / 2:.2g} or {path}=auto"
        )
    return threshold


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
        The mesh, on the field's device. A part that reaches a face of the box is cut off there and closed.

    The method is that of Lorensen and Cline 1987, in scikit-image's variant without holes (Lewiner et al. 2003).
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
    """The mesh without the connected parts that have fewer faces than `n_faces`.

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
    left = mesh.t_pos_idx[(counts[part] >= least).to(mesh.t_pos_idx.device)]
    vertices, renumbered = left.unique(return_inverse=True)
    return Mesh(mesh.v_pos[vertices], renumbered)
