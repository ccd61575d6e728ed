"""A latent diffusion model as a posterior mean in variance-exploding coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...denoiser import Sigma, VPSchedule, root, vp_x0
from .. import autoencoder
from ..reading import ModelError
from ..text import TextEncoder


class DiffusionModel:
    """Frozen UNet, VAE and text encoder of one Stable Diffusion model as a `LatentModel`; `models.load` makes one.

    `dtype` and `device` are the networks'. Arguments are cast to them, and results have at least float32.

    Args:
        unet: Diffusers' UNet2DConditionModel.
        vae: Diffusers' AutoencoderKL or AutoencoderTiny.
        text: The text encoder.
        schedule: The noise levels.
        prediction_type: "epsilon", "v_prediction" or "sample".
        fingerprint: See `LatentModel`.
    """

    def __init__(
        self,
        unet: Any,
        vae: Any,
        text: TextEncoder,
        schedule: VPSchedule,
        prediction_type: str,
        fingerprint: Callable[[], str],
    ):
        self.unet, self.vae, self.text = unet, vae, text
        self.schedule, self.prediction_type = schedule, prediction_type
        self.fingerprint = fingerprint
        self.sample_size, self.latent_channels = int(unet.config.sample_size), int(vae.config.latent_channels)
        self.vae_scale_factor = autoencoder.factor(vae.config)
        self.image_size = self.sample_size * self.vae_scale_factor

    @property
    def network(self) -> Any:
        """The UNet."""
        return self.unet

    @property
    def device(self) -> torch.device:
        """The networks' device."""
        return self.vae.device

    @property
    def dtype(self) -> torch.dtype:
        """The networks' dtype."""
        return self.vae.dtype

    @property
    def sigma_min(self) -> float:
        """The lowest noise level."""
        return self.schedule.sigma_min

    @property
    def sigma_max(self) -> float:
        """The highest noise level."""
        return self.schedule.sigma_max

    def encode_prompt(self, prompts: list[str]) -> Tensor:
        """Text embeddings [B, T, D] of B prompts, in the UNet's dtype."""
        return self.text.embed(prompts).to(self.device, self.dtype)

    def check_image_size(self, height: int, width: int) -> None:
        """Checks a size of images; the UNet takes latents of any size.

        Raises:
            ModelError: Height or width is no multiple of the VAE's factor.
        """
        unit = self.vae_scale_factor
        for name, value in (("height", height), ("width", width)):
            if value < unit or value % unit:
                below = max(unit, value // unit * unit)
                near = dict.fromkeys((below, -(-value // unit) * unit if value > unit else unit))
                raise ModelError(
                    f"is {value}, but the model takes multiples of {unit}; set it to "
                    f"{' or '.join(map(str, near))} (the model was trained at {self.image_size})",
                    name,
                )

    def encode(self, images: Tensor) -> Tensor:
        """Images [V,3,H,W] in [-1,1] → latents [V,c,H/f,W/f], see `autoencoder.encode`.

        Differentiable in `images`.

        Raises:
            ModelError: The model cannot take images of this size.
        """
        self.check_image_size(images.shape[-2], images.shape[-1])
        return autoencoder.encode(self.vae, images)

    @torch.no_grad()
    def decode(self, latents: Tensor, chunk: int | None = None) -> Tensor:
        """Latents [V,c,h,w] → images [V,3,H,W], about [-1,1], at most `chunk` at a time; no gradients."""
        return autoencoder.decode(self.vae, latents, chunk)

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
            if isinstance(t, Tensor):
                times = t.to(z.device, torch.float32)
            else:
                times = torch.full((len(z),), t, device=z.device)
            return self.unet(z.to(self.dtype), times, **inputs).sample.to(z.dtype)

        wide = noisy.to(self.device, _wide(noisy))
        level = sigma if isinstance(sigma, Tensor) else float(sigma)
        return vp_x0(net, self.schedule, wide, level, self.prediction_type)

    def network_inputs(self, text: Any) -> dict[str, Any]:
        """What the UNet takes beside latents and time, by its names; a subclass overrides it."""
        return {"encoder_hidden_states": text}

    def output_scale(self, sigma: Any) -> Any:
        """See `TrainableModel`."""
        # ε̂ − ε = −(x̂0 − u)/σ, v̂ − v = −(x̂0 − u) √(1 + σ²)/σ
        return {"epsilon": 1 / sigma, "v_prediction": root(1 + sigma**2) / sigma, "sample": sigma / sigma}[
            self.prediction_type
        ]

    def save_memory(
        self,
        enable_attention_slicing: bool = False,
        enable_channels_last_format: bool = False,
        enable_sequential_cpu_offload: bool = False,
        enable_memory_efficient_attention: bool = False,
        token_merging: bool = False,
        token_merging_params: dict[str, Any] | None = None,
    ) -> None:
        """Trades speed for memory; the arguments have threestudio's names.

        PyTorch's memory-efficient attention is always on, so its key has no further effect.

        Raises:
            ModelError: accelerate (for sequential offload) or tomesd (for token merging) is missing.
        """
        if enable_attention_slicing:
            self.unet.set_attention_slice("auto")
        if enable_channels_last_format:
            self.unet.to(memory_format=torch.channels_last)
        if token_merging:
            try:
                import tomesd  # type: ignore[import-not-found]
            except ImportError as error:
                needs = "needs the package tomesd; install it with `pip install tomesd` or set it to false"
                raise ModelError(needs, "token_merging") from error
            tomesd.apply_patch(self.unet, **(token_merging_params or {}))
        if enable_sequential_cpu_offload and self.device.type != "cpu":
            try:
                from accelerate import cpu_offload
            except ImportError as error:
                needs = "needs the package accelerate; install it with `pip install accelerate` or set it to false"
                raise ModelError(needs, "enable_sequential_cpu_offload") from error
            # the VAE stays: its device is the model's, and the decoder runs once a level only
            cpu_offload(self.unet, self.device)


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
