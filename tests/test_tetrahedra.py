"""`tetrahedra-sdf-grid` and `nvdiff-rasterizer`: planes and balls in closed form, gradients, bad configs; runs."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from pullback.diffreps import orbit
from pullback.errors import NonFiniteError, UserError
from pullback.host import launch
from pullback.host.parts import load_parts
from pullback.host.registry import find
from pullback.host.scene import tetrahedra
from pullback.resources import TINY_CONFIG, TINY_MODEL
from pullback.views.cameras import camera_batch

load_parts()
HASH = {"otype": "HashGrid", "n_levels": 2, "n_features_per_level": 2, "log2_hashmap_size": 8, "base_resolution": 4}
NETWORK = {"otype": "VanillaMLP", "n_neurons": 8, "n_hidden_layers": 1}
BALL = {"shape_init": "sphere", "shape_init_params": 0.5, "isosurface_resolution": 32}


def grid(**cfg: Any) -> Any:
    """A ball of radius 0.5 in a cube of side 2."""
    torch.manual_seed(0)
    made = find("tetrahedra-sdf-grid")({"pos_encoding_config": HASH, "mlp_network_config": NETWORK, **BALL, **cfg})
    made.initialize_shape()
    return made


def drawn(geometry: Any, material: str = "no-material", **cfg: Any) -> Any:
    parts = {"material": find(material)({}), "background": find("solid-color-background")({"color": [1.0, 1.0, 0.0]})}
    return find("nvdiff-rasterizer")(cfg, geometry=geometry, **parts)


def cameras(size: int, distance: float = 3.0, count: int = 1) -> dict[str, Any]:
    poses = orbit(torch.full((count,), 10.0), torch.linspace(0, 250, count), distance)
    batch: dict[str, Any] = camera_batch(poses, torch.full((count,), 0.6), size, size)
    return {**batch, "light_positions": batch["camera_positions"], "height": size, "width": size}


def test_a_plane_is_met_exactly_and_moves_as_its_values_do():
    places, normal = tetrahedra.vertices(6), torch.tensor([0.6, 0.0, 0.8])
    values = (places @ normal - 0.613).requires_grad_()
    v_pos, faces = tetrahedra.surface(values, places, 6)
    torch.testing.assert_close(v_pos @ normal, torch.full((len(v_pos),), 0.613))
    a, b, c = v_pos.detach()[faces].unbind(1)
    outwards = torch.linalg.cross(b - a, c - a) @ normal  # values below 0 are inside
    assert bool((outwards >= -1e-9).all()) and float(outwards.sum()) > 0
    (slope,) = torch.autograd.grad((v_pos @ normal).sum(), values)
    torch.testing.assert_close(slope.sum(), torch.tensor(-float(len(v_pos))))


def test_any_signs_give_a_closed_surface():
    places = tetrahedra.vertices(7)
    values = torch.randn(len(places), generator=torch.Generator().manual_seed(0))
    border = ((places == 0) | (places == 1)).any(1)
    values[border] = values[border].abs()
    v_pos, faces = tetrahedra.surface(values, places, 7)
    mesh = trimesh.Trimesh(v_pos.numpy(), faces.numpy(), process=False)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    assert len(tetrahedra.surface(values.abs(), places, 7)[1]) == 0


def test_a_ball_has_its_volume_and_its_area():
    mesh = grid().isosurface()
    solid = trimesh.Trimesh(mesh.v_pos.numpy(), mesh.t_pos_idx.numpy(), process=False)
    assert solid.is_watertight and solid.euler_number == 2
    assert solid.volume == pytest.approx(4 / 3 * math.pi * 0.5**3, rel=0.01)
    assert solid.area == pytest.approx(4 * math.pi * 0.5**2, rel=0.01)
    with_speck = grid(isosurface_remove_outliers=True)
    with torch.no_grad():
        with_speck.sdf.view(33, 33, 33)[30, 30, 30] = -0.01
    assert len(with_speck.isosurface().v_pos) == len(mesh.v_pos) < len(with_speck.surface().v_pos)


def test_vertices_move_by_half_a_cube_at_most():
    made = grid()
    before = made.surface().v_pos.detach()
    with torch.no_grad():
        made.deformation.fill_(50.0)
    torch.testing.assert_close(made.surface().v_pos.detach() - before, torch.full_like(before, 1 / 32))
    assert {name for name, _ in grid(fix_geometry=True).named_parameters()}.isdisjoint({"sdf", "deformation"})
    assert "deformation" not in grid(isosurface_deformable_grid=False).state_dict()
    assert {"sdf", "deformation", "isosurface_bbox"} <= made.state_dict().keys()
    assert grid(geometry_only=True)(before) == {}


def test_a_ball_as_it_is_seen():
    """Its disc's area, depth and normal, and the background round it."""
    renderer = drawn(grid(), samples=2).eval()
    batch = cameras(64)
    with torch.no_grad():
        out = renderer(**batch)
    tangent = math.tan(math.asin(0.5 / 3)) / math.tan(0.3)  # the disc's radius, of half the picture
    assert float(out["opacity"].mean()) == pytest.approx(math.pi * tangent**2 / 4, rel=0.02)
    assert float(out["depth"][0, 31:33, 31:33].mean()) == pytest.approx(2.5, abs=0.01)
    towards = torch.nn.functional.normalize(batch["camera_positions"], dim=-1)[0]
    normal = 2 * out["comp_normal"][0, 31:33, 31:33].mean((0, 1)) - 1
    assert float(normal @ towards) == pytest.approx(1, abs=0.02)
    torch.testing.assert_close(out["comp_rgb"][0, 0, 0], torch.tensor([1.0, 1.0, 0.0]))
    torch.testing.assert_close(out["comp_rgb"], out["comp_rgb_fg"] + (1 - out["opacity"]) * out["comp_rgb_bg"])
    lit = drawn(grid(), "diffuse-with-point-light-material").eval()(**batch)["comp_rgb"]
    assert float(lit[0, 31, 31].detach().mean()) > float(lit[0, 31, 18].detach().mean())


