"""What a folder's scheduler says of its network: models that a sampler cannot use are refused by their right name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import diffusers
import pytest
from pullback import models
from pullback.adapters.guidance.guidance import PullbackGuidance
from pullback.models import schedulers
from tiny_pipeline import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "tiny", "v_prediction")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "tiny"))


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def refused(path: Path) -> str:
    with pytest.raises(models.ModelError) as caught:
        models.load(path)
    return str(caught.value)


def test_every_scheduler_of_its_kind_is_one_of_diffusers():
    names = [f"{name}Scheduler" for kind in schedulers._KINDS.values() for name in kind]
    known = {name for name in dir(diffusers) if name.endswith("Scheduler")}
    missing = set(names) - known
    assert len(names) == len(set(names)) and not missing


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        ("LCMScheduler", "is a consistency model"),
        ("TCDScheduler", "is a consistency model"),
        ("FlowMapEulerDiscreteScheduler", "is a flow map, whose network takes two times"),
    ],
)
def test_consistency_models_and_flow_maps(copy: Path, scheduler: str, words: str):
    edit(copy / "scheduler" / "scheduler_config.json", _class_name=scheduler)
    assert f"{words}" in refused(copy) and f"scheduler_config.json names {scheduler}" in refused(copy)
    edit(copy / "model_index.json", scheduler=["diffusers", scheduler])
    message = refused(copy)
    assert words in message and f"model_index.json names {scheduler}" in message
    assert message.endswith("take the model that it was distilled from")


def test_a_network_that_is_told_a_scale_of_guidance(copy: Path):
    shutil.rmtree(copy / "unet")
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=16,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), time_cond_proj_dim=8,
    )  # fmt: skip
    unet.save_pretrained(copy / "unet")
    assert "as those of latent consistency models are" in refused(copy)


@pytest.mark.parametrize("scheduler", ["EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler", "NoneSuchScheduler"])
def test_a_scheduler_that_does_not_fit_the_index(copy: Path, scheduler: str):
    edit(copy / "scheduler" / "scheduler_config.json", _class_name=scheduler)
    assert f"is that of a {scheduler}, which does not fit a network of diffusion" in refused(copy)


@pytest.mark.parametrize("changes", [{"use_flow_sigmas": True}, {"prediction_type": "flow_prediction"}])
def test_a_solver_that_is_set_up_for_flow_matching(copy: Path, changes: dict):
    edit(copy / "scheduler" / "scheduler_config.json", _class_name="UniPCMultistepScheduler", **changes)
    assert "does not fit a network of diffusion" in refused(copy)


def test_zero_terminal_snr(copy: Path):
    """SD 2.1's betas, rescaled: 41 of 50 levels would lie above 14.6."""
    file = copy / "scheduler" / "scheduler_config.json"
    edit(file, rescale_betas_zero_snr=True)
    made = PullbackGuidance({"pretrained_model_name_or_path": str(copy)})
    assert made.model.sigma_max > 1000
    sigmas = made.sigmas()[:-1]
    assert len(sigmas) == 50 and 0 < (sigmas > 14.6).sum() < 10
    asked = PullbackGuidance({"pretrained_model_name_or_path": str(copy), "sigma_max": 1000.0})
    assert float(asked.sigmas()[0]) == 1000
    edit(file, prediction_type="epsilon")
    assert "zero terminal SNR (rescale_betas_zero_snr) with epsilon-prediction" in refused(copy)
