"""PixArt-Σ against diffusers' own pipeline."""

from __future__ import annotations

import shutil
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
        lambda: diffusers.PixArtTransformer2DModel(
            num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=1,
            cross_attention_dim=16, sample_size=8, patch_size=2, caption_channels=tiny.WIDTH,
            use_additional_conditions=False,
        )
    )  # fmt: skip
    parts = {
        "tokenizer": tiny.words(), "text_encoder": tiny.t5(), "transformer": transformer, "vae": tiny.vae(4),
        "scheduler": tiny.ddim(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
    }  # fmt: skip
    return tiny.write(tmp_path_factory.mktemp("pixart"), "PixArtSigmaPipeline", parts)


def run(pipe, latents, steps):
    return pipe(
        contract.PROMPT, negative_prompt=contract.NEGATIVE, guidance_scale=contract.SCALE, latents=latents,
        num_inference_steps=len(steps), height=16, width=16, output_type="latent", use_resolution_binning=False,
        clean_caption=False,
    ).images  # fmt: skip


def test_it_ends_where_the_pipeline_does(folder: Path):
    model, pipe = contract.same(folder, run, flow=False)
    contract.pictures(model, lambda z: pipe.vae.decode(z / 0.5).sample)


def test_the_learned_variance_is_left_out(folder: Path):
    model = models.load(folder)
    y, text = torch.randn(1, 4, 8, 8), model.encode_prompt(["a cube"])
    before = model.predict_x0(y, 1.0, text)
    with torch.no_grad():
        model.network.proj_out.bias.view(2, 2, 8)[:, :, 4:] += 1  # of each latent in a patch: ε first, then variance
    assert torch.equal(model.predict_x0(y, 1.0, text), before)


def test_older_folders_name_the_transformer_otherwise(folder: Path, tmp_path: Path):
    """The published folders' index, and their configs before diffusers 0.28."""
    older = Path(shutil.copytree(folder, tmp_path / "older"))
    for file in (older / "model_index.json", older / "transformer" / "config.json"):
        file.write_text(file.read_text().replace("PixArtTransformer2DModel", "Transformer2DModel"))
        y, text = torch.randn(1, 4, 8, 8), models.load(folder).encode_prompt(["a cube"])
        found, expected = (models.load(path).predict_x0(y, 1.0, text) for path in (older, folder))
        assert torch.equal(found, expected)


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
