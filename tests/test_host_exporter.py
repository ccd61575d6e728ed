"""Exported meshes, by what their files say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from gltf_file import Glb, to_srgb
from PIL import Image
from pullback.errors import UserError
from pullback.host.scene.exporter import DummyExporter, MeshExporter
from pullback.host.scene.material import NoMaterial
from pullback.host.scene.volume_grid import VolumeGrid
from pullback.host.training.saving import SaverMixin

RADIUS, SIZE, BALL = 1.5, 40, 0.8
RGB = {"color_activation": "none"}


def ball(**more: Any) -> VolumeGrid:
    """Density 10 on the sphere |x| = 0.8 and falling outwards; features are the position scaled to [0, 1]."""
    field = VolumeGrid(
        {
            "radius": RADIUS,
            "grid_size": [SIZE] * 3,
            "density_bias": 0.0,
            "density_activation": "relu",
            "isosurface_threshold": 10.0,
            "isosurface_resolution": 40,
            **more,
        }
    )
    axis = RADIUS * ((torch.arange(SIZE) + 0.5) / SIZE * 2 - 1)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    with torch.no_grad():
        field.grid[0, 0] = 10 * (1 + 5 * (BALL - (x**2 + y**2 + z**2).sqrt()))
        field.grid[0, 1:] = torch.stack([x, y, z]) / (2 * RADIUS) + 0.5
    return field


def exporter(geometry: VolumeGrid, **cfg: Any) -> MeshExporter:
    return MeshExporter(cfg, geometry=geometry, material=NoMaterial(RGB), background=None)


def written(folder: Path, geometry: VolumeGrid, **cfg: Any) -> Path:
    """The file of an export."""
    (output,) = exporter(geometry, **cfg)()
    assert output.save_type == "mesh"
    saver = SaverMixin()
    saver.set_save_dir(str(folder))
    return Path(saver.save_mesh(output.save_name, **output.params))


def in_world(points: np.ndarray, up: str) -> np.ndarray:
    """From a file's axes: in glTF and obj x is to the right, y up, z to the viewer, in ply −y is to the viewer, z up.

    In the world, the viewer of azimuth 0 is at +x, and +y to its right.
    """
    x, y, z = np.asarray(points).T
    return np.stack([z, x, y] if up == "y" else [-y, x, z], -1)


def shown(positions: np.ndarray) -> np.ndarray:
    """The colour of the ball where a ray to its centre goes through the positions, by a fine quadrature."""
    r = np.linspace(BALL + 0.1 * RADIUS, BALL - 0.2 * RADIUS, 4001)
    density = np.maximum(10 * (1 + 5 * (BALL - r)), 0)
    weight = density * np.exp(-np.cumsum(density) * (r[0] - r[1]))
    depth = (weight * r).sum() / weight.sum()
    return depth * positions / np.linalg.norm(positions, axis=-1, keepdims=True) / (2 * RADIUS) + 0.5


# ---- what is written


@pytest.mark.parametrize("fmt", ["obj", "glb", "ply"])
def test_a_ball_is_written_with_the_right_size_and_colours(fmt: str, tmp_path: Path) -> None:
    path = written(tmp_path, ball(), fmt=fmt, save_name="ball", save_uv=False)
    assert path.name == f"ball.{fmt}"
    mesh: Any = trimesh.load(path, force="mesh", process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent
    voxel = 2 * RADIUS / SIZE
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - BALL).max() < voxel
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * BALL**3, rel=0.02)
    colours = to_srgb(Glb(path).attribute("COLOR_0")) if fmt == "glb" else mesh.visual.vertex_colors[:, :3] / 255
    expected = shown(in_world(mesh.vertices, "z" if fmt == "ply" else "y"))
    np.testing.assert_allclose(colours, expected, atol=0.01)


@pytest.mark.parametrize("save_uv", [False, True])
def test_a_glb_says_all_that_a_viewer_needs(save_uv: bool, tmp_path: Path) -> None:
    glb = Glb(written(tmp_path, ball(), fmt="glb", save_uv=save_uv, faces=3000, texture_size=64))
    assert glb.tree["asset"]["version"] == "2.0"
    shading = glb.material["pbrMetallicRoughness"]
    assert (shading["metallicFactor"], shading["roughnessFactor"]) == (0, 1)
    position, normal = glb.attribute("POSITION"), glb.attribute("NORMAL")
    assert len(glb.faces) <= 3000 and glb.faces.max() == len(position) - 1
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
    assert (normal * position / BALL).sum(1).min() > 0.97  # of a ball they point away from its centre
    where = {"POSITION", "NORMAL", "TEXCOORD_0" if save_uv else "COLOR_0"}
    assert set(glb.primitive["attributes"]) == where and ("images" in glb.tree) == save_uv
    assert {"min", "max"} <= glb.tree["accessors"][glb.primitive["attributes"]["POSITION"]].keys()
    welded = trimesh.Trimesh(position, glb.faces)
    welded.merge_vertices(merge_norm=True, merge_tex=True)
    assert welded.is_watertight


@pytest.mark.parametrize(("fmt", "kind"), [("glb", "png"), ("glb", "jpg"), ("obj-mtl", "jpg")])
def test_a_texture_has_the_colours_of_the_surface(fmt: str, kind: str, tmp_path: Path) -> None:
    path = written(tmp_path, ball(), fmt=fmt, texture_format=kind, texture_size=256, faces=2000)
    if fmt == "glb":
        glb = Glb(path)
        position, at = (glb.attribute(name)[glb.faces] for name in ("POSITION", "TEXCOORD_0"))
        picture = glb.texture
    else:
        position, at, picture = obj_corners(path)
    assert picture.shape == (256, 256, 3)
    weights = np.random.default_rng(0).dirichlet([1, 1, 1], len(position))[:, :, None]  # a point of each triangle
    colours = bilinear(picture, (weights * at).sum(1))
    difference = np.abs(colours - shown(in_world((weights * position).sum(1), "y")))
    assert np.quantile(difference, 0.999) < 3 / 255 and difference.max() < 8 / 255


def obj_corners(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions and texture coordinates [M, 3, …] of an obj with a mtl beside it, v down, and its texture."""
    rows = [line.split() for line in path.read_text().splitlines()]
    (library,) = (row[1] for row in rows if row[0] == "mtllib")
    material = dict(line.split(maxsplit=1) for line in (path.parent / library).read_text().splitlines())
    assert (material["newmtl"], material["Kd"], material["Ks"]) == ("default", "1 1 1", "0 0 0")
    assert ["usemtl", "default"] in rows
    v, vt = (np.array([row[1:] for row in rows if row[0] == name], float) for name in ("v", "vt"))
    corners = np.array([[corner.split("/") for corner in row[1:]] for row in rows if row[0] == "f"], int) - 1
    assert (corners[..., 0] == corners[..., 2]).all()  # normals are the vertices'
    picture = np.asarray(Image.open(path.parent / material["map_Kd"]).convert("RGB")) / 255
    return v[corners[..., 0]], vt[corners[..., 1]] * [1, -1] + [0, 1], picture


