#!/usr/bin/env bash
# trimesh 5.2.0: the colours of vertices go into a glb's COLOR_0 as they are, as bytes, and without a material. The format
# (glTF 2.0, section 3.7.2.1) says that COLOR_0 is linear, and that a mesh without a material is white, of metal. So a viewer
# shows colours that are meant for a screen, sRGB, too bright, and nearly black under lamps that are no surroundings.
# Seen: (156, 76, 82) is in the file as these bytes, which mean (205, 148, 154) on a screen, and there is no material.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check trimesh==5.2.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import json
import struct

import numpy as np
import trimesh

colour = (156, 76, 82)
mesh = trimesh.creation.box()
mesh.visual.vertex_colors = np.tile([*colour, 255], (8, 1)).astype(np.uint8)
glb = mesh.export(file_type="glb")
length = struct.unpack_from("<I", glb, 12)[0]
tree, data = json.loads(glb[20 : 20 + length]), glb[28 + length :]
(primitive,) = tree["meshes"][0]["primitives"]
accessor = tree["accessors"][primitive["attributes"]["COLOR_0"]]
assert accessor["componentType"] == 5121 and accessor["normalized"]
start = tree["bufferViews"][accessor["bufferView"]].get("byteOffset", 0)
stored = np.frombuffer(data, np.uint8, 3, start)
linear = stored / 255
shown = np.rint(255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)).astype(int)
print(f"trimesh {trimesh.__version__}: given {colour}, stored {tuple(stored.tolist())}, which is {tuple(shown.tolist())} on a screen")
print(f"  material of the mesh: {primitive.get('material')}; materials in the file: {tree.get('materials')}")
assert tuple(stored) == colour, "the colours are no longer stored as they come"
assert "material" not in primitive, "there is a material now"
PY
