"""Meshes of others: what is kept, what is made, and what is said of bad ones."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
from pullback.errors import UserError
from pullback.meshes import reading, shapes
from pullback.meshes.reading import read
from pullback.output.mesh_files import MeshData, save

SQUARE = "v 0 0 0\nv 2 0 0\nv 2 1 0\nv 0 1 0\n"
CHART = "vt 0 0\nvt 1 0\nvt 1 0.5\nvt 0 0.5\n"
OWN = SQUARE + CHART + "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"


def obj(folder: Path, text: str) -> Path:
    file = folder / "mesh.obj"
    file.write_text(text)
    return file


def test_texture_coordinates_are_kept_and_run_down(tmp_path):
    surface = read(obj(tmp_path, OWN))
    assert surface.notes == [] and surface.up == "y"
    at = {tuple(surface.vertices[v]): tuple(surface.coordinates[t])
          for v, t in zip(surface.faces.ravel(), surface.corners.ravel(), strict=True)}  # fmt: skip
    assert at == {(0, 0, 0): (0, 1), (2, 0, 0): (1, 1), (2, 1, 0): (1, 0.5), (0, 1, 0): (0, 0.5)}


@pytest.mark.parametrize("kind", ["glb", "obj", "ply"])
def test_a_mesh_without_charts_gets_some_that_do_not_overlap(kind, tmp_path):
    box = trimesh.creation.box((1, 2, 3))
    file = tmp_path / f"box.{kind}"
    save(str(file), MeshData(np.asarray(box.vertices), np.asarray(box.faces)))
    surface = read(file, 64)
    assert surface.notes == ["it gets new texture coordinates: it has none"]
    assert len(surface.faces) == 12 and sorted(np.ptp(surface.vertices, 0)) == pytest.approx([1, 2, 3])
    assert reading._trouble(surface.coordinates, surface.corners, 1) is None


def test_a_glb_keeps_its_own_charts(tmp_path):
    places, faces = np.array([[0.1, 0.2], [0.9, 0.2], [0.1, 0.7]]), np.array([[0, 1, 2]])
    own = MeshData(np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), faces,
                   v_tex=places, t_tex_idx=faces)  # fmt: skip
    save(str(tmp_path / "a.glb"), own)
    surface = read(tmp_path / "a.glb")
    assert np.allclose(surface.coordinates[surface.corners], places[faces], atol=1e-6)


@pytest.mark.parametrize("kind", ["glb", "ply"])
def test_the_front_of_a_file_is_the_front_of_the_world(kind, tmp_path):
    """A point ahead and one above, by the format's own axes."""
    ahead, above = {"glb": ([0, 0, 1], [0, 1, 0]), "ply": ([0, -1, 0], [0, 0, 1])}[kind]
    corners = np.array([ahead, above, np.negative(ahead), np.negative(above)], float)
    save(str(tmp_path / f"a.{kind}"), MeshData(corners, np.array([[0, 1, 2], [0, 2, 3]])))
    world = read(tmp_path / f"a.{kind}").in_world(0.5)
    assert np.allclose(world[np.argmax(world[:, 0])], [0.5, 0, 0]) and np.allclose(world.max(0), [0.5, 0, 0.5])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no faces (0 points)"),
        (SQUARE, "has no faces"),
        (SQUARE.replace("2 1 0", "nan 1 0") + "f 1 2 3\n", "1 vertices that are not finite"),
        (SQUARE.replace("2 1 0", "2 inf 0") + "f 1 2 3\n", "1 vertices that are not finite"),
        (SQUARE + "f 1 2 9\n", "cannot be read as obj"),
        ("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n", "no face with an area"),
        ("v 0 0 0\nv 1e300 0 0\nv 0 1 0\nf 1 2 3\n", "reaches over more than 1e+100 units"),
    ],
)
def test_bad_meshes_are_refused_in_a_sentence(text, words, tmp_path):
    with pytest.raises(UserError) as error:
        read(obj(tmp_path, text))
    assert words in str(error.value) and "\n" not in str(error.value) and not str(error.value).endswith(".")


