#!/usr/bin/env bash
# fast-simplification 0.2.0: a closed surface, with two triangles at every edge, may come back with edges that have four: two
# sheets that touch along an edge. It is then no manifold, "watertight" in no common check, and other programs refuse or cut it.
# The same is in what it was made of (Fast-Quadric-Mesh-Simplification collapses an edge without a look at the edge's neighbours).
# manifold3d 3.5.4 takes such a mesh and cuts the sheets apart.
# Seen, of a sphere of 20,480 triangles with bumps, at 2,000 triangles: 3 to 5 such edges. Fails if there are none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check fast-simplification==0.2.0 manifold3d==3.5.4 trimesh==5.2.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
from importlib.metadata import version

import fast_simplification
import manifold3d
import numpy as np
import trimesh


def edges(faces):
    """How many edges have how many triangles."""
    ends = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    counts = np.unique(ends, axis=0, return_counts=True)[1]
    return {int(n): int((counts == n).sum()) for n in np.unique(counts)}


sphere = trimesh.creation.icosphere(5)
print(f"fast-simplification {version('fast-simplification')}, manifold3d {version('manifold3d')}")
broken = 0
for seed in range(3):
    bumps = 1 + 0.2 * np.random.default_rng(seed).standard_normal(len(sphere.vertices))
    vertices, faces = (sphere.vertices * bumps[:, None]).astype(np.float32), sphere.faces.astype(np.int32)
    assert set(edges(faces)) == {2}
    fewer = fast_simplification.simplify(vertices, faces, target_count=2000)
    clean = manifold3d.Manifold(manifold3d.Mesh(fewer[0], fewer[1].astype(np.uint32))).to_mesh().tri_verts
    print(f"  bumps {seed}: triangles an edge: before {edges(faces)}, after {edges(fewer[1])}, by manifold3d {edges(clean)}")
    broken += set(edges(fewer[1])) != {2}
    assert set(edges(clean)) == {2}
assert broken, "closed surfaces stay closed now"
PY
