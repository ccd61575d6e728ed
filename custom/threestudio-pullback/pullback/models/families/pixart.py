"""PixArt-Σ (Chen et al. 2024, arXiv 2403.04692): ε-prediction with a learned variance, T5."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..schedulers import schedule_of
from . import ANY
from ._pipeline import PipelineModel, Tensors, half, register_pipeline

PARTS = {
    "tokenizer": ANY,
    "text_encoder": "T5EncoderModel",
    "transformer": "PixArtTransformer2DModel|Transformer2DModel",  # the second is its name in older folders
    "vae": "AutoencoderKL",
    "scheduler": ANY,
}


class PixArtSigma(PipelineModel):
    """The answer's second half is a variance, which an ordinary differential equation has no use for."""

    pipeline = "PixArtSigmaPipeline"
    patch = 2
    levels = staticmethod(schedule_of)

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """T5's hidden states, and their mask."""
        text, mask, *_ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, device=self.text.device)
        return {"text": text, "mask": mask}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The transformer's ε."""
        added = {"resolution": None, "aspect_ratio": None}
        inputs = {"encoder_hidden_states": text["text"], "encoder_attention_mask": text["mask"]}
        return half(self.network(z, timestep=t, added_cond_kwargs=added, **inputs).sample, z)


register_pipeline("PixArt-Σ", PixArtSigma, PARTS)
