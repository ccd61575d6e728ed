"""A depth ControlNet in diffusers' format, against diffusers' own pipeline, with tiny random networks in float64."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline
from pullback import models
from pullback.errors import UserError
from pullback.models.controlled import with_picture
from tiny_pipeline import build

D = torch.float64


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model's folder and that of a ControlNet whose weights, the zero convolutions' too, are random."""
    place = tmp_path_factory.mktemp("control")
    build(place / "sd")
    unet = models.load(place / "sd").unet
    torch.manual_seed(3)
    net = ControlNetModel.from_unet(unet, conditioning_channels=3, controlnet_conditioning_channel_order="rgb")
    net = ControlNetModel(**{**net.config, "conditioning_embedding_out_channels": (8, 16)})
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    net.save_pretrained(place / "depth")
    return place / "sd", place / "depth"


@pytest.fixture(scope="module")
def model(folders: tuple[Path, Path]) -> models.Controlled:
    return models.controlled(models.load(folders[0], dtype=D), folders[1])


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


def test_a_guided_run_is_diffusers_controlnet_pipeline(folders: tuple[Path, Path], model: models.Controlled):
    """Six steps of DDIM at guidance 3, from the same latents, with the same picture: the same latents at the end."""
    net = ControlNetModel.from_pretrained(folders[1], torch_dtype=D)
    pipe: Any = StableDiffusionControlNetPipeline.from_pretrained(
        folders[0], controlnet=net, safety_checker=None, torch_dtype=D
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, set_alpha_to_one=True)
    pipe.scheduler.alphas_cumprod = pipe.scheduler.alphas_cumprod.double()
    pipe.set_progress_bar_config(disable=True)
    size = model.image_size
    picture, start = (
        torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(5), dtype=D),
        noise(1, 4, 8, 8),
    )
    cond, uncond = model.encode_prompt(["a red cube"]), model.encode_prompt([""])
    theirs = pipe(
        prompt_embeds=cond, negative_prompt_embeds=uncond, image=picture, latents=start.clone(), height=size,
        width=size, num_inference_steps=6, guidance_scale=3.0, controlnet_conditioning_scale=1.0, output_type="latent",
    ).images  # fmt: skip
    alphas = pipe.scheduler.alphas_cumprod[pipe.scheduler.timesteps]
    sigmas = [*((1 - alphas) / alphas).sqrt().tolist(), 0.0]
    denoise = models.GuidedDenoiser(model, lambda views: (cond, uncond), 3.0)
    y = start * math.sqrt(1 + sigmas[0] ** 2)
    for here, there in itertools.pairwise(sigmas):
        x0 = denoise(y, here, {models.PICTURE: picture})
        y = x0 + there / here * (y - x0)
    assert float((y - theirs).abs().max()) < 1e-6 * float(y.abs().max())
    other = models.GuidedDenoiser(model, lambda views: (cond, uncond), 3.0)(start, 1.0, {models.PICTURE: 1 - picture})
    same = models.GuidedDenoiser(model, lambda views: (cond, uncond), 3.0)(start, 1.0, {models.PICTURE: picture})
    assert float((other - same).abs().max()) > 1e-4  # the picture matters


def test_views_in_parts_are_the_views_together(model: models.Controlled):
    pictures, noisy = torch.rand(3, 3, 16, 16, dtype=D), noise(3, 4, 8, 8)
    text = models.fixed_text(model, "a red cube")
    whole = models.GuidedDenoiser(model, text, 2.0)(noisy, 1.5, {models.PICTURE: pictures})
    parts = models.GuidedDenoiser(model, text, 2.0, chunk=1)(noisy, 1.5, {models.PICTURE: pictures})
    assert torch.allclose(whole, parts, atol=1e-10)


def test_what_does_not_belong_together_is_said(folders: tuple[Path, Path], model: models.Controlled, tmp_path: Path):
    text = model.encode_prompt(["a cube"])
    with pytest.raises(UserError, match="needs what it is shown"):
        with_picture(model, text, {})
    plain = models.load(folders[0])
    assert with_picture(plain, text, {}) is text
    with pytest.raises(models.ModelError, match="which is no folder"):
        models.controlled(plain, tmp_path / "nowhere")
    with pytest.raises(models.ModelError, match="holds a UNet2DConditionModel, not the ControlNetModel"):
        models.controlled(plain, folders[0] / "unet")
    other = models.load(build(tmp_path / "other"))
    other.unet.register_to_config(cross_attention_dim=32)
    with pytest.raises(models.ModelError, match="its cross_attention_dim is 16, the model's 32"):
        models.controlled(other, folders[1])
