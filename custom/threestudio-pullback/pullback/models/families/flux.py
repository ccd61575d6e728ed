"""FLUX.1 (Black Forest Labs 2024): flow matching on packed latents, CLIP and T5; both releases are distilled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import ANY, FLOW
from ._pipeline import PipelineModel, Tensors, pack, places, register_pipeline, unpack

PARTS = {
    "tokenizer": "CLIPTokenizer",
    "tokenizer_2": ANY,
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "T5EncoderModel",
    "transformer": "FluxTransformer2DModel",
    "vae": "AutoencoderKL",
    "scheduler": FLOW,
}
EMBEDDED_GUIDANCE = 1.0
"""The scale that a guidance-distilled network is told: the one of the conditional model, which `guide` then guides."""


class Flux(PipelineModel):
    """The network takes t, and where it is distilled a scale of guidance beside."""

    pipeline = "FluxPipeline"
    patch, packing = 2, 4

    def warnings(self) -> list[str]:
        """What distillation means."""
        if self.network.config.guidance_embeds:
            return [
                "FLUX.1 dev is distilled from guided samples, so it does not know the distribution that a sampler "
                "samples; it is told the guidance 1, and guidance_scale guides it as any other model"
            ]
        return [
            "this FLUX.1 has no embedded guidance, as FLUX.1 schnell, which is distilled to a few steps and does not "
            "know the distribution that a sampler samples; take an undistilled model (docs/models.md)"
        ]

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """T5's hidden states, and CLIP's pooled vector."""
        text, pooled, _ = pipe.encode_prompt(prompts, prompts, device=self.text.device)
        return {"text": text, "pooled": pooled}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The transformer's answer."""
        inputs = {"encoder_hidden_states": text["text"], "pooled_projections": text["pooled"]}
        if self.network.config.guidance_embeds:
            inputs["guidance"] = torch.full_like(t, EMBEDDED_GUIDANCE)
        inputs["img_ids"] = places(z.shape[-2] // 2, z.shape[-1] // 2, 3, z)
        inputs["txt_ids"] = z.new_zeros(text["text"].shape[1], 3)
        return unpack(self.network(pack(z), timestep=t, **inputs).sample, z)


register_pipeline("FLUX.1", Flux, PARTS)
