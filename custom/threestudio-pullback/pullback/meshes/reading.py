"""A mesh of somebody else's with texture coordinates: those of its file where one texture can use them, or new ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..output.mesh_files import AXES
from .charts import unwrap
from .shapes import read_shape

MOST_UNWRAPPED = 200_000
"""Faces that xatlas cuts into charts in about a minute."""


@dataclass
class Surface:
    """A mesh as its file has it.

    Attributes:
        vertices: [N, 3] float64, in the file's axes and units.
        faces: [M, 3] indices into them.
        coordinates: [K, 2], (s, t) with t down from the top, in [0, 1].
        corners: [M, 3] indices into them.
        up: The file's axis that is up, a key of AXES.
        notes: What was found and done, each a sentence without a full stop.
    """

    vertices: np.ndarray
    faces: np.ndarray
    coordinates: np.ndarray
    corners: np.ndarray
    up: str
    notes: list[str] = field(default_factory=list)

    def in_world(self, radius: float) -> np.ndarray:
        """The vertices [N, 3] with z up and the front at +x, the middle of their box at 0, none farther than radius."""
        used = self.vertices[np.unique(self.faces)]
        middle = (used.min(0) + used.max(0)) / 2
        size = np.linalg.norm(used - middle, axis=1).max()
        return (self.vertices - middle) * (radius / size) @ np.array(AXES[self.up], float)


def read(path: str | Path, size: int = 512, new_charts: bool = False) -> Surface:
    """Reads a mesh.

    Args:
        path: The file.
        size: Width of the texture that it is to have, for the space between new charts.
        new_charts: Whether texture coordinates of the file's own are left out.

    Raises:
        UserError: It cannot be used; the sentence says why.
    """
    shape = read_shape(path)
    vertices, faces, uv, notes = shape.vertices, shape.faces, shape.uv, shape.notes
    notes += _shape_notes(vertices, faces)
    why = "new charts are asked for" if new_charts else _trouble(uv, faces, shape.parts)
    if why is None and uv is not None:
        return Surface(vertices, faces, np.clip(uv, 0, 1) * [1, -1] + [0, 1], faces, shape.up, notes)
    if len(faces) > MOST_UNWRAPPED:
        raise UserError(
            f"{path} has {len(faces)} faces, and needs texture coordinates, since {why}; at most {MOST_UNWRAPPED} are "
            "cut into charts, simplify it or give it texture coordinates"
        )
    middle = vertices[faces].mean((0, 1))  # xatlas computes in single precision
    scale = max(np.ptp(vertices[faces.ravel()], 0).max(), np.finfo(float).tiny)
    coordinates, corners = unwrap((vertices - middle) / scale, faces, {}, {}, size)
    notes.append(f"it gets new texture coordinates: {why}")
    return Surface(vertices, faces, np.clip(coordinates, 0, 1), corners, shape.up, notes)


def _trouble(uv: np.ndarray | None, faces: np.ndarray, parts: int) -> str | None:
    """Why a mesh's own texture coordinates cannot be used; None where they can."""
    if uv is None:
        return "it has none"
    if parts > 1:
        return f"its {parts} parts have a texture each"
    used = uv[np.unique(faces)]
    if not np.isfinite(used).all():
        return "some of its own are not finite"
    if used.min() < -1e-4 or used.max() > 1 + 1e-4:
        return "its own go beyond the texture, which then repeats"
    a, b, c = uv[faces].transpose(1, 0, 2)
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).sum() / 2
    if area < 0.01:
        return "its own have next to no area"
    return "its own lie on one another" if area > 1.001 else None


def _shape_notes(vertices: np.ndarray, faces: np.ndarray) -> list[str]:
    """What is worth knowing of a shape that can be used."""
    notes = []
    used = vertices[np.unique(faces)]
    size = float(np.ptp(used, 0).max())
    if not 1e-3 <= size <= 1e3:
        notes.append(f"it is {size:.3g} units wide; it is fitted to the cameras' view, and saved as large as it was")
    _, welded = np.unique(np.round((vertices - used.min(0)) / size * 1e6).astype(np.int64), axis=0, return_inverse=True)
    corners = welded.reshape(-1)[faces]
    edges = np.sort(np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]]), 1)
    _, count = np.unique(edges[edges[:, 0] != edges[:, 1]], axis=0, return_counts=True)
    if more := int((count > 2).sum()):
        notes.append(f"it is no manifold: {more} edges have more than two faces, which is no hindrance")
    return notes
