"""Meshes in files that other programs open: glb (glTF 2.0), obj with or without mtl, ply.

Coordinates are written as they come; `UP` says which way is up in a format. Colours come as pictures have them, sRGB in
[0, 1]. glTF wants them linear at vertices, which no common library does: the file is put together here.
"""

from __future__ import annotations

import io
import json
import os
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ConfigError
from . import whole
from .arrays import to_bytes

# glTF says y is up and +z the front. obj says nothing and is read like that; ply is read with z up and −y the front.
UP = {"glb": "y", "obj": "y", "ply": "z"}
# The world has z up, and azimuth 0°, which prompts call the front, at +x. Rows: a file's axes in those of the world.
AXES = {"y": ((0, 1, 0), (0, 0, 1), (1, 0, 0)), "z": ((0, 1, 0), (-1, 0, 0), (0, 0, 1))}
_GLTF_TYPES = {np.dtype(np.float32): 5126, np.dtype(np.uint32): 5125}


@dataclass
class MeshData:
    """What a file holds.

    Attributes:
        v_pos: [N, 3] vertices.
        t_pos_idx: [M, 3] indices, counter-clockwise from outside.
        v_nrm: [N, 3] unit normals, or None.
        v_rgb: [N, 3] colours in [0, 1], or None.
        v_tex: [K, 2] texture coordinates, v down from the top, or None.
        t_tex_idx: [M, 3] indices into v_tex, or None.
        texture: [H, W, 3] colours in [0, 1], or None.
        texture_format: "jpg" or "png".
        material: Whether an obj has a mtl beside it.
        extras: What the file says of its origin, where the format has a place for it.
    """

    v_pos: np.ndarray
    t_pos_idx: np.ndarray
    v_nrm: np.ndarray | None = None
    v_rgb: np.ndarray | None = None
    v_tex: np.ndarray | None = None
    t_tex_idx: np.ndarray | None = None
    texture: np.ndarray | None = None
    texture_format: str = "jpg"
    material: bool = False
    extras: dict[str, Any] = field(default_factory=dict)


def save(path: str, mesh: MeshData) -> None:
    """Writes a mesh; the ending is the format. A mtl and a texture go beside an obj."""
    kind = os.path.splitext(path)[1].lstrip(".").lower()
    if kind not in UP:
        raise ConfigError("fmt", f"is one of {', '.join(UP)}, not '{kind}'")
    if kind == "glb":
        whole.write(path, glb(mesh))
    elif kind == "ply":
        whole.write(path, ply(mesh))
    else:
        stem = os.path.splitext(path)[0]
        if mesh.material:
            picture = f"texture_kd.{mesh.texture_format}" if mesh.texture is not None else None
            if mesh.texture is not None:
                whole.write(os.path.join(os.path.dirname(path), f"texture_kd.{mesh.texture_format}"), _picture(mesh))
            whole.write(f"{stem}.mtl", mtl(picture).encode())
        whole.write(path, obj(mesh, f"{os.path.basename(stem)}.mtl" if mesh.material else None).encode())


def to_linear(colours: np.ndarray) -> np.ndarray:
    """Linear values of sRGB values, both in [0, 1] (IEC 61966-2-1)."""
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _picture(mesh: MeshData) -> bytes:
    """The texture as the bytes of a file."""
    from PIL import Image

    assert mesh.texture is not None
    buffer = io.BytesIO()
    options = {"quality": 97, "subsampling": 0} if mesh.texture_format == "jpg" else {}
    kind = "JPEG" if mesh.texture_format == "jpg" else "PNG"
    Image.fromarray(to_bytes(mesh.texture, (0, 1))).save(buffer, kind, **options)
    return buffer.getvalue()


# ---- glTF 2.0, https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html


class _Buffer:
    """The binary part of a glb, with its views and accessors."""

    def __init__(self) -> None:
        self.data, self.views, self.accessors = bytearray(), [], []

    def view(self, content: bytes, **more: Any) -> int:
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content), **more})
        self.data += content + b"\0" * (-len(content) % 4)
        return len(self.views) - 1

    def accessor(self, values: np.ndarray, kind: str, target: int, **more: Any) -> int:
        view = self.view(np.ascontiguousarray(values).tobytes(), target=target)
        count = len(values)
        self.accessors.append(
            {"bufferView": view, "componentType": _GLTF_TYPES[values.dtype], "count": count, "type": kind, **more}
        )
        return len(self.accessors) - 1


