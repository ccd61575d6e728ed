"""Stable Diffusion XL (Podell et al. 2023, arXiv 2307.01952): two CLIP text encoders, a pooled vector, six sizes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...denoiser import Sigma
from ..protocol import Conditioning
from ..schedulers import schedule_of_unet
from . import ANY
from ._latent_unet import DiffusionModel
from ._pipeline import PipelineModel, Tensors, register_pipeline

PARTS = {
    "tokenizer": "CLIPTokenizer",
    "tokenizer_2": "CLIPTokenizer",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "scheduler": ANY,
}


class StableDiffusionXL(PipelineModel):
    """Told that a picture has the size of its latents, uncropped. A negative prompt is always encoded.

    Diffusers' pipeline takes zeros for an absent negative prompt, and encodes an empty one.
    """

    pipeline = "StableDiffusionXLPipeline"
    half = torch.float16
    levels = staticmethod(schedule_of_unet)

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """Hidden states of both encoders side by side, and the pooled vector of the second."""
        text, _, pooled, _ = pipe.encode_prompt(prompts, device=self.text.device, do_classifier_free_guidance=False)
        return {"text": text, "pooled": pooled}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The UNet's answer."""
        height, width = (size * self.vae_scale_factor for size in z.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], dtype=z.dtype, device=z.device)
        if self.prediction_type == "flow":
            t = self.schedule.count * t
        added = {"text_embeds": text["pooled"], "time_ids": sizes.expand(len(z), -1)}
        return self.network(z, t, encoder_hidden_states=text["text"], added_cond_kwargs=added).sample

    # a LoRA can adapt it, see `TrainableModel`

    def differentiable_x0(self, noisy: Tensor, sigma: Sigma, text: Conditioning) -> Tensor:
        """`predict_x0`, with gradients where they are enabled."""
        return self._predict_x0(noisy, sigma, text)

    output_scale = DiffusionModel.output_scale


register_pipeline("Stable Diffusion XL", StableDiffusionXL, PARTS)
