"""Sana against diffusers' own pipeline."""

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
        lambda: diffusers.SanaTransformer2DModel(
            in_channels=8, out_channels=8, num_layers=1, num_attention_heads=2, attention_head_dim=8,
            num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16,
            caption_channels=tiny.WIDTH, sample_size=16, timestep_scale=0.5,
        )
    )  # fmt: skip
    vae = tiny.seeded(
        lambda: diffusers.AutoencoderDC(
            latent_channels=8, attention_head_dim=2, encoder_block_types=("ResBlock", "ResBlock"),
            decoder_block_types=("ResBlock", "ResBlock"), encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8), encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1),
            encoder_qkv_multiscales=((), ()), decoder_qkv_multiscales=((), ()), upsample_block_type="interpolate",
            downsample_block_type="stride_conv", scaling_factor=0.41407,
        )
    )  # fmt: skip
    parts = {
        "tokenizer": tiny.words(), "text_encoder": tiny.gemma2(), "transformer": transformer, "vae": vae,
        "scheduler": tiny.flow(),
    }  # fmt: skip
    return tiny.write(tmp_path_factory.mktemp("sana"), "SanaPipeline", parts)


def run(pipe, latents, steps):
    return pipe(
        contract.PROMPT, negative_prompt=contract.NEGATIVE, guidance_scale=contract.SCALE, sigmas=steps,
        latents=latents, num_inference_steps=len(steps), height=32, width=32, output_type="latent",
        use_resolution_binning=False,
    ).images  # fmt: skip


def test_it_ends_where_the_pipeline_does(folder: Path):
    model, pipe = contract.same(folder, run)
    contract.pictures(model, lambda z: pipe.vae.decode(z / 0.41407).sample)


def test_a_negative_prompt_follows_no_instruction(folder: Path):
    model = models.load(folder)
    prompt, negative = model.encode_prompt(["a cube"]), model.encode_negative_prompt(["a cube"])
    assert prompt.tensors["text"].shape == negative.tensors["text"].shape
    assert not torch.equal(prompt.tensors["text"], negative.tensors["text"])


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
