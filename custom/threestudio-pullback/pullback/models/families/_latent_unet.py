"""A latent diffusion model as a posterior mean in variance-exploding coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...denoiser import Sigma, VPSchedule, root
from ..flow import FlowSchedule
from ..text import TextEncoder
from ._frozen import FrozenModel, wide


class DiffusionModel(FrozenModel):
    """Frozen UNet, VAE and text encoder of one Stable Diffusion model as a `LatentModel`; `models.load` makes one.

    `dtype` and `device` are the networks'. Arguments are cast to them, and results have at least float32.

    Args:
        unet: Diffusers' UNet2DConditionModel.
        vae: Diffusers' AutoencoderKL or AutoencoderTiny.
        text: The text encoder.
        schedule: The noise levels.
        prediction_type: "epsilon", "v_prediction", "sample", or "flow" for ε − x0 and levels of flow matching.
        fingerprint: See `LatentModel`.
        embeds_prompts: Whether prompts are embedded here, from their words, and not by a prompt processor.
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        text: TextEncoder,
        schedule: VPSchedule | FlowSchedule,
        prediction_type: str,
        fingerprint: Callable[[], str],
        embeds_prompts: bool = False,
    ):
        self.unet, self.text, self.prediction_type = unet, text, prediction_type
        self.embeds_prompts = embeds_prompts
        super().__init__(unet, vae, schedule, fingerprint)

    @property
    def network(self) -> Any:
        """The UNet."""
        return self.unet

    def encode_prompt(self, prompts: list[str]) -> Tensor:
        """Text embeddings [B, T, D] of B prompts, in the UNet's dtype."""
        return self.text.embed(prompts).to(self.device, self.dtype)

    @torch.no_grad()
    def predict_x0(self, noisy: Tensor, sigma: Sigma, text: Any) -> Tensor:
        """Posterior mean x̂0 [V,c,h,w], at the real-valued time interpolated in log σ; see `pullback.denoiser.vp_x0`.

        Args:
            noisy: x0 + σ ε [V,c,h,w].
            sigma: σ, a number or [V].
            text: Embeddings [V,T,D].

        Raises:
            UserError: A sigma lies outside [sigma_min, sigma_max].
        """
        return self.differentiable_x0(noisy, sigma, text)

    def differentiable_x0(self, noisy: Tensor, sigma: Sigma, text: Any) -> Tensor:
        """`predict_x0`, with gradients where they are enabled."""
        inputs = self.network_inputs(text.to(self.device, self.dtype))

        def net(z: Tensor, t: Sigma) -> Tensor:
            if self.prediction_type == "flow":
                t = self.schedule.count * t
            if isinstance(t, Tensor):
                times = t.to(z.device, torch.float32)
            else:
                times = torch.full((len(z),), t, device=z.device)
            return self.evaluate(z.to(self.dtype), times, inputs).to(z.dtype)

        y = noisy.to(self.device, wide(noisy))
        level = sigma if isinstance(sigma, Tensor) else float(sigma)
        return self.x0(net, y, level)

    def evaluate(self, z: Tensor, times: Tensor, inputs: dict[str, Any]) -> Tensor:
        """The UNet's output [V,c,h,w] at its own latents and times [V]; a subclass adds to it."""
        return self.unet(z, times, **inputs).sample

    def network_inputs(self, text: Any) -> dict[str, Any]:
        """What the UNet takes beside latents and time, by its names; a subclass overrides it."""
        return {"encoder_hidden_states": text}

    def output_scale(self, sigma: Any) -> Any:
        """See `TrainableModel`."""
        # ε̂ − ε = −(x̂0 − u)/σ, v̂ − v = −(x̂0 − u) √(1 + σ²)/σ, of a flow −(x̂0 − u)/t with t = σ/(1 + σ)
        return {
            "epsilon": 1 / sigma,
            "v_prediction": root(1 + sigma**2) / sigma,
            "sample": sigma / sigma,
            "flow": (1 + sigma) / sigma,
        }[self.prediction_type]
