"""What comes before and after a `pullback-system` run in real threestudio: an SDS run's weights, and stage 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_HASH_GRID, Run, Threestudio
from scenes import checkpoint, error, mesh, picture, start

SDS = "configs/dreamfusion-sd.yaml"
OURS = "custom/threestudio-pullback/configs/pullback-nerf.yaml"
VOLUME = (*SMALL_HASH_GRID, "system.renderer.num_samples_per_ray=16")
SHORT = (
    "system.guidance.levels=2", "system.guidance.cycles=1", "system.guidance.fit_steps=4", "trainer.max_steps=-1",
    "checkpoint.every_n_train_steps=1",
)  # fmt: skip
# all it takes to sample with a config of dreamfusion-system
TO_PULLBACK = (
    "system_type=pullback-system", "system.guidance_type=pullback-guidance", "system.guidance.guidance_scale=2.5",
)  # fmt: skip


@pytest.fixture(scope="module")
def sds(threestudio: Threestudio, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(threestudio, tmp_path_factory.mktemp("sds"), SDS, "--train", *VOLUME)


@pytest.fixture(scope="module")
def coarse(threestudio: Threestudio, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(threestudio, tmp_path_factory.mktemp("coarse"), OURS, "--train", *VOLUME, *SHORT)


def test_an_sds_runs_weights_are_shown_as_they_were(sds: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    weights = (*VOLUME, *TO_PULLBACK, f"system.weights={sds.checkpoint}", "seed=1")
    shown = start(threestudio, tmp_path, SDS, "--test", *weights)
    for view in range(2):
        theirs = picture(sds, f"it2-test/{view}.png")  # beside the colours normals and opacity
        assert np.array_equal(theirs[:, :16], picture(shown, f"it0-test/{view}.png"))


def test_an_sds_runs_weights_start_a_run(sds: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    weights = (*VOLUME, *TO_PULLBACK, f"system.weights={sds.checkpoint}", "seed=1")
    run = start(threestudio, tmp_path, SDS, "--train", *weights, *SHORT)
    assert checkpoint(run)["global_step"] == 2
    before, after = checkpoint(sds)["state_dict"], checkpoint(run, 1)["state_dict"]
    for group in checkpoint(run)["optimizer_states"][0]["param_groups"]:
        own = [n for n in before if n.startswith(f"{group['name']}.") and not n.endswith("bbox")]
        parameters = [n for n in own if before[n].numel()]  # an encoding without parameters saves none
        for name in parameters:
            # four steps of Adam, none longer than the learning rate; parameters drawn anew are ten times as far away
            assert 0 < float((after[name] - before[name]).abs().max()) < 4.01 * group["lr"], name


def test_an_sds_run_is_no_run_to_resume(sds: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    resume = (*VOLUME, *TO_PULLBACK, *SHORT, f"resume={sds.checkpoint}")
    sentence = error(start(threestudio, tmp_path, SDS, "--train", *resume, expect=2))
    assert "holds no sampler state; start from its parameters with system.weights=" in sentence


@pytest.fixture(scope="module")
def coarse_surface(
    coarse: Run, threestudio: Threestudio, tmp_path_factory: pytest.TempPathFactory
) -> tuple[np.ndarray, list[str]]:
    folder = tmp_path_factory.mktemp("surface")
    tetrahedra = ("isosurface_method=mt", "isosurface_resolution=32", "isosurface_remove_outliers=false")
    coloured = ("system.exporter.fmt=obj", "system.exporter.save_uv=false")
    options = (*VOLUME, *coloured, *(f"system.geometry.{option}" for option in tetrahedra))
    return mesh(start(threestudio, folder, OURS, "--export", *options, f"resume={coarse.checkpoint}"), 2)


@pytest.mark.parametrize(("config", "coloured"), [("magic3d-refine-sd", True), ("prolificdreamer-geometry", False)])
def test_stage_two_begins_with_the_surface_of_the_field(
    config: str,
    coloured: bool,
    coarse: Run,
    coarse_surface: tuple[np.ndarray, list[str]],
    threestudio: Threestudio,
    tmp_path: Path,
) -> None:
    """The system of stage 2 is built and its mesh exported."""
    options = (
        f"system.geometry_convert_from={coarse.checkpoint}", "system.geometry.radius=1.0",
        "system.geometry.isosurface_resolution=32", "system.exporter.fmt=obj", "system.exporter.save_uv=false",
        f"system.exporter.save_texture={coloured}", *(SMALL_HASH_GRID if coloured else ()),
    )  # fmt: skip
    vertices, faces = mesh(start(threestudio, tmp_path, f"configs/{config}.yaml", "--export", *options), 0)
    expected, expected_faces = coarse_surface
    assert len(faces) > 100 and faces == expected_faces
    # stage 2 cuts densities off at 1 above and below the surface's; the edge of a tetrahedron is 0.06
    assert np.abs(vertices - expected[:, : vertices.shape[1]]).max() < 0.01


# ---- training on meshes: each config of threestudio's that rasterises

TETRAHEDRA = ("system.geometry.isosurface_resolution=32", "data.width=32", "data.height=32", "trainer.max_steps=2",
              "checkpoint.every_n_train_steps=1", "checkpoint.save_top_k=-1")  # fmt: skip


def moved(run: Run, part: str) -> list[str]:
    """Parameters of a part that the last of two steps has moved; all are finite."""
    before, after = checkpoint(run, 1)["state_dict"], checkpoint(run)["state_dict"]
    assert all(bool(value.isfinite().all()) for value in after.values())
    return [n for n in after if n.startswith(f"{part}.") and not np.array_equal(before[n], after[n])]


def seen(run: Run, name: str, columns: slice) -> np.ndarray:
    """Part of a picture of the turntable, which shows its kinds side by side, 16 px each; not all of one colour."""
    shown = picture(run, name)[:, columns]
    assert int(shown.max()) - int(shown.min()) > 20
    return shown


@pytest.fixture(scope="module")
def geometry(coarse: Run, threestudio: Threestudio, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Stage 2 of prolificdreamer: the shape alone."""
    options = (f"system.geometry_convert_from={coarse.checkpoint}", "system.geometry.radius=1.0", *TETRAHEDRA)
    folder = tmp_path_factory.mktemp("geometry")
    return start(threestudio, folder, "configs/prolificdreamer-geometry.yaml", "--train", *options)


