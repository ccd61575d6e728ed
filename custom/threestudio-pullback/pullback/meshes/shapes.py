"""The triangles of a mesh of somebody else's, from a glb, obj or ply: checked, and nothing else of the disk.

Only the file itself is read. A mtl, a texture or a buffer that it names elsewhere, on whatever path, is not opened: the
shape and its texture coordinates are in the file, and the colours will be new ones.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, first_line
from ..output.mesh_files import UP

MOST_FACES = 2_000_000
"""What is larger is refused: it says nothing more at a render's size, and takes minutes and gigabytes to read."""
MOST_BYTES = 1_000_000_000
MOST_UNITS = 1e100
"""A width whose powers are numbers of double precision."""


@dataclass
class Shape:
    """Triangles as their file has them.

    Attributes:
        vertices: [N, 3] float64, in the file's axes and units; those of a face are finite.
        faces: [M, 3] indices into them, each with an area.
        uv: [N, 2] texture coordinates as the file has them, t up, or None where a part has none.
        parts: How many the file has.
        up: The file's axis that is up, a key of AXES.
        notes: What was found and done, each a sentence without a full stop.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None
    parts: int
    up: str
    notes: list[str] = field(default_factory=list)


def read_shape(path: str | Path) -> Shape:
    """Reads the triangles of a glb, obj or ply.

    Raises:
        UserError: They cannot be used; the sentence says why.
    """
    path = Path(path)
    vertices, faces, uv, parts, notes = _parsed(path)
    if len(faces) == 0:
        raise UserError(f"{path} has no faces ({len(vertices)} points); give a mesh of triangles")
    if len(faces) > MOST_FACES:
        raise UserError(f"{path} has {len(faces)} faces; at most {MOST_FACES} are read, simplify it first")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise UserError(f"{path} has a face with vertex {int(faces.max())} of {len(vertices)}; export it again")
    if wrong := int((~np.isfinite(vertices[np.unique(faces)]).all(1)).sum()):
        raise UserError(f"{path} has {wrong} vertices that are not finite; export it again without them")
    used = vertices[faces.ravel()]
    width = (used.max(0) / 2 - used.min(0) / 2).max() * 2
    if not width < MOST_UNITS:
        raise UserError(f"{path} reaches over more than {MOST_UNITS:.0e} units; export it again in others")
    a, b, c = (vertices[faces] / max(width, np.finfo(float).tiny)).transpose(1, 0, 2)
    flat = np.linalg.norm(np.cross(b - a, c - a), axis=1) <= 1e-14
    if flat.all():
        raise UserError(f"{path} has no face with an area; give a mesh of triangles")
    if flat.any():
        faces = faces[~flat]
        notes.append(f"{int(flat.sum())} faces without an area are left out")
    return Shape(vertices, faces, uv, parts, UP[_kind(path)], notes)


def _kind(path: Path) -> str:
    return path.suffix.lstrip(".").lower()


def _parsed(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int, list[str]]:
    """Vertices, faces and, where every part has them, texture coordinates; the number of parts; and what to note."""
    if _kind(path) not in UP:
        raise UserError(f"{path} is no mesh that can be read; give one that ends in .{', .'.join(UP)}")
    if not path.is_file():
        raise UserError(f"there is no file {path}; give a mesh, {', '.join(UP)}")
    if (bytes_ := os.path.getsize(path)) > MOST_BYTES:
        raise UserError(
            f"{path} has {bytes_ / 1e9:.1f} GB; at most {MOST_BYTES / 1e9:.0f} GB are read, simplify it first"
        )
    import trimesh

    options: dict[str, Any] = {"resolver": _Nothing(), "process": False}
    notes, content = list[str](), path.read_bytes()
    if _kind(path) == "obj":
        options["skip_materials"] = True
        if re.search(rb"^\s*(mtllib|usemtl)\b", content, re.M):
            notes.append("its materials and their textures are not read: the colours will be new ones")
    try:
        with np.errstate(all="ignore"):
            loaded = trimesh.load_scene(io.BytesIO(content), file_type=_kind(path), **options)
            parts = [part for part in loaded.dump() if isinstance(part, trimesh.Trimesh)]
    except Exception as error:  # whatever a parser raises for a broken file
        raise UserError(f"{path} cannot be read as {_kind(path)} ({first_line(error)}); export it again") from error
    if not parts:
        raise UserError(f"{path} has no faces (0 points); give a mesh of triangles")
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([np.asarray(part.vertices, float) for part in parts])
    faces = np.concatenate([np.asarray(part.faces, np.int64) + n for part, n in zip(parts, starts[:-1], strict=True)])
    uvs = [getattr(part.visual, "uv", None) for part in parts]
    own = all(uv is not None and len(uv) == len(part.vertices) for uv, part in zip(uvs, parts, strict=True))
    return vertices, faces, np.concatenate([np.asarray(uv, float) for uv in uvs]) if own else None, len(parts), notes


class _Nothing:
    """A resolver of file names that opens no file, whatever a mesh names."""

    def get(self, name: str) -> bytes:
        """Refuses."""
        raise FileNotFoundError(f"it needs another file, {os.path.basename(name)!r}, which is not read")

    __getitem__ = get

    def namespaced(self, namespace: str) -> _Nothing:
        """Itself."""
        return self