def glb_of_another_file(uri: str) -> bytes:
    """A glb of one triangle whose buffer lies elsewhere."""
    text = json.dumps({
        "asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}], "buffers": [{"uri": uri, "byteLength": 36}],
    }).encode()  # fmt: skip
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sII", b"glTF", 2, 20 + len(text)) + struct.pack("<I4s", len(text), b"JSON") + text


def test_files_that_are_no_meshes_are_refused(tmp_path):
    for name, content, words in (
        ("a.stl", b"solid", "ends in .glb, .obj, .ply"),
        ("a.glb", b"glTF1234", "cannot be read as glb"),
        ("a.ply", b"ply\n", "cannot be read as ply"),
        ("b.glb", glb_of_another_file("/etc/passwd"), "needs another file, 'passwd', which is not read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words):
            read(tmp_path / name)
    with pytest.raises(UserError, match="there is no file"):
        read(tmp_path / "nowhere.obj")


def test_no_other_file_is_opened(tmp_path):
    """A mtl on an absolute path, one above the folder, one beside the mesh, their textures: only the mesh is read."""
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    (tmp_path / "in").mkdir()
    for folder in (tmp_path, tmp_path / "in"):
        (folder / "secret.mtl").write_text("newmtl a\nmap_Kd /etc/hostname\n")
    for name in (str(tmp_path / "secret.mtl"), "../secret.mtl", "/etc/passwd", "secret.mtl", "missing.mtl"):
        file = obj(tmp_path / "in", f"mtllib {name}\nusemtl a\n{OWN}")
        opened.clear()
        surface = read(file)
        assert len(surface.faces) == 2
        assert surface.notes == ["its materials and their textures are not read: the colours will be new ones"]
        assert [path for path in opened if path.startswith((str(tmp_path), "/etc"))] == [str(file)]


def test_shapes_that_can_be_used_are_used_and_said(tmp_path):
    fan = "v 0 0 0\nv 0 1 0\nv 1 0 0\nv -1 0 0\nv 0 0 1\n" + "f 1 2 3\nf 1 2 4\nf 1 2 5\n"
    assert "no manifold: 1 edges" in " ".join(read(obj(tmp_path, fan)).notes)
    flat = SQUARE + "f 1 2 3\nf 1 3 4\nf 1 1 2\n"
    assert "1 faces without an area are left out" in read(obj(tmp_path, flat)).notes
    repeated = OWN.replace("vt 1 0\n", "vt 7 0\n")
    assert "go beyond the texture" in " ".join(read(obj(tmp_path, repeated)).notes)


def test_kilometres_away_and_wide_a_mesh_keeps_its_shape(tmp_path):
    """A square of 20 km at a map's coordinates is the square of 2 in the world, and keeps its own numbers."""
    far = "".join(f"v {5e6 + 1e4 * x} {4e6 + 1e4 * y} 0\n" for x, y in ((0, 0), (2, 0), (2, 1), (0, 1)))
    surface, near = read(obj(tmp_path, OWN.replace(SQUARE, far))), read(obj(tmp_path, OWN))
    assert "2e+04 units wide" in surface.notes[0] and surface.vertices.max() == 5.02e6
    assert np.allclose(surface.in_world(0.7), near.in_world(0.7), atol=1e-9)


def test_millions_of_faces_are_refused_before_they_are_cut_into_charts(tmp_path, monkeypatch):
    file = obj(tmp_path, SQUARE + "f 1 2 3\nf 1 3 4\n")
    monkeypatch.setattr(reading, "MOST_UNWRAPPED", 1)
    with pytest.raises(UserError, match=r"2 faces, and needs .*since it has none; at most 1 are cut into charts"):
        read(file)
    assert len(read(obj(tmp_path, OWN)).faces) == 2  # with charts of its own it may have more
    monkeypatch.setattr(shapes, "MOST_FACES", 1)
    with pytest.raises(UserError, match="has 2 faces; at most 1 are read, simplify it first"):
        read(file)