def bilinear(picture: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The picture's colours at texture coordinates [N, 2], v down, as a renderer finds them."""
    size = picture.shape[0]
    place = at * size - 0.5
    low = np.floor(place).astype(int)
    share = (place - low)[:, :, None]
    x0, y0, x1, y1 = (np.clip(i, 0, size - 1) for i in (*low.T, *(low.T + 1)))
    upper = picture[y0, x0] * (1 - share[:, 0]) + picture[y0, x1] * share[:, 0]
    lower = picture[y1, x0] * (1 - share[:, 0]) + picture[y1, x1] * share[:, 0]
    return upper * (1 - share[:, 1]) + lower * share[:, 1]


def test_texels_beyond_a_chart_are_its_neighbours(tmp_path: Path) -> None:
    """So that a renderer that takes smaller pictures for far objects shows no seams."""
    picture = Glb(written(tmp_path, ball(), fmt="glb", texture_size=256, texture_format="png", faces=2000)).texture
    on_the_ball = np.linalg.norm((picture - 0.5) * 2 * RADIUS, axis=-1)
    assert on_the_ball.min() > BALL - 0.15 and on_the_ball.max() < BALL + 0.15  # black would be 1.5 * sqrt(3)


def test_obj_lines_carry_position_and_colour(tmp_path: Path) -> None:
    (output,) = exporter(ball(), fmt="obj", faces=1000)()
    path = written(tmp_path, ball(), fmt="obj", faces=1000)
    lines = path.read_text().splitlines()
    vertices = [line.split() for line in lines if line[:2] == "v "]
    assert len(vertices) == len(output.params["v_pos"])
    assert all(len(v) == 7 for v in vertices)
    assert not any(line.startswith("mtllib") for line in lines) and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("fmt", ["obj", "obj-mtl"])
@pytest.mark.parametrize("save_normal", [False, True])
@pytest.mark.parametrize("save_uv", [False, True])
def test_an_obj_has_the_lines_that_its_keys_ask_for(fmt: str, save_normal: bool, save_uv: bool, tmp_path: Path) -> None:
    keys = {"save_normal": save_normal, "save_uv": save_uv, "save_texture": False, "faces": 500}
    path = written(tmp_path, ball(), fmt=fmt, **keys)
    rows = [line.split() for line in path.read_text().splitlines()]
    counts = {name: sum(row[0] == name for row in rows) for name in ("v", "vn", "vt", "f", "mtllib")}
    assert counts["f"] <= 500 and counts["vn"] == counts["v"] * save_normal and (counts["vt"] > 0) == save_uv
    assert counts["mtllib"] == (fmt == "obj-mtl") and all(len(row) == 4 for row in rows if row[0] == "v")
    corner = next(row for row in rows if row[0] == "f")[1]
    assert corner.count("/") == (2 if save_normal else int(save_uv))
    assert ("//" in corner) == (save_normal and not save_uv)
    again: Any = trimesh.load(path, force="mesh")
    assert again.volume == pytest.approx(4 / 3 * math.pi * BALL**3, rel=0.03)
    if fmt == "obj-mtl":
        assert "map_Kd" not in path.with_suffix(".mtl").read_text()


def test_colours_can_be_left_out() -> None:
    (output,) = exporter(ball(), save_texture=False, faces=1000)()
    assert output.params["v_rgb"] is None and output.params.get("texture") is None


@pytest.mark.parametrize("faces", [100, 1000])
def test_fewer_triangles_keep_the_surface_closed(faces: int, tmp_path: Path) -> None:
    glb = Glb(written(tmp_path, ball(), fmt="glb", save_uv=False, faces=faces))
    mesh = trimesh.Trimesh(glb.attribute("POSITION"), glb.faces, process=False)
    assert 0.9 * faces <= len(mesh.faces) <= faces and mesh.is_watertight
    whole: Any = trimesh.load(written(tmp_path, ball(), fmt="ply", faces=0))
    assert mesh.volume == pytest.approx(whole.volume, rel=12 / faces)


def test_faces_0_keeps_all() -> None:
    (output,) = exporter(ball(), fmt="ply", faces=0)()
    assert len(output.params["t_pos_idx"]) == len(ball().isosurface().t_pos_idx)


def test_a_prompt_with_anything_in_it_stays_in_its_place(tmp_path: Path) -> None:
    (output,) = exporter(ball(), fmt="glb", save_uv=False, faces=500)()
    saver = SaverMixin()
    saver.set_save_dir(str(tmp_path))
    extras = {"prompt": 'a "red"\ncube\nf 1 2 3 ü', "seed": 7, "version": "x"}
    assert Glb(Path(saver.save_mesh("m.glb", extras=extras, **output.params))).tree["asset"]["extras"] == extras
    text = Path(saver.save_mesh("m.obj", extras=extras, **output.params)).read_text()
    assert '# prompt: a "red" cube f 1 2 3 ü\n# seed: 7\n' in text


def test_bytes_are_rounded(tmp_path: Path) -> None:
    saver = SaverMixin()
    saver.set_save_dir(str(tmp_path))
    mesh = trimesh.creation.box()
    colours = torch.full((8, 3), 0.5)
    path = saver.save_mesh("m.ply", torch.tensor(mesh.vertices), torch.tensor(mesh.faces), v_rgb=colours)
    again: Any = trimesh.load(path, process=False)
    assert (again.visual.vertex_colors[:, :3] == 128).all()


# ---- what is refused


def test_an_empty_field_is_refused_before_anything_is_written() -> None:
    field = ball()
    field.cfg.isosurface_threshold = 500.0
    with pytest.raises(UserError, match=r"isosurface_threshold.*500.*density lies between 0 and"):
        exporter(field)()


@pytest.mark.parametrize("least", [10**6, 1.5])
def test_outliers_that_are_all_there_is_are_refused_with_the_largest_count(least: float) -> None:
    field = ball(isosurface_outlier_n_faces_threshold=least, isosurface_coarse_to_fine=False)
    field.cfg.isosurface_remove_outliers = False
    count = len(field.isosurface().t_pos_idx)
    field.cfg.isosurface_remove_outliers = True
    with pytest.raises(UserError, match=rf"isosurface_outlier_n_faces_threshold.*largest part has {count} faces"):
        exporter(field)()


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        ({"fmt": "fbx"}, r"fmt.*obj-mtl, obj, glb, ply.*'fbx'"),
        ({"fmt": "obj-mtl", "save_uv": False}, r"save_uv.*must be true where fmt is obj-mtl"),
        ({"save_name": ".."}, r"save_name.*without a folder, not '\.\.'"),
        ({"save_name": "../other"}, r"save_name.*without a folder"),
        ({"faces": 3}, r"faces.*0 \(all\) or at least 100"),
        ({"texture_size": 0}, r"texture_size.*at least 8"),
        ({"texture_format": "webp"}, r"texture_format.*'jpg' or 'png'"),
        ({"context_type": "metal"}, r"context_type.*'gl' or 'cuda'"),
        ({"xatlas_chart_options": {"max_price": 1}}, r"xatlas_chart_options.max_price.*known are.*max_cost"),
        ({"xatlas_pack_options": {"padding": "wide"}}, r"xatlas_pack_options.padding.*type int, not 'wide'"),
    ],
)
def test_bad_keys_are_refused_when_the_config_is_read(cfg: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        exporter(ball(), **cfg)


def test_xatlas_takes_its_options() -> None:
    """Charts of at most so large an area are more."""
    counts = [
        len(exporter(ball(), faces=500, xatlas_chart_options=options, save_texture=False)()[0].params["v_tex"])
        for options in ({}, {"max_chart_area": 0.05})
    ]
    assert counts[1] > counts[0]


def test_the_dummy_writes_nothing() -> None:
    assert DummyExporter({}, geometry=None, material=None, background=None)() == []
