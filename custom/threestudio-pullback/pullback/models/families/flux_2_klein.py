"""FLUX.2 klein (Black Forest Labs 2026): flow matching on tokens whose statistics are a batch norm's, Qwen3."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import ANY, FLOW
from ._pipeline import PipelineModel, Tensors, places, register_pipeline

PARTS = {
    "tokenizer": ANY,
    "text_encoder": "Qwen3ForCausalLM",
    "transformer": "Flux2Transformer2DModel",
    "vae": "AutoencoderKLFlux2",
    "scheduler": FLOW,
}


class Flux2Klein(PipelineModel):
    """The network takes t; a latent is a token, 16 pixels wide."""

    pipeline = "Flux2KleinPipeline"

    def warnings(self) -> list[str]:
        """What distillation means."""
        if not self.text.folder.json("model_index.json").get("is_distilled"):
            return []
        return [
            "this FLUX.2 klein is distilled to a few steps and does not know the distribution that a sampler samples; "
            "take FLUX.2 klein base"
        ]

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """Three layers of Qwen3, side by side."""
        text, _ = pipe.encode_prompt(prompts, device=self.text.device)
        return {"text": text}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The transformer's answer."""
        height, width = z.shape[-2:]
        words = places(1, text["text"].shape[1], 4, z).roll(1, 1)  # the fourth number is the word's place
        inputs = {"img_ids": places(height, width, 4, z), "txt_ids": words}
        inputs = {name: ids.expand(len(z), -1, -1) for name, ids in inputs.items()}
        answer = self.network(z.flatten(2).mT, encoder_hidden_states=text["text"], timestep=t, guidance=None, **inputs)
        return answer.sample.mT.unflatten(2, (height, width))


register_pipeline("FLUX.2 klein", Flux2Klein, PARTS)
