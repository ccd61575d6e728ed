"""DeepFloyd IF's first stage (DeepFloyd 2023): pixels of 64 by 64, ε-prediction with a learned variance, T5."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..schedulers import schedule_of
from . import ANY
from ._pipeline import PipelineModel, Tensors, half, register_pipeline

PARTS = {"tokenizer": ANY, "text_encoder": "T5EncoderModel", "unet": "UNet2DConditionModel", "scheduler": ANY}


class DeepFloydIF(PipelineModel):
    """A model of pixels: its latents are images. The answer's second half is a variance."""

    pipeline = "IFPipeline"
    levels = staticmethod(schedule_of)

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """T5's hidden states."""
        text, _ = pipe.encode_prompt(prompts, do_classifier_free_guidance=False, device=self.text.device)
        return {"text": text}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The UNet's ε."""
        return half(self.network(z, t, encoder_hidden_states=text["text"]).sample, z)


register_pipeline("DeepFloyd IF", DeepFloydIF, PARTS)
