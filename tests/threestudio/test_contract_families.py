"""`pullback-guidance` with models of other families, whose prompts threestudio's processor cannot embed."""

from __future__ import annotations

import importlib
from pathlib import Path

import diffusers
import first_layout
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
    samples(threestudio, tmp_path, {"pretrained_model_name_or_path": str(model)})


def test_a_model_in_a_gguf_file(threestudio: Threestudio, tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    import gguf_file
    from test_family_stable_diffusion_3 import build

    model, file = build(tmp_path / "model", width=32, text=64), tmp_path / "model.gguf"
    gguf_file.write(file, first_layout.stable_diffusion_3(first_layout.read(model, "transformer")))
    samples(threestudio, tmp_path, {"pretrained_model_name_or_path": str(file), "single_file_config": str(model)})


def samples(threestudio: Threestudio, out: Path, guidance: dict[str, str]) -> None:
    """Checks two visits of one view, with guidance and without."""
    config = scene(prompt_processor={"negative_prompt": "a ball"}, guidance=guidance)
    run = start(threestudio, out, config, "--train")
    assert checkpoint(run)["global_step"] == 2
    assert column(run, "nfe")[-1] == 4
