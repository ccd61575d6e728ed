"""Sana (Xie et al. 2024, arXiv 2410.10629): flow matching on latents of 32 pixels, Gemma 2."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor

from . import ANY, FLOW
from ._pipeline import PipelineModel, Tensors, half, register_pipeline

PARTS = {
    "tokenizer": ANY,
    "text_encoder": "Gemma2Model",
    "transformer": "SanaTransformer2DModel",
    "vae": "AutoencoderDC",
    "scheduler": FLOW,
}


class Sana(PipelineModel):
    """The network takes 1000 t, times a scale of its config. A prompt, but no negative one, follows an instruction."""

    pipeline = "SanaPipeline"

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """Gemma's hidden states after the pipeline's own instruction, and their mask."""
        instruction = inspect.signature(pipe.__call__).parameters["complex_human_instruction"].default
        return self._embed(pipe, prompts, complex_human_instruction=instruction)

    def embed_negative(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """The same without an instruction."""
        return self._embed(pipe, prompts)

    def _embed(self, pipe: Any, prompts: list[str], **options: Any) -> dict[str, Tensor]:
        text, mask, *_ = pipe.encode_prompt(
            prompts, do_classifier_free_guidance=False, device=self.text.device, **options
        )
        return {"text": text, "mask": mask}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The transformer's answer."""
        time = 1000 * t * self.network.config.timestep_scale
        inputs = {"encoder_hidden_states": text["text"], "encoder_attention_mask": text["mask"]}
        return half(self.network(z, timestep=time, **inputs).sample, z)


register_pipeline("Sana", Sana, PARTS)
