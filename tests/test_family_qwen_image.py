"""Qwen-Image against diffusers' own pipeline."""

from __future__ import annotations

from pathlib import Path

import diffusers
import family_contract as contract
import pytest
import tiny_parts as tiny
import torch
import transformers
from pullback import models

MEAN, DEVIATION = [0.1, -0.2, 0.3, 0.0], [0.5, 1.0, 2.0, 4.0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformer = tiny.seeded(
        lambda: diffusers.QwenImageTransformer2DModel(
            in_channels=16, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=tiny.WIDTH, axes_dims_rope=(2, 2, 4),
        )
    )  # fmt: skip
    attention = transformer.transformer_blocks[0].attn
    tiny.seeded(
        lambda: [
            torch.nn.init.normal_(m.weight) for m in (transformer.txt_in, attention.add_v_proj, attention.to_out[0])
        ]
    )
    vae = tiny.seeded(
        lambda: diffusers.AutoencoderKLQwenImage(
            base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, attn_scales=[], temperal_downsample=[False],
            latents_mean=MEAN, latents_std=DEVIATION,
        )
    )  # fmt: skip
    text = {
        "vocab_size": 32, "hidden_size": tiny.WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1,
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "out_hidden_size": tiny.WIDTH}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision)
    parts = {
        "tokenizer": tiny.words(),
        "text_encoder": tiny.seeded(lambda: transformers.Qwen2_5_VLForConditionalGeneration(config), 1),
        "transformer": transformer, "vae": vae, "scheduler": tiny.flow(),
    }  # fmt: skip
    return tiny.write(tmp_path_factory.mktemp("qwen"), "QwenImagePipeline", parts, default_sample_size=16)


def run(scale: float):
    def run_pipe(pipe, latents, steps):
        size = 2 * latents.shape[-1]
        tokens = pipe(
            contract.PROMPT, negative_prompt=contract.NEGATIVE if scale > 1 else None, true_cfg_scale=scale,
            sigmas=steps, latents=pipe._pack_latents(latents, 1, *latents.shape[1:]), height=size, width=size,
            output_type="latent",
        ).images  # fmt: skip
        return pipe._unpack_latents(tokens, size, size, 2)[:, :, 0]

    return run_pipe


def test_it_ends_where_the_pipeline_does_without_guidance(folder: Path):
    model, pipe = contract.same(folder, run(1.0), scale=1.0)
    deviation, mean = (torch.tensor(values)[None, :, None, None, None] for values in (DEVIATION, MEAN))
    contract.pictures(model, lambda z: pipe.vae.decode(z[:, :, None] * deviation + mean).sample[:, :, 0])
    (said,) = model.cautions
    assert "rescales each token" in said


def test_it_ends_where_the_pipeline_does_without_its_rescaling(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The pipeline cannot be asked to leave the rescaling out, so all lengths that it computes are made 1."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage

    class Torch:
        def __getattr__(self, name):
            return getattr(torch, name)

        @staticmethod
        def norm(x, **options):
            return torch.ones(())

    monkeypatch.setattr(pipeline_qwenimage, "torch", Torch())
    contract.same(folder, run(contract.SCALE))


def test_prompts_of_unequal_length_share_a_call(folder: Path):
    model = models.load(folder)
    prompts = ["a red cube and a ball", "a"]
    text = model.encode_prompt(prompts)
    assert text.tensors["mask"].sum(1).diff().item() == -5
    y = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    alone = [model.predict_x0(y[i : i + 1], 2.0, model.encode_prompt([p])) for i, p in enumerate(prompts)]
    assert torch.allclose(model.predict_x0(y, 2.0, text), torch.cat(alone), atol=1e-5)


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)
