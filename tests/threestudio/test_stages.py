"""What comes before and after a `pullback-system` run in real threestudio: an SDS run's weights, and stage 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
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
        parameters = [n for n in before if n.startswith(f"{group['name']}.") and not n.endswith("bbox")]
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
    options = (*VOLUME, *(f"system.geometry.{option}" for option in tetrahedra))
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
    """The system of stage 2 is built and its mesh exported; what it does next, to rasterise, takes CUDA."""
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
