"""A small reader of glb files, apart from what writes them: the tree, and accessors and images as arrays."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


class Glb:
    def __init__(self, path: Path) -> None:
        content = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        chunks, at = {}, 12
        while at < length:
            size, kind = struct.unpack_from("<I4s", content, at)
            assert size % 4 == 0
            chunks[kind] = content[at + 8 : at + 8 + size]
            at += 8 + size
        assert list(chunks) == [b"JSON", b"BIN\0"]
        self.tree: dict[str, Any] = json.loads(chunks[b"JSON"])
        self.data = chunks[b"BIN\0"]
        (self.mesh,) = self.tree["meshes"]
        (self.primitive,) = self.mesh["primitives"]

    def view(self, index: int) -> bytes:
        view = self.tree["bufferViews"][index]
        start = view.get("byteOffset", 0)
        assert start % 4 == 0 and start + view["byteLength"] <= self.tree["buffers"][0]["byteLength"] <= len(self.data)
        return self.data[start : start + view["byteLength"]]

    def array(self, index: int) -> np.ndarray:
        accessor = self.tree["accessors"][index]
        values = np.frombuffer(self.view(accessor["bufferView"]), TYPES[accessor["componentType"]])
        values = values.reshape(accessor["count"], WIDTHS[accessor["type"]])
        for name, of in (("min", values.min), ("max", values.max)):
            if name in accessor:
                assert np.array_equal(accessor[name], of(0))
        return values

    def attribute(self, name: str) -> np.ndarray:
        return self.array(self.primitive["attributes"][name])

    @property
    def faces(self) -> np.ndarray:
        return self.array(self.primitive["indices"]).reshape(-1, 3).astype(np.int64)

    @property
    def material(self) -> dict[str, Any]:
        return self.tree["materials"][self.primitive["material"]]

    @property
    def texture(self) -> np.ndarray:
        """The colours of the material as [H, W, 3] in [0, 1], sRGB."""
        index = self.material["pbrMetallicRoughness"]["baseColorTexture"]["index"]
        image = self.tree["images"][self.tree["textures"][index]["source"]]
        picture = Image.open(io.BytesIO(self.view(image["bufferView"])))
        assert image["mimeType"] == f"image/{(picture.format or '').lower()}"
        return np.asarray(picture.convert("RGB")) / 255


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)
