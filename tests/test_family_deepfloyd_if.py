"""DeepFloyd IF's first stage against diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path

import family_contract as contract
import pytest
import tiny_parts as tiny
import torch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    unet = tiny.unet(
        in_channels=3, out_channels=6, encoder_hid_dim=tiny.WIDTH, encoder_hid_dim_type="text_proj",
        addition_embed_type="text", addition_embed_type_num_heads=2, cross_attention_dim=8,
    )  # fmt: skip
    scheduler = tiny.ddim(beta_schedule="squaredcos_cap_v2")
    scheduler.register_to_config(variance_type="fixed_small")  # of DDPM's config, which the pipeline reads
    parts = {
        "tokenizer": tiny.words(), "text_encoder": tiny.t5(), "unet": unet, "safety_checker": None,
        "feature_extractor": None, "watermarker": None,
        "scheduler": scheduler,
    }  # fmt: skip
    return tiny.write(tmp_path_factory.mktemp("if"), "IFPipeline", parts, requires_safety_checker=False)


def run(pipe, latents, steps):
    pipe.prepare_intermediate_images = lambda *args: latents
    images = pipe(
        contract.PROMPT, negative_prompt=contract.NEGATIVE, guidance_scale=contract.SCALE, output_type="pt",
        num_inference_steps=len(steps), clean_caption=False,
    ).images  # fmt: skip
    return images


def test_it_ends_where_the_pipeline_does(folder: Path):
    model, _ = contract.same(folder, run, flow=False)
    assert (model.latent_channels, model.vae_scale_factor, model.image_size) == (3, 1, 8)
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(model.encode(images), images) and torch.equal(model.decode(images), images)


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
