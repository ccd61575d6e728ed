from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pullback.errors import UserError
from pullback.host.scene.exporter import DummyExporter, MeshExporter
from pullback.host.scene.material import NoMaterial
from pullback.host.scene.volume_grid import VolumeGrid
from pullback.host.training.saving import SaverMixin

RADIUS, SIZE, BALL = 1.5, 40, 0.8


def ball() -> VolumeGrid:
    """Density 10 on the sphere |x| = 0.8 and falling outwards; features are the position scaled to [0, 1]."""
    field = VolumeGrid(
        {
            "radius": RADIUS,
            "grid_size": [SIZE] * 3,
            "density_bias": 0.0,
            "density_activation": "relu",
            "isosurface_threshold": 10.0,
            "isosurface_resolution": 40,
        }
    )
    axis = RADIUS * ((torch.arange(SIZE) + 0.5) / SIZE * 2 - 1)
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    with torch.no_grad():
        field.grid[0, 0] = 10 * (1 + 5 * (BALL - (x**2 + y**2 + z**2).sqrt()))
        field.grid[0, 1:] = torch.stack([x, y, z]) / (2 * RADIUS) + 0.5
    return field


def exporter(geometry: VolumeGrid, **cfg) -> MeshExporter:
    return MeshExporter(cfg, geometry=geometry, material=NoMaterial({"color_activation": "none"}), background=None)


@pytest.mark.parametrize("fmt", ["obj", "glb"])
def test_a_ball_is_written_with_the_right_size_and_colours(fmt, tmp_path):
    import trimesh

    (output,) = exporter(ball(), fmt=fmt, save_name="ball")()
    assert (output.save_name, output.save_type) == (f"ball.{fmt}", "mesh")
    saver = SaverMixin()
    saver.set_save_dir(str(tmp_path))
    saver.save_mesh(output.save_name, **output.params)
    mesh: Any = trimesh.load(tmp_path / f"ball.{fmt}", force="mesh", process=False)
    assert mesh.is_watertight
    voxel = 2 * RADIUS / SIZE
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - BALL).max() < voxel
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * BALL**3, rel=0.02)
    colors = mesh.visual.vertex_colors[:, :3] / 255  # pyright: ignore
    np.testing.assert_allclose(colors, mesh.vertices / (2 * RADIUS) + 0.5, atol=0.01)


def test_obj_lines_carry_position_and_colour(tmp_path):
    (output,) = exporter(ball(), fmt="obj")()
    saver = SaverMixin()
    saver.set_save_dir(str(tmp_path))
    saver.save_mesh(output.save_name, **output.params)
    vertices = [line.split() for line in (tmp_path / "model.obj").read_text().splitlines() if line[:2] == "v "]
    assert len(vertices) == len(output.params["v_pos"])
    assert all(len(v) == 7 for v in vertices)


def test_colours_can_be_left_out():
    (output,) = exporter(ball(), save_texture=False)()
    assert output.params["v_rgb"] is None


def test_an_empty_field_is_refused_before_anything_is_written():
    field = ball()
    field.cfg.isosurface_threshold = 500.0
    with pytest.raises(UserError, match=r"isosurface_threshold.*500.*density lies between 0 and"):
        exporter(field)()


def test_textured_formats_are_refused():
    with pytest.raises(UserError, match=r"fmt.*obj.*glb"):
        exporter(ball(), fmt="obj-mtl")


def test_the_dummy_writes_nothing():
    assert DummyExporter({}, geometry=None, material=None, background=None)() == []
