"""PRX (Photoroom 2025): flow matching with T5Gemma on latents, or with Qwen3-VL on pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ...denoiser import Sigma, per_view
from .. import schedulers
from ..flow import FlowSchedule
from ..model_error import ModelError
from ..reading import ModelFolder
from . import ANY, FLOW
from ._pipeline import PipelineModel, Tensors, register_pipeline

PIXEL_PARTS = {"tokenizer": ANY, "text_encoder": ANY, "transformer": "PRXTransformer2DModel", "scheduler": FLOW}
PARTS = PIXEL_PARTS | {"vae": "AutoencoderKL|AutoencoderDC"}
LOWEST = 0.05
"""The least t of PRX Pixel: below it the pipeline divides by 0.05, and its steps are not those of the flow."""


class PRX(PipelineModel):
    """The network takes t."""

    pipeline = "PRXPipeline"
    patch = 2

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """The encoder's last layer, and its mask."""
        try:
            import ftfy  # type: ignore[import-not-found]  # noqa: F401
        except ImportError as error:
            raise ModelError("PRX's pipeline needs the package ftfy; install it with `pip install ftfy`") from error
        text, mask, *_ = pipe.encode_prompt(prompts, self.text.device, do_classifier_free_guidance=False)
        return {"text": text, "mask": mask}

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """The transformer's answer."""
        return self.network(z, t, encoder_hidden_states=text["text"], attention_mask=text["mask"]).sample


class PRXPixel(PRX):
    """A model of pixels that predicts x0 of z = (1 − t) x0 + k t ε, with k = 2."""

    pipeline = "PRXPixelPipeline"

    @staticmethod
    def levels(folder: ModelFolder) -> tuple[FlowSchedule, str]:
        """σ = k t/(1 − t) for t of at least 0.05."""
        schedulers.config_of(folder, schedulers.FLOW)
        return FlowSchedule(1000, float(folder.json("model_index.json").get("noise_scale", 2.0)), LOWEST), "sample"

    def x0(self, net: Callable[[Tensor, Any], Tensor], noisy: Tensor, sigma: Sigma) -> Tensor:
        """The network's answer."""
        t = self.schedule.t_of_sigma(sigma)
        return net((1 - per_view(t, noisy)) * noisy, t)


register_pipeline("PRX", PRX, PARTS)
register_pipeline("PRX Pixel", PRXPixel, PIXEL_PARTS)
