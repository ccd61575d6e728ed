"""Stable Diffusion 3 against diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path

import diffusers
import family_contract as contract
import pytest
import tiny_parts as tiny
import torch
from pullback import models


def build(path: Path, t5: bool = True, width: int = 16, text: int = 40) -> Path:
    names = ("tokenizer", "tokenizer_2")
    parts = {name: tiny.clip_tokenizer(path, name) for name in names}
    parts |= {
        f"text_encoder{name[9:]}": tiny.clip(path, name, projection=True, seed=seed) for seed, name in enumerate(names)
    }
    parts |= {"tokenizer_3": tiny.words() if t5 else None, "text_encoder_3": tiny.t5(width=text) if t5 else None}
    parts["transformer"] = tiny.seeded(
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=2,
            attention_head_dim=width // 2, num_attention_heads=2, caption_projection_dim=width,
            joint_attention_dim=text, pooled_projection_dim=2 * tiny.WIDTH, pos_embed_max_size=8,
        )
    )  # fmt: skip
    parts |= {"vae": tiny.vae(shift_factor=0.3), "scheduler": tiny.flow()}
    return tiny.write(path, "StableDiffusion3Pipeline", parts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sd3"))


def run(pipe, latents, steps):
    return pipe(
        contract.PROMPT, negative_prompt=contract.NEGATIVE, guidance_scale=contract.SCALE, sigmas=steps,
        latents=latents, height=16, width=16, output_type="latent",
    ).images  # fmt: skip


def test_it_ends_where_the_pipeline_does(folder: Path):
    model, pipe = contract.same(folder, run)
    contract.pictures(model, lambda z: pipe.vae.decode(z / 0.5 + 0.3).sample)


def test_an_absent_t5_is_zeros(tmp_path: Path):
    model, _ = contract.same(build(tmp_path, t5=False), run)
    text = model.encode_prompt(["a cube"]).tensors["text"]
    assert text.shape == (1, 16 + 256, 40)
    assert not text[:, -256:].any() and not text[:, :-256, 2 * tiny.WIDTH :].any()


def test_time_is_a_thousand_t_and_the_answer_is_noise_minus_x0(folder: Path):
    model = models.load(folder)
    asked = []
    hook = model.network.register_forward_pre_hook(
        lambda _, args, kwargs: asked.append((args[0], kwargs["timestep"])), with_kwargs=True
    )
    y, text = torch.randn(1, 16, 8, 8), model.encode_prompt(["a cube"])
    x0 = model.predict_x0(y, 3.0, text)
    hook.remove()
    (z, time), *_ = asked
    assert time.item() == 750 and torch.allclose(z, y / 4)
    with torch.no_grad():
        answer = model.predict(z, torch.tensor([0.75]), text.tensors)
    assert torch.allclose(x0, z - 0.75 * answer, atol=1e-6)


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
