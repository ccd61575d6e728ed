"""Chroma (Lodestone 2025): FLUX.1's latents and tokens without its distillation, T5 alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import ANY, FLOW
from ._pipeline import PipelineModel, Tensors, pack, places, register_pipeline, unpack

PARTS = {
    "tokenizer": ANY,
    "text_encoder": "T5EncoderModel",
    "transformer": "ChromaTransformer2DModel",
    "vae": "AutoencoderKL",
    "scheduler": FLOW,
}


class Chroma(PipelineModel):
    """The network takes t; its mask counts one padding token, and all tokens of the picture."""

    pipeline = "ChromaPipeline"
    patch, packing = 2, 4

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """T5's hidden states, and their mask."""
        text, _, mask, *_ = pipe.encode_prompt(prompts, device=self.text.device, do_classifier_free_guidance=False)
        return {"text": text, "mask": mask}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The transformer's answer."""
        tokens = pack(z)
        inputs = {"encoder_hidden_states": text["text"], "txt_ids": z.new_zeros(text["text"].shape[1], 3)}
        inputs["img_ids"] = places(z.shape[-2] // 2, z.shape[-1] // 2, 3, z)
        inputs["attention_mask"] = torch.cat([text["mask"].to(z), z.new_ones(tokens.shape[:2])], 1)
        return unpack(self.network(tokens, timestep=t, **inputs).sample, z)


register_pipeline("Chroma", Chroma, PARTS)
