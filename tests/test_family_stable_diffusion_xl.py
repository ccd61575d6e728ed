"""SDXL against diffusers' own pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import family_contract as contract
import pytest
import tiny_parts as tiny
import torch
from pullback import models
from pullback.models.families.stable_diffusion_xl import PARTS
from pullback.models.lora import LoRA


def build(path: Path, second: int = tiny.WIDTH, **vae: object) -> Path:
    """`second` is the width of the second text encoder."""
    parts = {"tokenizer": tiny.clip_tokenizer(path), "tokenizer_2": tiny.clip_tokenizer(path, "tokenizer_2")}
    parts |= {
        "text_encoder": tiny.clip(path),
        "text_encoder_2": tiny.clip(path, "tokenizer_2", projection=True, seed=1, width=second),
        "unet": tiny.unet(
            cross_attention_dim=tiny.WIDTH + second, addition_embed_type="text_time", addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + second,
        ),
        "vae": tiny.vae(4, **vae), "scheduler": tiny.ddim(),
    }  # fmt: skip
    return tiny.write(path, "StableDiffusionXLPipeline", parts, force_zeros_for_empty_prompt=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("xl"))


def run(pipe, latents, steps, **more):
    options = {"negative_prompt": contract.NEGATIVE, "guidance_scale": contract.SCALE, "height": 16, "width": 16}
    return pipe(
        contract.PROMPT, num_inference_steps=len(steps), latents=latents, output_type="latent", **options | more
    ).images


def test_it_ends_where_the_pipeline_does(folder: Path):
    model, pipe = contract.same(folder, run, flow=False)
    contract.pictures(model, lambda z: pipe.vae.decode(z / 0.5).sample)


def test_a_mean_and_deviation_of_each_channel(tmp_path: Path):
    mean, deviation = [0.1, -0.2, 0.3, 0.0], [0.5, 1.0, 2.0, 4.0]
    model = models.load(build(tmp_path, latents_mean=mean, latents_std=deviation))
    column = (torch.tensor(values)[:, None, None] for values in (deviation, mean))
    scale, shift = column
    contract.pictures(model, lambda z: model.vae.decode(z * scale / 0.5 + shift).sample)


def test_an_absent_negative_prompt_is_an_empty_one(folder: Path):
    """The pipeline's zeros are those of a config's `force_zeros_for_empty_prompt`, and of an absent prompt alone."""
    model, pipe = models.load(folder), contract.pipeline(folder)
    _, empty, _, pooled = pipe.encode_prompt("a", negative_prompt="")
    found = model.encode_negative_prompt([""])
    assert torch.equal(found.tensors["text"], empty) and torch.equal(found.tensors["pooled"], pooled)
    assert not pipe.encode_prompt("a")[1].any()


def test_a_lora_adapts_it(folder: Path):
    model = models.load(folder)
    lora, text = LoRA(model), model.encode_prompt(["a cube"])
    noisy = 2 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    loss = lora.loss(noisy, text, torch.eye(4)[None], torch.tensor([300]), noisy)
    loss.backward()
    grads = [value.grad for name, value in lora.layers.named_parameters() if name.endswith("up")]
    assert grads and all(grad is not None and grad.abs().sum() > 0 for grad in grads)


def test_a_refiner_is_one_sentence(tmp_path: Path):
    index = {part: [None, None] for part in ("text_encoder", "tokenizer")} | {
        part: ["diffusers", kind] for part, kind in PARTS.items() if part not in ("text_encoder", "tokenizer")
    }
    index |= {"_class_name": "StableDiffusionXLImg2ImgPipeline", "requires_aesthetics_score": True}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(models.ModelError) as caught:
        models.load(tmp_path)
    assert str(caught.value).endswith(
        "is a StableDiffusionXLImg2ImgPipeline without a tokenizer, which a Stable Diffusion XL model has; use another"
    )


def test_two_visits(folder: Path, tmp_path: Path):
    contract.two_visits(folder, tmp_path)


def test_a_plan_counts_its_weights_and_its_products(folder: Path):
    contract.planned(folder)


def test_an_autoencoder_that_overflows_in_half_precision_stays_single(tmp_path: Path):
    for says, dtype in ((True, torch.float32), (False, torch.float16)):
        model = models.load(build(tmp_path / str(says), force_upcast=says), dtype=torch.float16)
        assert (model.network.dtype, model.vae.dtype, model.dtype) == (torch.float16, dtype, torch.float16)
