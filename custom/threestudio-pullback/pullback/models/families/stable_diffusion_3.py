"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv 2403.03206): flow matching, two CLIP encoders and T5."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import ANY, FLOW
from ._pipeline import PipelineModel, Tensors, register_pipeline

PARTS = {
    "tokenizer": "CLIPTokenizer",
    "tokenizer_2": "CLIPTokenizer",
    "text_encoder": "CLIPTextModelWithProjection",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "transformer": "SD3Transformer2DModel",
    "vae": "AutoencoderKL",
    "scheduler": FLOW,
}
T5 = {"tokenizer_3": ANY, "text_encoder_3": "T5EncoderModel"}
"""May be absent; its part of the embedding is then zeros."""


class StableDiffusion3(PipelineModel):
    """The network takes 1000 t."""

    pipeline = "StableDiffusion3Pipeline"
    patch = 2

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """CLIP's hidden states, padded with zeros to T5's width, before T5's; and both pooled vectors."""
        inputs = {"prompt_2": None, "prompt_3": None, "device": self.text.device, "do_classifier_free_guidance": False}
        text, _, pooled, _ = pipe.encode_prompt(prompts, **inputs)
        return {"text": text, "pooled": pooled}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The transformer's answer."""
        inputs = {"encoder_hidden_states": text["text"], "pooled_projections": text["pooled"]}
        return self.network(z, timestep=1000 * t, **inputs).sample


register_pipeline("Stable Diffusion 3 or 3.5", StableDiffusion3, PARTS, T5)
