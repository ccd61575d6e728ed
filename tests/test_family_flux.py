"""FLUX.1 against diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path

import diffusers
import family_contract as contract
import pytest
import tiny_parts as tiny
import torch
from pullback import models


def build(path: Path, guidance: bool = True, heads: int = 2, axes: tuple[int, ...] = (2, 2, 4)) -> Path:
    transformer = tiny.seeded(
        lambda: diffusers.FluxTransformer2DModel(
            in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=sum(axes), num_attention_heads=heads,
            joint_attention_dim=tiny.WIDTH, pooled_projection_dim=tiny.WIDTH, guidance_embeds=guidance,
            axes_dims_rope=axes,
        )
    )  # fmt: skip
    parts = {
        "tokenizer": tiny.clip_tokenizer(path), "text_encoder": tiny.clip(path), "tokenizer_2": tiny.words(),
        "text_encoder_2": tiny.t5(), "transformer": transformer, "vae": tiny.vae(shift_factor=0.1159),
        "scheduler": tiny.flow(),
    }  # fmt: skip
    return tiny.write(path, "FluxPipeline", parts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("flux"))


def packed(z):
    return diffusers.FluxPipeline._pack_latents(z, 1, *z.shape[1:])


def run(pipe, latents, steps):
    tokens = pipe(
        contract.PROMPT, negative_prompt=contract.NEGATIVE, true_cfg_scale=contract.SCALE, guidance_scale=1.0,
        sigmas=steps, latents=packed(latents), height=16, width=16, output_type="latent",
    ).images  # fmt: skip
    return pipe._unpack_latents(tokens, 16, 16, 2)


def test_it_ends_where_the_pipeline_does(folder: Path):
    model, pipe = contract.same(folder, run)
    contract.pictures(model, lambda z: pipe.vae.decode(z / 0.5 + 0.1159).sample)
    with pytest.raises(models.ModelError, match=r"^height is 18, but the model takes multiples of 4"):
        model.check_image_size(18, 16)


def test_packing_is_the_pipelines():
    z = torch.arange(2 * 16 * 8 * 4.0).view(2, 16, 8, 4)
    from pullback.models.families._pipeline import pack, places, unpack

    assert torch.equal(pack(z), diffusers.FluxPipeline._pack_latents(z, 2, 16, 8, 4))
    assert torch.equal(unpack(pack(z), z), z)
    ids = diffusers.FluxPipeline._prepare_latent_image_ids(1, 4, 2, z.device, z.dtype)
    assert torch.equal(places(4, 2, 3, z), ids)
    assert torch.equal(places(1, 512, 4, z.bfloat16())[:, 2], torch.arange(512.0))  # words of FLUX.2


def test_distillation_is_said_by_name(folder: Path, tmp_path: Path):
    (said,) = models.load(folder).cautions
    assert said.startswith("FLUX.1 dev is distilled from guided samples")
    (said,) = models.load(build(tmp_path, guidance=False)).cautions
    assert "FLUX.1 schnell" in said


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
