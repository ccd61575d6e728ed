"""UNets that were trained with flow matching, in Stable Diffusion's folders, against diffusers' own pipelines."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import family_contract as contract
import pytest
import test_family_stable_diffusion_xl as xl
import torch
from pullback import models, resources
from pullback.models.lora import LoRA

# of the first order, which for x0-predictions of straight paths is Euler's step. diffusers cuts its times to integers;
# of 1024 the three are 1023, 682 and 341
SOLVER = {
    "_class_name": "DPMSolverMultistepScheduler", "num_train_timesteps": 1024, "solver_order": 1,
    "prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 1.0, "final_sigmas_type": "zero",
}  # fmt: skip


def three(scheduler) -> None:
    scheduler.set_timesteps(3)
    assert torch.equal(scheduler.timesteps / 1024, scheduler.sigmas[:-1])


def flowing(folder: Path) -> Path:
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SOLVER))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", SOLVER["_class_name"]]}))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-sd's networks in single precision; as a flow their answers mean nothing, and are compared all the same."""
    folder = tmp_path_factory.mktemp("flow") / "model"
    shutil.copytree(resources.TINY_MODEL, folder)
    return flowing(folder)


def test_stable_diffusion_ends_where_its_pipeline_does(small: Path):
    def run(pipe, latents, steps):
        return pipe(
            contract.PROMPT, negative_prompt=contract.NEGATIVE, guidance_scale=contract.SCALE, height=64, width=64,
            num_inference_steps=len(steps), latents=latents, output_type="latent",
        ).images  # fmt: skip

    model, _ = contract.same(small, run, choose=three)
    assert model.sigma_max == pytest.approx(1023) and model.prediction_type == "flow"


def test_stable_diffusion_xl_ends_where_its_pipeline_does(tmp_path: Path):
    contract.same(flowing(xl.build(tmp_path)), xl.run, choose=three)


def test_a_lora_adapts_it_in_the_unit_of_its_output(small: Path):
    """A change of x̂0 by δ at σ is one of δ (1 + σ)/σ of ε̂ − x̂0, so the loss is the flow's own mean square."""
    model = models.load(small)
    lora, text = LoRA(model), model.encode_prompt(["a cube"])
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    sigma = float(model.schedule.sigmas[300])
    t = sigma / (1 + sigma)
    with torch.no_grad():
        x0 = model.predict_x0(clean + sigma * noise, sigma, text)
        z = (1 - t) * clean + t * noise
        flow = model.unet(z, torch.tensor([1024 * t]), encoder_hidden_states=text).sample
    assert torch.allclose(model.output_scale(sigma) * (clean - x0), flow - (noise - clean), atol=1e-3)
    loss = lora.loss(clean + sigma * noise, text, torch.eye(4)[None], torch.tensor([300]), clean)
    loss.backward()
    assert any(value.grad is not None and value.grad.abs().sum() > 0 for value in lora.layers.parameters())


def test_two_visits(small: Path, tmp_path: Path):
    contract.two_visits(small, tmp_path)
