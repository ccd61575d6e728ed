"""Groups of views in real threestudio: the config for MVDream with a small random model in its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import EXTENSION, SMALL_HASH_GRID, Run
from tiny_pipeline import build_multi_view

CONFIG = EXTENSION / "pullback" / "configs" / "pullback-nerf-mvdream.yaml"


@pytest.fixture
def small(tmp_path: Path) -> tuple[str, ...]:
    build_multi_view(tmp_path / "model")
    return (
        *SMALL_HASH_GRID, "data.batch_size=8", "system.guidance.levels=2", "system.guidance.fit_steps=2",
        "system.guidance.sigma_min=0.5", "trainer.max_steps=-1", "system.renderer.grid_prune=false",
        f"system.prompt_processor.pretrained_model_name_or_path={tmp_path / 'model'}",
        f"system.guidance.pretrained_model_name_or_path={tmp_path / 'model'}",
    )  # fmt: skip


def test_a_run_samples_groups_of_views(launch: Callable[..., Run], small: tuple[str, ...]):
    run = launch(CONFIG, "--train", *small, "system.guidance.noise=null")
    state = torch.load(run.checkpoint, weights_only=False)["pullback"]
    assert state["level"] == 2 and state["nfe"] == 2 * 8 * 2  # every view, with guidance and without
    assert state["noise"].shape == (4, 4, 8, 8)  # slot noise, which a model of several views has by default


def test_single_cameras_end_in_one_sentence(launch: Callable[..., Run], small: tuple[str, ...]):
    run = launch(CONFIG, "--train", *small, "data.n_view=2", expect=None)
    assert run.returncode != 0 and "the cameras are no groups of 4 at one elevation" in run.output
