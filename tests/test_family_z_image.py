"""Z-Image against diffusers' own pipeline."""

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
        lambda: diffusers.ZImageTransformer2DModel(
            in_channels=16, dim=24, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=tiny.WIDTH,
            axes_dims=[4, 4, 4], axes_lens=[1024, 16, 16],
        )
    )  # fmt: skip
    parts = {
        "tokenizer": tiny.words(), "text_encoder": tiny.qwen3(), "transformer": transformer,
        "vae": tiny.vae(shift_factor=0.1159), "scheduler": tiny.flow(),
    }  # fmt: skip
    return tiny.write(tmp_path_factory.mktemp("zimage"), "ZImagePipeline", parts)


def run(pipe, latents, steps):
    return pipe(
        contract.PROMPT, negative_prompt=contract.NEGATIVE, guidance_scale=contract.SCALE - 1, sigmas=steps,
        latents=latents, height=16, width=16, output_type="latent",
    ).images  # fmt: skip


def test_it_ends_where_the_pipeline_does_whose_scale_is_smaller_by_one(folder: Path):
    model, pipe = contract.same(folder, run)
    contract.pictures(model, lambda z: pipe.vae.decode(z / 0.5 + 0.1159).sample)


def test_prompts_of_unequal_length_share_a_call(folder: Path):
    model = models.load(folder)
    prompts = ["a red cube and a ball", "a"]
    text = model.encode_prompt(prompts)
    assert text.tensors["mask"].sum(1).tolist() == [6, 1]
    y = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    alone = [
        model.predict_x0(y[i : i + 1], 2.0, model.encode_prompt([p]))
        for i, p in enumerate(["a red cube and a ball", "a"])
    ]
    assert torch.allclose(model.predict_x0(y, 2.0, text), torch.cat(alone), atol=1e-5)


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
