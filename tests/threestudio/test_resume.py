"""The life of a `pullback-system` run in real threestudio: logs, checkpoints, resume, validate, test, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import same
from conftest import Run, Threestudio
from scenes import HASH_GRID, NEAR_FAR, checkpoint, column, error, mesh, picture, scene, start

# six visits, in which all that a resumed run has to find again goes on: an occupancy grid, jittered samples and
# validation in between, bands of a hash grid that open with the first step after a visit, a learning rate that falls,
# views that spread, and a second resolution with more views; schedules count steps of the optimiser, nine of a visit
NERF = scene(
    "implicit-volume", "diffuse-with-point-light-material", "solid-color-background",
    geometry={
        "pos_encoding_config": {
            **HASH_GRID, "otype": "ProgressiveBandHashGrid", "start_level": 1, "start_step": 1, "update_steps": 9
        },
        "isosurface_method": "mc-cpu", "isosurface_resolution": 16, "isosurface_threshold": "auto",
    },
    renderer={"grid_prune": True},
    guidance={"levels": 3, "constraint": "repaint", "cycles": 2, "fit_steps": 9, "fit_rays": 64},
    data={
        "batch_size": [1, 2], "width": [16, 24], "height": [16, 24], "resolution_milestones": [3 * 9],
        "progressive_until": 4 * 9,
    },
    scheduler={"name": "ExponentialLR", "interval": "step", "args": {"gamma": 0.9}},
)  # fmt: skip
# a surface that begins as a given shape, with differences that grow finer, and new noise for every view at every visit
NEUS = scene(
    "implicit-sdf", "neus-volume-renderer", "neural-radiance-material", "textured-background",
    geometry={
        "pos_encoding_config": {
            **HASH_GRID, "otype": "ProgressiveBandHashGrid", "n_levels": 2, "start_level": 1, "start_step": 0,
            "update_steps": 4,
        },
        "finite_difference_normal_eps": "progressive",
        "sdf_bias": 0.0, "sdf_bias_params": None, "shape_init": "sphere", "shape_init_params": 0.5,
    },
    renderer={
        "estimator": "importance", "use_volsdf": True, "num_samples_per_ray_importance": 8,
        **NEAR_FAR,
    },
    guidance={"levels": 3, "cycles": 1, "fit_steps": 6, "noise": "independent"},
    checkpoint={"every_n_train_steps": 2},
    optimizer={"params": {"geometry": {"lr": 1e-4}, "renderer": {}, "material": {}, "background": {}}},
)  # fmt: skip


@pytest.fixture(scope="module")
def nerf(threestudio: Threestudio, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(threestudio, tmp_path_factory.mktemp("nerf"), NERF, "--train")


@pytest.fixture(scope="module")
def neus(threestudio: Threestudio, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return start(threestudio, tmp_path_factory.mktemp("neus"), NEUS, "--train")


def test_a_visit_is_a_row_of_the_logs(nerf: Run) -> None:
    assert column(nerf, "level") == [0, 0, 1, 1, 2, 2] and column(nerf, "cycle") == [0, 1] * 3
    sigmas = column(nerf, "sigma")
    assert sigmas == sorted(sigmas, reverse=True) and sigmas[-1] == pytest.approx(0.5)
    # a guided call is two; three visits of one view, three of two
    assert column(nerf, "nfe") == [2, 4, 6, 10, 14, 18]
    assert all(0 < residual < 2 for residual in column(nerf, "residual"))
    assert list(nerf.trial.glob("tb_logs/version_0/events*"))


def test_a_checkpoint_holds_the_field_and_the_sampler_and_no_model(nerf: Run) -> None:
    saved = checkpoint(nerf)
    parts = {name.partition(".")[0] for name in saved["state_dict"]}
    assert parts == {"geometry", "renderer", "material", "background"}
    state = saved["pullback"]
    assert (state["level"], state["cycle"], state["nfe"], state["seed"]) == (3, 0, 18, 0)


@pytest.mark.parametrize("step", [3, 5])
def test_a_resumed_run_ends_bit_for_bit_the_same(
    step: int, nerf: Run, threestudio: Threestudio, tmp_path: Path
) -> None:
    begun = nerf.trial / "ckpts" / f"epoch=0-step={step}.ckpt"
    resumed = start(threestudio, tmp_path, NERF, "--train", f"resume={begun}")
    a, b = checkpoint(nerf), checkpoint(resumed)
    assert not same(a["state_dict"], checkpoint(nerf, step)["state_dict"])
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "pullback"):
        assert same(a[part], b[part]), part
    assert np.array_equal(picture(nerf, "it6-grid.png"), picture(resumed, "it6-grid.png"))


def test_the_last_checkpoint_is_the_end_of_the_run_however_many_visits_it_had(neus: Run) -> None:
    assert [path.name for path in neus.trial.glob("ckpts/epoch*")] == ["epoch=0-step=2.ckpt"]
    assert checkpoint(neus)["global_step"] == 3 and checkpoint(neus)["pullback"]["level"] == 3


def test_a_run_that_was_stopped_early_goes_on(neus: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    stopped = start(threestudio, tmp_path, NEUS, "--train", "trainer.max_steps=1")
    resumed = start(threestudio, tmp_path, NEUS, "--train", f"resume={stopped.checkpoint}")
    a, b = checkpoint(neus), checkpoint(resumed)
    for part in ("state_dict", "optimizer_states", "pullback", "epoch"):
        assert same(a[part], b[part]), part


def test_a_surface_begins_as_the_shape_of_its_config(neus: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    # a run whose geometry hardly learns
    coarse = ("system.geometry.isosurface_method=mc-cpu", "system.geometry.isosurface_resolution=16")
    form = ("system.exporter.fmt=obj-mtl", "system.exporter.save_uv=true", "system.exporter.save_texture=false")
    run = export(threestudio, tmp_path, NEUS, neus, *coarse, *form)
    assert (run.trial / "save" / "it3-export" / "model.mtl").is_file()
    ball, _ = mesh(run, 3)
    assert np.abs(np.linalg.norm(ball, axis=1) - 0.5).max() < 0.1


def test_a_checkpoint_is_tested_as_the_run_was(nerf: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    tested = start(threestudio, tmp_path, NERF, "--test", f"resume={nerf.checkpoint}")
    for name in ("it6-test/0.png", "it6-test/1.png", "it6-grid.png"):
        assert np.array_equal(picture(nerf, name), picture(tested, name)), name


def test_a_checkpoint_is_validated_as_the_run_was(nerf: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    validated = start(threestudio, tmp_path, NERF, "--validate", f"resume={nerf.checkpoint}")
    assert np.array_equal(picture(nerf, "it6-val.png"), picture(validated, "it6-val.png"))


def test_a_mesh_with_colours_at_its_vertices_is_exported(nerf: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    vertices, faces = mesh(export(threestudio, tmp_path, NERF, nerf), 6)
    position, colour = vertices[:, :3], vertices[:, 3:]
    assert len(faces) > 50 and np.abs(position).max() <= 1 + 1e-6
    assert colour.shape == position.shape and 0 <= colour.min() < colour.max() <= 1


def test_the_demos_mesh_is_exported_as_its_config_says(threestudio: Threestudio, tmp_path: Path) -> None:
    short = ("system.guidance.levels=1", "system.guidance.cycles=1", "system.guidance.fit_steps=10")
    config = "custom/threestudio-pullback/configs/pullback-nerf-tiny.yaml"
    run = start(threestudio, tmp_path, config, "--train", *short, "trainer.max_steps=-1")
    # the charts of a field that has hardly begun take minutes at its own resolution
    coarse = ("system.geometry.isosurface_resolution=16", "system.exporter.texture_size=64")
    exported = start(threestudio, tmp_path, config, "--export", f"resume={run.checkpoint}", *coarse)
    vertices, faces = mesh(exported, 1)
    assert len(faces) > 50 and vertices.shape[1] == 3
    assert picture(exported, "it1-export/texture_kd.jpg").shape == (64, 64, 3)


def export(threestudio: Threestudio, folder: Path, config: dict[str, Any], run: Run, *overrides: str) -> Run:
    plain = ("system.exporter.fmt=obj", "system.exporter.save_uv=false")
    return start(threestudio, folder, config, "--export", f"resume={run.checkpoint}", *plain, *overrides)


def test_another_seed_is_refused(nerf: Run, threestudio: Threestudio, tmp_path: Path) -> None:
    run = start(threestudio, tmp_path, NERF, "--train", f"resume={nerf.checkpoint}", "seed=7", expect=2)
    assert "`seed` is 7, but the checkpoint's run had 0; resume with its own" in error(run)
