"""Lumina-Image 2.0 (Qin et al. 2025, arXiv 2503.21758): flow matching with sign and time turned, Gemma 2."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import ANY, FLOW
from ._pipeline import PipelineModel, Tensors, register_pipeline

PARTS = {
    "tokenizer": ANY,
    "text_encoder": "Gemma2Model",
    "transformer": "Lumina2Transformer2DModel",
    "vae": "AutoencoderKL",
    "scheduler": FLOW,
}


class Lumina2(PipelineModel):
    """The network takes 1 − t and returns x0 − ε. A prompt, but no negative one, follows a system prompt."""

    pipeline = "Lumina2Pipeline"
    patch = 2

    def warnings(self) -> list[str]:
        """What is left out."""
        return [
            "diffusers' Lumina-2 pipeline rescales guided predictions to the length of the conditional one "
            "(cfg_normalization), which is the score of no distribution; it is left out here"
        ]

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """Gemma's next to last layer, the system prompt included, and its mask."""
        text, mask, *_ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, device=self.text.device)
        return {"text": text, "mask": mask}

    def embed_negative(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """The same without a system prompt."""
        *_, text, mask = pipe.encode_prompt(prompts, negative_prompt=list(prompts), device=self.text.device)
        return {"text": text, "mask": mask}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The transformer's answer, turned."""
        inputs = {"encoder_hidden_states": text["text"], "encoder_attention_mask": text["mask"]}
        return -self.network(z, timestep=1 - t, **inputs).sample


register_pipeline("Lumina-Image 2.0", Lumina2, PARTS)
