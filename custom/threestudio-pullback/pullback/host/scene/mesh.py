"""The surface of a density field: marching cubes on a grid, closed at the box, without specks and what lies inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...errors import NonFiniteError, UserError
from ..config import config_path
from ..registry import info
from .mesh_parts import Mesh, remove_specks, without_hidden_parts
from .outside import close_cracks, light_from_outside

# The light at the surface, head-on. Half of it would be the depth that a camera sees; but a ray that grazes a rounded
# object crosses more of its fuzzy shell, so silhouettes lie farther out. Of the demo's runs, 0.8 to 0.85 has the
# silhouettes of the renders.
LIT = 0.83
_COARSE = 128  # vertices per axis that suffice to find the box
SURFACE = {
    "isosurface": True, "isosurface_resolution": 96, "isosurface_threshold": "auto", "isosurface_chunk": 0,
    "isosurface_coarse_to_fine": False, "isosurface_remove_outliers": True,
    "isosurface_outlier_n_faces_threshold": 0.01,
}  # fmt: skip
"""The keys of a geometry that `isosurface` reads, for one of another framework."""
_POINTS = 2**15  # at a time; a hash grid needs 1.5 KB for each


@torch.no_grad()
def isosurface(density: Callable[[Tensor], Tensor], cfg: Any, bbox: Tensor, name: str = "density") -> Mesh:
    """The outer surface, at a threshold of the density or where the light from outside fades.

    Args:
        density: [N, 3] points in world units → [N, 1].
        cfg: the keys isosurface… of a geometry.
        bbox: [2, 3], where to look; coarse_to_fine looks once more in the box that the first surface fills.
        name: of the values, for errors.

    Raises:
        UserError: `isosurface` is false, or nothing, or everything, is denser than the threshold, or no part has as
            many faces as `isosurface_outlier_n_faces_threshold` asks for.
        NonFiniteError: the density is not finite somewhere.
    """
    if not cfg.isosurface:
        raise UserError(f"`{config_path(cfg, 'isosurface')}` is false; a mesh needs it to be true")
    resolution = cfg.isosurface_resolution
    if cfg.isosurface_coarse_to_fine:
        rough = _surface(density, cfg, bbox, min(resolution, _COARSE), name)
        low, high = rough.v_pos.amin(0), rough.v_pos.amax(0)
        margin = 0.1 * (high - low)
        bbox = torch.stack([(low - margin).max(bbox[0]), (high + margin).min(bbox[1])])
    return _surface(density, cfg, bbox, resolution, name)


def _surface(density: Callable[[Tensor], Tensor], cfg: Any, bbox: Tensor, resolution: int, name: str) -> Mesh:
    field = _on_grid(density, bbox, resolution, cfg.isosurface_chunk or _POINTS, name)
    if cfg.isosurface_threshold == "auto":
        field, threshold = _darkness(field, ((bbox[1] - bbox[0]) / (resolution - 1)).tolist())
    else:
        threshold = _threshold(field, cfg, name)
    mesh = marching_cubes(field, threshold, bbox)
    del field
    if cfg.isosurface_remove_outliers:
        least, key = cfg.isosurface_outlier_n_faces_threshold, "isosurface_outlier_n_faces_threshold"
        mesh = remove_specks(mesh, least, config_path(cfg, key))
    return without_hidden_parts(mesh)


def _darkness(density: Tensor, spacing: list[float]) -> tuple[Tensor, float]:
    """1 minus the light from outside, and its value at the surface."""
    low, high = float(density.min()), float(density.max())
    x, y, z = spacing
    dark = close_cracks(light_from_outside(density, (x, y, z))).neg_().add_(1)
    most = float(dark.max())
    if low == high or most <= 0:
        raise UserError(
            f"there is no surface to export: the density lies between {low:.3g} and {high:.3g} everywhere; train the "
            "geometry first, or longer"
        )
    if most <= 1 - LIT:
        info("No place is darker than %.3g %%: the surface is that of something nearly transparent", 100 * most)
    return dark, min(1 - LIT, most / 2)


def _threshold(field: Tensor, cfg: Any, name: str) -> float:
    low, high, threshold = float(field.min()), float(field.max()), float(cfg.isosurface_threshold)
    if high <= threshold or threshold < low:
        path = config_path(cfg, "isosurface_threshold")
        raise UserError(
            f"there is no surface to export at `{path}` = {threshold:g}: the {name} lies between "
            f"{low:.3g} and {high:.3g}; try {path}={(low + high) / 2:.2g} or {path}=auto"
        )
    return threshold


def _on_grid(density: Callable[[Tensor], Tensor], bbox: Tensor, resolution: int, chunk: int, name: str) -> Tensor:
    """The values [R, R, R], indexed [x, y, z], at the vertices of a grid over the box, its corners included."""
    axes = [
        torch.linspace(float(lo), float(hi), resolution, dtype=bbox.dtype, device=bbox.device)
        for lo, hi in zip(bbox[0], bbox[1], strict=True)
    ]
    field = torch.empty(resolution**3, device=bbox.device)
    for start in range(0, len(field), chunk):
        index = torch.arange(start, min(start + chunk, len(field)), device=bbox.device)
        x, y, z = index // resolution**2, index // resolution % resolution, index % resolution
        values = density(torch.stack([axes[0][x], axes[1][y], axes[2][z]], -1))[:, 0]
        if not values.isfinite().all():
            raise NonFiniteError(f"the {name} is not finite at some points of the surface grid; no mesh can be made")
        field[start : start + chunk] = values
    return field.view(resolution, resolution, resolution)


def marching_cubes(field: Tensor, threshold: float, bbox: Tensor) -> Mesh:
    """The closed surface round the part of the box where field > threshold.

    Args:
        field: [R, R, R] values at a grid over the box, its corners included; some lie above the threshold and some not
            above it.
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
