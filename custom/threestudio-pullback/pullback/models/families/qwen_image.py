"""Qwen-Image (Wu et al. 2025, arXiv 2508.02324): flow matching on packed latents of a video autoencoder, Qwen2.5-VL."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from . import ANY, FLOW
from ._pipeline import PipelineModel, Tensors, pack, register_pipeline, unpack

PARTS = {
    "tokenizer": ANY,
    "text_encoder": "Qwen2_5_VLForConditionalGeneration",
    "transformer": "QwenImageTransformer2DModel",
    "vae": "AutoencoderKLQwenImage",
    "scheduler": FLOW,
}


class QwenImage(PipelineModel):
    """The network takes t."""

    pipeline = "QwenImagePipeline"
    patch, packing = 2, 4

    def warnings(self) -> list[str]:
        """What is left out."""
        return [
            "diffusers' Qwen-Image pipeline rescales each token of a guided prediction to the length of the "
            "conditional one, which is the score of no distribution; it is left out here"
        ]

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """Qwen's last layer without the template's tokens, padded to the longest prompt, and its mask."""
        text, mask = pipe.encode_prompt(prompts, device=self.text.device)
        return {"text": text, "mask": text.new_ones(text.shape[:2]).bool() if mask is None else mask.bool()}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The transformer's answer."""
        shape = [[(1, z.shape[-2] // 2, z.shape[-1] // 2)]] * len(z)
        mask = None if bool(text["mask"].all()) else text["mask"]
        inputs = {"encoder_hidden_states": text["text"], "encoder_hidden_states_mask": mask}
        return unpack(self.network(pack(z), timestep=t, img_shapes=shape, **inputs).sample, z)


register_pipeline("Qwen-Image", QwenImage, PARTS)
