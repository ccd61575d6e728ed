"""Lumina-Image 2.0 against diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path

import diffusers
import family_contract as contract
import pytest
import tiny_parts as tiny
import torch
from pullback import models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformer = tiny.seeded(
        lambda: diffusers.Lumina2Transformer2DModel(
            sample_size=8, in_channels=16, hidden_size=24, num_layers=1, num_refiner_layers=1, num_attention_heads=2,
            num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 4, 4), axes_lens=(300, 16, 16), cap_feat_dim=tiny.WIDTH,
        )
    )  # fmt: skip
    parts = {
        "tokenizer": tiny.words(), "text_encoder": tiny.gemma2(), "transformer": transformer,
        "vae": tiny.vae(shift_factor=0.1159), "scheduler": tiny.flow(),
    }  # fmt: skip
    return tiny.write(tmp_path_factory.mktemp("lumina"), "Lumina2Pipeline", parts)


def run(pipe, latents, steps):
    pipe.vae_scale_factor = 2  # the pipeline's is 8, whatever its autoencoder's is
    return pipe(
        contract.PROMPT, negative_prompt=contract.NEGATIVE, guidance_scale=contract.SCALE, sigmas=steps,
        latents=latents, height=16, width=16, output_type="latent", cfg_normalization=False,
    ).images  # fmt: skip


def test_it_ends_where_the_pipeline_does_without_its_rescaling(folder: Path):
    model, pipe = contract.same(folder, run)
    contract.pictures(model, lambda z: pipe.vae.decode(z / 0.5 + 0.1159).sample)
    (said,) = model.cautions
    assert "cfg_normalization" in said


def test_time_runs_the_other_way_and_the_sign_is_turned(folder: Path):
    model = models.load(folder)
    asked = []
    hook = model.network.register_forward_pre_hook(lambda _, args, kwargs: asked.append(kwargs), with_kwargs=True)
    y, text = torch.randn(1, 16, 8, 8), model.encode_prompt(["a cube"])
    x0 = model.predict_x0(y, 3.0, text)
    hook.remove()
    assert asked[0]["timestep"].item() == 0.25
    with torch.no_grad():
        answer = model.network(y / 4, torch.tensor([0.25]), text.tensors["text"], text.tensors["mask"]).sample
    assert torch.allclose(x0, y / 4 + 0.75 * answer, atol=1e-5)


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