@pytest.mark.parametrize("resolution, least", [(6, 0.6), (32, 0.1)])
def test_what_is_seen_grows_with_the_ball(resolution, least):
    """The slope of the disc's area by the radius: of two other radii, and at most so much less in the gradient.

    Smoothing misses a silhouette where the triangle beside it, nearly edge-on, is seen at no pixel's centre.
    """
    made = grid(isosurface_deformable_grid=False, isosurface_resolution=resolution)
    renderer, batch = drawn(made, samples=4), cameras(48)
    (slope,) = torch.autograd.grad(renderer(**batch)["opacity"].sum(), made.sdf)
    areas = []
    with torch.no_grad():
        for step in (-0.02, 0.04):  # the second from the first
            made.sdf.sub_(step)
            areas.append(float(renderer(**batch)["opacity"].sum()))
    assert least < -float(slope.sum()) / ((areas[1] - areas[0]) / 0.04) < 1.02


@pytest.mark.parametrize(
    "cfg, words",
    [
        ({"isosurface_resolution": 1}, "`isosurface_resolution` must be at least 2"),
        ({"isosurface_resolution": 1000}, "`isosurface_resolution` must be at most 256"),
        ({"shape_init": "mesh:a.obj", "shape_init_params": 1.0}, "needs threestudio"),
        ({"radius": 0.0}, "`radius` must be above 0"),
        ({"n_input_dims": 2}, "`n_input_dims` must be 3"),
    ],
)
def test_bad_configs_are_said(cfg, words):
    with pytest.raises(UserError, match=words):
        grid(**cfg)


def test_what_cannot_be_drawn_is_said():
    made = grid(shape_init=None)
    with pytest.raises(UserError, match=r"no surface: all vertices .* are outside; .*shape_init=sphere"):
        drawn(made)(**cameras(8))
    with torch.no_grad():
        made.sdf.fill_(math.nan)
    with pytest.raises(NonFiniteError, match="not finite"):
        made.surface()
    with pytest.raises(UserError, match="nvdiff-rasterizer, which needs a surface of triangles"):
        drawn(find("volume-grid")({"grid_size": [4, 4, 4]}))
    with pytest.raises(UserError, match="`context_type` must be"):
        drawn(grid(), context_type="vulkan")
    with pytest.raises(UserError, match="geometry_only"):
        drawn(grid(geometry_only=True))(**cameras(8))


SURFACES = {
    "tetrahedra-sdf-grid": (
        "nvdiff-rasterizer", ["shape_init=sphere", "shape_init_params=0.4", "isosurface_resolution=16"]
    ),
    "implicit-sdf": ("neus-volume-renderer", [
        "sdf_bias=sphere", "sdf_bias_params=0.4", "isosurface_threshold=0.0", "normal_type=finite_difference"
    ]),
    "custom-mesh": ("nvdiff-rasterizer", ["shape_init_params=0.4"]),
}  # fmt: skip


@pytest.mark.parametrize("name", SURFACES)
def test_two_visits_by_launch_py_and_an_export(name: str, tmp_path: Any) -> None:
    renderer, geometry = SURFACES[name]
    if name == "custom-mesh":
        trimesh.creation.icosphere(2).export(tmp_path / "ball.ply")
        geometry = [f"shape_init=mesh:{tmp_path}/ball.ply", *geometry]
    words = [
        "system.prompt_processor.prompt=a red cube",
        f"system.prompt_processor.pretrained_model_name_or_path={TINY_MODEL}",
        f"exp_root_dir={tmp_path}", "use_timestamp=false", "name=run", "tag=it", "trainer.accelerator=cpu",
        "system.guidance.levels=2", "system.guidance.cycles=1", "system.guidance.fit_steps=2",
        "system.guidance.fit_rays=256", "data.batch_size=2", "data.n_val_views=1", "data.n_test_views=1",
        "data.eval_width=16", "data.eval_height=16", f"system.geometry_type={name}", f"system.renderer_type={renderer}",
        f"system.geometry.pos_encoding_config={json.dumps(HASH)}", *(f"system.geometry.{word}" for word in geometry),
    ]  # fmt: skip
    words += ["system.renderer.num_samples_per_ray=16"] if name == "implicit-sdf" else []
    begin = ["--config", str(TINY_CONFIG)]
    assert launch.main([*begin, "--train", *words, "system.exporter_type=dummy-exporter"]) == 0
    saved = torch.load(tmp_path / "run/it/ckpts/last.ckpt", weights_only=True)
    assert saved["global_step"] == 2 and saved["pullback"]["level"] == 2
    export = ["system.exporter.fmt=obj", "system.exporter.save_uv=false", f"resume={tmp_path}/run/it/ckpts/last.ckpt"]
    assert launch.main([*begin, "--export", *words, *export]) == 0
    (file,) = tmp_path.rglob("model.obj")
    mesh: Any = trimesh.load(file, force="mesh", process=False)
    assert len(mesh.faces) > 50 and np.ptp(mesh.vertices, 0).min() > 0.5
