"""PRX on latents and on pixels against diffusers' own pipelines."""

from __future__ import annotations

from pathlib import Path

import diffusers
import family_contract as contract
import pytest
import tiny_parts as tiny
import torch
from pullback import models
from pullback.errors import UserError


def build(path: Path, pixels: bool) -> Path:
    transformer = tiny.seeded(
        lambda: diffusers.PRXTransformer2DModel(
            in_channels=3 if pixels else 16, context_in_dim=tiny.WIDTH, hidden_size=16, mlp_ratio=2.0, num_heads=2,
            depth=1, axes_dim=[4, 4],
        )
    )  # fmt: skip
    parts = {
        "tokenizer": tiny.words(), "text_encoder": tiny.qwen3(), "transformer": transformer,
        "scheduler": tiny.flow(shift=1.0),
    }  # fmt: skip
    if pixels:
        more = {"default_sample_size": 8, "prompt_max_tokens": 16, "noise_scale": 2.0}
        return tiny.write(path, "PRXPixelPipeline", parts, **more)
    parts["vae"] = tiny.vae(shift_factor=0.1159)
    return tiny.write(path, "PRXPipeline", parts, default_sample_size=16)


@pytest.fixture(scope="module", params=[False, True], ids=["latents", "pixels"])
def pixels(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pixels: bool) -> Path:
    return build(tmp_path_factory.mktemp("prx"), pixels)


def run(pipe, latents, steps):
    size = 8 if latents.shape[1] == 3 else 16
    return pipe(
        contract.PROMPT, negative_prompt=contract.NEGATIVE, guidance_scale=contract.SCALE, latents=latents, height=size,
        width=size, timesteps=[1000 * t for t in steps], output_type="latent", use_resolution_binning=False,
    ).images  # fmt: skip


def test_it_ends_where_the_pipeline_does(folder: Path, pixels: bool):
    model, pipe = contract.same(folder, run, noise_scale=2.0 if pixels else 1.0)
    if not pixels:
        contract.pictures(model, lambda z: pipe.vae.decode(z / 0.5 + 0.1159).sample)


def test_pixels_keep_to_times_at_which_the_pipeline_follows_the_flow(tmp_path: Path):
    model = models.load(build(tmp_path, True))
    assert model.sigma_min == pytest.approx(2 * 0.05 / 0.95) and model.image_size == 8
    y, text = torch.randn(1, 3, 8, 8), model.encode_prompt(["a cube"])
    with pytest.raises(UserError, match=r"^sigma 0\.1 lies outside the model's range \[0\.1053, "):
        model.predict_x0(y, 0.1, text)
    with torch.no_grad():
        answer = model.predict(0.5 * y, torch.tensor([0.5]), text.tensors)
    assert torch.equal(model.predict_x0(y, 2.0, text), answer)


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