def glb(mesh: MeshData) -> bytes:
    """A glTF 2.0 binary with one mesh and one material: not metallic, rough, its colour the texture or the vertices'.

    Vertices on the edge of a chart are there once for each of their texture coordinates.
    """
    vertex, at_tex, faces = _corners(mesh)
    buffer = _Buffer()

    def attribute(values: np.ndarray, kind: str, **more: Any) -> int:
        return buffer.accessor(values.astype(np.float32), kind, 34962, **more)

    position = mesh.v_pos[vertex].astype(np.float32)
    bounds = {"min": position.min(0).tolist(), "max": position.max(0).tolist()}
    attributes = {"POSITION": attribute(position, "VEC3", **bounds)}
    shading: dict[str, Any] = {"metallicFactor": 0, "roughnessFactor": 1}
    more: dict[str, Any] = {}
    if mesh.v_nrm is not None:
        attributes["NORMAL"] = attribute(mesh.v_nrm[vertex], "VEC3")
    if mesh.v_rgb is not None:
        attributes["COLOR_0"] = attribute(to_linear(np.clip(mesh.v_rgb[vertex], 0, 1)), "VEC3")
    if mesh.v_tex is not None:
        attributes["TEXCOORD_0"] = attribute(mesh.v_tex[at_tex], "VEC2")
    if mesh.texture is not None:
        kind = "image/jpeg" if mesh.texture_format == "jpg" else "image/png"
        more["images"] = [{"bufferView": buffer.view(_picture(mesh)), "mimeType": kind}]
        more["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}]  # linear, clamped
        more["textures"] = [{"source": 0, "sampler": 0}]
        shading["baseColorTexture"] = {"index": 0}
    indices = buffer.accessor(faces.astype(np.uint32).reshape(-1), "SCALAR", 34963)
    tree = {
        "asset": {"version": "2.0", "generator": "threestudio-pullback", "extras": mesh.extras},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": shading}],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
        **more,
    }
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    chunks += struct.pack("<I4s", len(buffer.data), b"BIN\0") + bytes(buffer.data)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def _corners(mesh: MeshData) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One vertex for each pair of vertex and texture coordinate: their indices [K], [K], and faces [M, 3] of pairs."""
    if mesh.t_tex_idx is None or mesh.v_tex is None:
        every = np.arange(len(mesh.v_pos))
        return every, every, mesh.t_pos_idx
    pairs = mesh.t_pos_idx.astype(np.int64) * len(mesh.v_tex) + mesh.t_tex_idx
    unique, faces = np.unique(pairs, return_inverse=True)
    return unique // len(mesh.v_tex), unique % len(mesh.v_tex), faces.reshape(-1, 3)


# ---- Wavefront obj, in the form of threestudio's


def obj(mesh: MeshData, material: str | None) -> str:
    """The text of an obj.

    Args:
        mesh: Colours at its vertices follow their coordinates.
        material: The name of its mtl's file, or None.
    """
    lines = [f"# {key}: {' '.join(str(value).split())}" for key, value in mesh.extras.items()]
    lines += [f"mtllib {material}", "g object", "usemtl default"] if material else []
    vertices = mesh.v_pos if mesh.v_rgb is None else np.concatenate([mesh.v_pos, np.clip(mesh.v_rgb, 0, 1)], 1)
    lines += _lines("v", vertices)
    lines += _lines("vn", mesh.v_nrm) if mesh.v_nrm is not None else []
    lines += _lines("vt", mesh.v_tex * [1, -1] + [0, 1]) if mesh.v_tex is not None else []
    position = (mesh.t_pos_idx + 1).astype(str)
    corner = position
    if mesh.t_tex_idx is not None or mesh.v_nrm is not None:
        corner = np.char.add(position, "/")
        corner = np.char.add(corner, (mesh.t_tex_idx + 1).astype(str)) if mesh.t_tex_idx is not None else corner
        if mesh.v_nrm is not None:
            corner = np.char.add(np.char.add(corner, "/"), position)
    lines += [f"f {a} {b} {c}" for a, b, c in corner]
    return "\n".join(lines) + "\n"


def _lines(name: str, values: np.ndarray) -> list[str]:
    return [f"{name} " + " ".join(f"{x:.6g}" for x in row) for row in values.tolist()]


def mtl(texture: str | None) -> str:
    """The text of a mtl with a rough material that is not metallic, white or of a texture's colours."""
    lines = ["newmtl default", "Ka 0 0 0", "Kd 1 1 1", "Ks 0 0 0", "Pm 0", "Pr 1", "illum 1"]
    return "\n".join([*lines, *([f"map_Kd {texture}"] if texture else [])]) + "\n"


# ---- the Stanford format


def ply(mesh: MeshData) -> bytes:
    """A binary ply, with normals and with colours as bytes where there are any."""
    import trimesh

    colours: Any = None if mesh.v_rgb is None else to_bytes(mesh.v_rgb, (0, 1))
    shape = trimesh.Trimesh(mesh.v_pos, mesh.t_pos_idx, vertex_normals=mesh.v_nrm, vertex_colors=colours, process=False)
    content: Any = shape.export(file_type="ply", vertex_normal=mesh.v_nrm is not None)
    return content
