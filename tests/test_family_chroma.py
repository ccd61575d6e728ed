"""Chroma against diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path

import diffusers
import family_contract as contract
import pytest
import tiny_parts as tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformer = tiny.seeded(
        lambda: diffusers.ChromaTransformer2DModel(
            in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=tiny.WIDTH, axes_dims_rope=(2, 2, 4), approximator_num_channels=8,
            approximator_hidden_dim=16, approximator_layers=1,
        )
    )  # fmt: skip
    parts = {
        "tokenizer": tiny.words(), "text_encoder": tiny.t5(), "transformer": transformer,
        "vae": tiny.vae(shift_factor=0.1159), "scheduler": tiny.flow(),
    }  # fmt: skip
    return tiny.write(tmp_path_factory.mktemp("chroma"), "ChromaPipeline", parts)


def run(pipe, latents, steps):
    tokens = pipe(
        contract.PROMPT, negative_prompt=contract.NEGATIVE, guidance_scale=contract.SCALE, sigmas=steps,
        latents=pipe._pack_latents(latents, 1, *latents.shape[1:]), height=16, width=16, output_type="latent",
    ).images  # fmt: skip
    return pipe._unpack_latents(tokens, 16, 16, 2)


def test_it_ends_where_the_pipeline_does(folder: Path):
    model, pipe = contract.same(folder, run)
    contract.pictures(model, lambda z: pipe.vae.decode(z / 0.5 + 0.1159).sample)
    assert not model.cautions


def test_the_mask_counts_one_padding_token(folder: Path):
    from pullback import models

    mask = models.load(folder).encode_prompt(["a red cube", "a"]).tensors["mask"]
    assert mask.sum(1).tolist() == [4, 2]


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
