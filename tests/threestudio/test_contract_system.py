"""`pullback-system` in real threestudio with each of its parts that needs no CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from checkpoints import same
from conftest import Threestudio
from scenes import HASH_GRID, NEAR_FAR, NETWORK, checkpoint, column, error, picture, scene, start

SCENES = {
    "implicit-volume, pruned; neural environment map": scene(
        "implicit-volume", "neural-environment-map-background", renderer={"grid_prune": True}
    ),
    "implicit-volume, importance; diffuse; solid colour": scene(
        "implicit-volume", "diffuse-with-point-light-material", "solid-color-background",
        renderer={"estimator": "importance", "num_samples_per_ray_importance": 8, **NEAR_FAR},
    ),
    "implicit-volume, proposal": scene(
        "implicit-volume",
        renderer={
            "estimator": "proposal", "num_samples_per_ray_proposal": 8, **NEAR_FAR,
            "prop_optimizer_config": {"name": "Adam", "args": {"lr": 0.01}},
            "proposal_network_config": {
                "n_input_dims": 3, "n_output_dims": 1, "encoding_config": HASH_GRID,
                "network_config": {**NETWORK, "otype": "FullyFusedMLP", "n_neurons": 16},
            },
        },
    ),
    "volume-grid; four views": scene(data={"batch_size": 4}),
    "volume-grid, pruned; neural radiance; texture": scene(
        "volume-grid", "neural-radiance-material", "textured-background",
        renderer={"grid_prune": True},
    ),
    "implicit-sdf; diffuse; texture": scene(
        "implicit-sdf", "neus-volume-renderer", "diffuse-with-point-light-material", "textured-background"
    ),
    "implicit-sdf, pruned; neural radiance; solid colour": scene(
        "implicit-sdf", "neus-volume-renderer", "neural-radiance-material", "solid-color-background",
        renderer={"grid_prune": True},
    ),
    "implicit-sdf, importance; neural environment map": scene(
        "implicit-sdf", "neus-volume-renderer", "neural-environment-map-background",
        renderer={"estimator": "importance", "use_volsdf": True, "num_samples_per_ray_importance": 8, **NEAR_FAR},
    ),
    "tetrahedra-sdf-grid": scene("tetrahedra-sdf-grid", "nvdiff-rasterizer"),
    "custom-mesh": scene("custom-mesh", "nvdiff-rasterizer"),
}  # fmt: skip


@pytest.mark.parametrize("config", SCENES.values(), ids=SCENES)
def test_each_part_is_fitted_and_shown(config: dict[str, Any], threestudio: Threestudio, tmp_path: Path) -> None:
    run = start(threestudio, tmp_path, config, "--train")
    first, last = checkpoint(run, 1), checkpoint(run)
    assert last["global_step"] == 2
    moved = [name for name, value in last["state_dict"].items() if not same(value, first["state_dict"][name])]
    parts = [*config["system"]["optimizer"]["params"]]
    if config["system"]["renderer"].get("estimator") == "proposal":
        parts.append("renderer.prop_net")  # which the estimator trains by itself
    for part in parts:
        assert any(name.startswith(f"{part}.") for name in moved), part
    assert all(bool(value.isfinite().all()) for value in last["state_dict"].values())
    # a gradient that came wrongly through one of the parts would not lower it
    assert column(run, "residual")[0] < 0.95 * column(run, "residual_before")[0]
    for view in range(2):
        assert picture(run, f"it2-test/{view}.png").shape == (16, 16, 3)
    assert (run.trial / "save" / "it2-test.mp4").stat().st_size > 0


def test_a_prompt_may_be_embedded_in_a_process_of_its_own(threestudio: Threestudio, tmp_path: Path) -> None:
    prompt = {"prompt": "a yellow cone", "spawn": True}
    spawned = start(threestudio, tmp_path, scene(prompt_processor=prompt), "--train")
    assert checkpoint(spawned)["global_step"] == 2


def test_three_views_are_refused_for_their_wrong_cameras(threestudio: Threestudio, tmp_path: Path) -> None:
    run = start(threestudio, tmp_path, scene(data={"batch_size": 3}), "--train", expect=2)
    assert "`data.batch_size` is 3; choose another number" in error(run)
