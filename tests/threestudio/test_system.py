"""`pullback-system` in real threestudio, with each of its parts that needs no CUDA: runs of two visits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from conftest import Run
from scenes import scene, write

SCENES = {
    "implicit-volume, importance": scene(
        "implicit-volume", material="diffuse-with-point-light-material", background="solid-color-background",
        renderer__estimator="importance", renderer__num_samples_per_ray_importance=8,
        renderer__near_plane=0.1, renderer__far_plane=4.0,
    ),
    "implicit-volume, proposal": scene(
        "implicit-volume", background="solid-color-background",
        renderer__estimator="proposal", renderer__num_samples_per_ray_proposal=8,
        renderer__near_plane=0.1, renderer__far_plane=4.0,
        renderer__prop_optimizer_config={"name": "Adam", "args": {"lr": 0.01}},
        renderer__proposal_network_config={
            "n_input_dims": 3, "n_output_dims": 1,
            "encoding_config": {"otype": "HashGrid", "n_levels": 2, "n_features_per_level": 2, "log2_hashmap_size": 8, "base_resolution": 4, "per_level_scale": 2.0},
            "network_config": {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "none", "n_neurons": 16, "n_hidden_layers": 1},
        },
    ),
    "volume-grid, pruned": scene(
        "volume-grid", material="neural-radiance-material", background="textured-background", renderer__grid_prune=True
    ),
    "implicit-volume, pruned": scene(
        "implicit-volume", background="neural-environment-map-background", renderer__grid_prune=True
    ),
    "implicit-sdf": scene(
        "implicit-sdf", "neus-volume-renderer", "diffuse-with-point-light-material", "textured-background"
    ),
    "implicit-sdf, pruned": scene(
        "implicit-sdf", "neus-volume-renderer", "neural-radiance-material", "solid-color-background",
        renderer__grid_prune=True,
    ),
    "implicit-sdf, importance": scene(
        "implicit-sdf", "neus-volume-renderer", background="neural-environment-map-background",
        renderer__estimator="importance", renderer__use_volsdf=True, renderer__num_samples_per_ray_importance=8,
        renderer__near_plane=0.1, renderer__far_plane=4.0,
    ),
}  # fmt: skip


def checkpoint(run: Run, name: str = "last") -> dict[str, Any]:
    """What a run saved; of tensors and plain values alone, or it would not be read."""
    return torch.load(run.trial / "ckpts" / f"{name}.ckpt", weights_only=True)


@pytest.mark.parametrize("config", SCENES.values(), ids=SCENES)
def test_each_part_trains_and_is_shown(config: dict[str, Any], launch: Callable[..., Run], tmp_path: Path) -> None:
    run = launch(write(tmp_path, config), "--train", "trainer.max_steps=-1")
    first, last = checkpoint(run, "epoch=0-step=1"), checkpoint(run)
    assert last["global_step"] == 2
    moved = {name for name, value in last["state_dict"].items() if not torch.equal(value, first["state_dict"][name])}
    for part in config["system"]["optimizer"]["params"]:
        assert any(name.startswith(f"{part}.") for name in moved), part
    assert all(bool(value.isfinite().all()) for value in last["state_dict"].values())
    for view in range(2):
        picture = cv2.imread(str(run.trial / "save" / "it2-test" / f"{view}.png"))
        assert picture.shape == (16, 16, 3)
    assert (run.trial / "save" / "it2-test.mp4").stat().st_size > 0
