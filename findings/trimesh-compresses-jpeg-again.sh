#!/usr/bin/env bash
# trimesh 5.2.0: a texture that is a JPEG, opened by Pillow, is compressed again when a mesh is exported as glb, at Pillow's
# default quality of 75, though the code says "don't re-encode JPEGs". Whoever saved it at a high quality loses it.
# Seen: a JPEG of quality 98 has in the glb the quantisation table of quality 75, and differs from the given one by 5 of 255 in
# the mean. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check trimesh==5.2.0 numpy==2.4.6 pillow==13.0.0
"$folder/venv/bin/python" - <<'PY'
import io
import json
import struct

import numpy as np
import PIL
import trimesh
from PIL import Image


def jpeg(picture, quality):
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=0)
    return Image.open(io.BytesIO(buffer.getvalue()))


y, x = np.mgrid[:128, :128] / 128
noise = np.random.default_rng(0).normal(0, 6, (128, 128, 3))
picture = Image.fromarray((np.stack([255 * x, 255 * y, 128 + 100 * np.sin(20 * x)], -1) + noise).clip(0, 255).astype(np.uint8))
given, poor = jpeg(picture, 98), jpeg(picture, 75)
mesh = trimesh.creation.box()
uv = np.random.default_rng(0).random((8, 2))
mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=trimesh.visual.material.PBRMaterial(baseColorTexture=given))
glb = mesh.export(file_type="glb")
length = struct.unpack_from("<I", glb, 12)[0]
tree, data = json.loads(glb[20 : 20 + length]), glb[28 + length :]
view = tree["bufferViews"][tree["images"][0]["bufferView"]]
start = view.get("byteOffset", 0)
found = Image.open(io.BytesIO(data[start : start + view["byteLength"]]))
difference = np.abs(np.asarray(found.convert("RGB")).astype(int) - np.asarray(given.convert("RGB"))).mean()
print(f"trimesh {trimesh.__version__}, Pillow {PIL.__version__}: first of the quantisation table: given {given.quantization[0][:4]}, "
      f"in the glb {found.quantization[0][:4]}, of quality 75 {poor.quantization[0][:4]}; mean difference {difference:.2f} of 255")
assert found.quantization[0] == poor.quantization[0] != given.quantization[0], "the JPEG is no longer compressed at quality 75"
PY
