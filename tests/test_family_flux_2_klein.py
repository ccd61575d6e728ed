"""FLUX.2 klein against diffusers' own pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import diffusers
import family_contract as contract
import pytest
import tiny_parts as tiny
import torch
import transformers
from pullback import models


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformer = tiny.seeded(
        lambda: diffusers.Flux2Transformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=3 * tiny.WIDTH, timestep_guidance_channels=16, axes_dims_rope=(2, 2, 2, 2),
            guidance_embeds=False,
        )
    )  # fmt: skip
    vae = tiny.seeded(
        lambda: diffusers.AutoencoderKLFlux2(
            block_out_channels=(8, 16), decoder_block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4,
            sample_size=32, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )
    )  # fmt: skip
    generator = torch.Generator().manual_seed(5)
    vae.bn.running_mean.copy_(torch.randn(16, generator=generator))
    vae.bn.running_var.copy_(torch.rand(16, generator=generator) + 0.2)
    parts = {
        "tokenizer": tiny.words(), "text_encoder": tiny.qwen3(28, transformers.Qwen3ForCausalLM),
        "transformer": transformer, "vae": vae, "scheduler": tiny.flow(),
    }  # fmt: skip
    return tiny.write(tmp_path_factory.mktemp("klein"), "Flux2KleinPipeline", parts, is_distilled=False)


def tokens(z):
    """The network's latents from what the pipeline returns: statistics of the batch norm, two by two in one token."""
    patches = diffusers.Flux2KleinPipeline._patchify_latents(z)
    return patches


def run(pipe, latents, steps):
    negative, _ = pipe.encode_prompt(contract.NEGATIVE)
    z = pipe(
        prompt=contract.PROMPT, negative_prompt_embeds=negative, guidance_scale=contract.SCALE, sigmas=steps,
        latents=latents, height=32, width=32, output_type="latent",
    ).images  # fmt: skip
    bn, eps = pipe.vae.bn, pipe.vae.config.batch_norm_eps
    deviation = (bn.running_var + eps).sqrt()
    return (tokens(z) - bn.running_mean[:, None, None]) / deviation[:, None, None]


def test_it_ends_where_the_pipeline_does(folder: Path):
    model, pipe = contract.same(folder, run)
    assert (model.latent_channels, model.sample_size, model.vae_scale_factor) == (16, 8, 4)
    bn = pipe.vae.bn
    deviation = (bn.running_var + pipe.vae.config.batch_norm_eps).sqrt()[:, None, None]

    def decoded(z):
        return pipe.vae.decode(pipe._unpatchify_latents(z * deviation + bn.running_mean[:, None, None])).sample

    contract.pictures(model, decoded)


def test_a_distilled_one_is_said_by_name(folder: Path):
    assert not models.load(folder).cautions
    file = folder / "model_index.json"
    index = file.read_text()
    file.write_text(json.dumps(json.loads(index) | {"is_distilled": True}))
    (said,) = models.load(folder).cautions
    file.write_text(index)
    assert said.endswith("take FLUX.2 klein base")


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