def test_magic3d_refines_the_field_on_its_mesh(coarse: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    options = (f"system.geometry_convert_from={coarse.checkpoint}", "system.geometry.radius=1.0", *TETRAHEDRA)
    run = start(threestudio, tmp_path, "configs/magic3d-refine-sd.yaml", "--train", *options, *SMALL_HASH_GRID)
    assert {"geometry.sdf", "geometry.deformation"} <= {*moved(run, "geometry")}
    assert moved(run, "geometry.encoding") and moved(run, "background")
    seen(run, "it2-test/0.png", slice(0, 16))


def test_prolificdreamer_shapes_and_paints_the_mesh(geometry: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    assert {*moved(geometry, "geometry")} == {"geometry.sdf", "geometry.deformation"}
    options = (
        f"system.geometry_convert_from={geometry.checkpoint}", "system.guidance_type=pullback-guidance",
        "system.loss.lambda_pullback=1", *TETRAHEDRA, *SMALL_HASH_GRID,
    )  # fmt: skip
    run = start(threestudio, tmp_path, "configs/prolificdreamer-texture.yaml", "--train", *options)
    assert moved(run, "geometry.encoding") and not any("sdf" in name for name in moved(run, "geometry"))
    seen(run, "it2-test/0.png", slice(16, 32))  # its normals: after two steps all colours are grey


def test_fantasia3d_shapes_and_paints_a_mesh(threestudio: Threestudio, tmp_path: Path) -> None:
    shape = (
        "system.geometry.shape_init=null", "system.geometry.sdf_bias=sphere", "system.geometry.sdf_bias_params=0.5",
        "system.latent_steps=1", *TETRAHEDRA, *SMALL_HASH_GRID, "system.geometry.pos_encoding_config.otype=HashGrid",
        "system.geometry.pos_encoding_config.n_features_per_level=2",
        "system.geometry.pos_encoding_config.base_resolution=16",
        "system.geometry.pos_encoding_config.per_level_scale=1.5",
    )  # fmt: skip
    (tmp_path / "shape").mkdir()
    first = start(threestudio, tmp_path / "shape", "configs/fantasia3d.yaml", "--train", *shape)
    assert moved(first, "geometry.encoding") and moved(first, "geometry.sdf_network")
    assert moved(first, "geometry.deformation_network")
    seen(first, "it2-test/0.png", slice(16, 32))
    options = (f"system.geometry_convert_from={first.checkpoint}", *TETRAHEDRA, *SMALL_HASH_GRID)
    second = start(threestudio, tmp_path, "configs/fantasia3d-texture.yaml", "--train", *options)
    assert moved(second, "geometry.encoding") and not any("sdf" in name for name in moved(second, "geometry"))
    seen(second, "it2-test/0.png", slice(0, 16))


def test_a_mesh_is_exported_with_its_texture(coarse: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    """At the corners of the triangles the texture has the colours that vertices have without one."""
    painted, state = coarse.checkpoint.with_name("painted.ckpt"), checkpoint(coarse)
    for name in [name for name in state["state_dict"] if name.startswith("geometry.feature_network")]:
        state["state_dict"][name] *= 10  # after two steps all is grey
    torch.save(state, painted)
    options = (
        f"system.geometry_convert_from={painted}", "system.geometry.radius=1.0",
        "system.geometry.isosurface_resolution=32", "system.exporter.texture_format=png", *SMALL_HASH_GRID,
    )  # fmt: skip
    config, plain = "configs/magic3d-refine-sd.yaml", ("system.exporter.fmt=obj", "system.exporter.save_uv=false")
    vertices, _ = mesh(start(threestudio, tmp_path, config, "--export", *options, *plain), 0)
    run = start(threestudio, tmp_path, config, "--export", *options, "system.exporter.texture_size=512")
    written, faces = mesh(run, 0)
    assert np.abs(written - vertices[:, :3]).max() < 1e-4
    lines = (run.trial / "save" / "it0-export" / "model.obj").read_text().splitlines()
    uv = np.array([line.split()[1:3] for line in lines if line.startswith("vt ")], dtype=float)
    ends = np.array([[end.split("/")[:2] for end in line.split()[1:]] for line in faces], dtype=int).reshape(-1, 2) - 1
    texture = picture(run, "it0-export/texture_kd.png") / 255
    column, row = (uv[ends[:, 1]] * [1, -1] + [0, 1]).T * 511  # row 0 is the upper one
    shown, expected = texture[row.round().astype(int), column.round().astype(int)], vertices[ends[:, 0], 3:]
    spread = expected.std(0)
    assert spread.max() > 0.04
    error = np.abs(shown - expected).mean(0)  # of colours without relation about 1.1 of the spread
    assert error[spread.argmax()] < 0.25 * spread.max()
