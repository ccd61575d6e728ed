"""`pullback-guidance` with models of other families, whose prompts threestudio's processor cannot embed."""

from __future__ import annotations

import importlib
from pathlib import Path

import diffusers
import pytest
from conftest import Threestudio
from scenes import checkpoint, column, scene, start


@pytest.mark.parametrize(
    ("family", "pipeline"),
    [
        ("stable_diffusion_xl", "StableDiffusionXLPipeline"),
        ("stable_diffusion_3", "StableDiffusion3Pipeline"),
        ("flux", "FluxPipeline"),
    ],
)
def test_two_visits(family: str, pipeline: str, threestudio: Threestudio, tmp_path: Path) -> None:
    if not hasattr(diffusers, pipeline):
        pytest.skip(f"diffusers {diffusers.__version__} has no {pipeline}")
    model = importlib.import_module(f"test_family_{family}").build(tmp_path / "model")
    config = scene(
        prompt_processor={"negative_prompt": "a ball"}, guidance={"pretrained_model_name_or_path": str(model)}
    )
    run = start(threestudio, tmp_path, config, "--train")
    assert checkpoint(run)["global_step"] == 2
    assert column(run, "nfe")[-1] == 4  # two visits of one view, with guidance and without
