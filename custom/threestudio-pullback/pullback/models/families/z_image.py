"""Z-Image (Tongyi 2025): flow matching with sign and time turned, Qwen3; lists of prompts of unequal length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from . import ANY, FLOW
from ._pipeline import PipelineModel, Tensors, register_pipeline

PARTS = {
    "tokenizer": ANY,
    "text_encoder": ANY,
    "transformer": "ZImageTransformer2DModel",
    "vae": "AutoencoderKL",
    "scheduler": FLOW,
}


class ZImage(PipelineModel):
    """The network takes 1 − t and returns x0 − ε.

    Diffusers' pipeline guides by c + s (c − u), so its scale is smaller by one than the one here.
    """

    pipeline = "ZImagePipeline"
    patch = 2

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """Qwen3's next to last layer, padded to the longest prompt, and a mask of what is none."""
        rows, _ = pipe.encode_prompt(list(prompts), device=self.text.device, do_classifier_free_guidance=False)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        return {"text": pad_sequence(rows, batch_first=True), "mask": mask}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The transformer's answer, turned."""
        prompts = [row[mask] for row, mask in zip(text["text"], text["mask"], strict=True)]
        answer = self.network(list(z[:, :, None]), 1 - t, prompts, return_dict=False)[0]
        return -torch.stack(list(answer))[:, :, 0]


register_pipeline("Z-Image", ZImage, PARTS)
