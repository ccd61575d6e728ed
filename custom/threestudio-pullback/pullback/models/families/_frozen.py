"""What frozen models of all families share: sizes, autoencoder, and options that save memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...denoiser import Sigma, flow_x0, vp_x0
from .. import autoencoder
from ..model_error import ModelError

SIZE = 128
"""Height and width of latents, where neither the network's config nor the autoencoder's says it."""


class FrozenModel:
    """A network and an autoencoder, without gradients: the part of a `LatentModel` that does not depend on the family.

    Arguments of its methods are cast to the networks' dtype and device, and results have float32 at least.

    Args:
        network: The network that predicts.
        vae: One of diffusers' autoencoders; None for a model of pixels.
        schedule: The noise levels.
        fingerprint: See `LatentModel`.
        patch: Latents per token of the network, along each side.
        image_size: Height and width of the training's images; None where the networks' configs say it.

    Attributes:
        prediction_type: As `PREDICTION_TYPES`, or "flow" for ε − x0; a subclass sets it.
    """

    prediction_type: str

    def __init__(
        self,
        network: Any,
        vae: Any,
        schedule: Any,
        fingerprint: Callable[[], str],
        patch: int = 1,
        image_size: int | None = None,
    ):
        self._network, self.vae, self.schedule, self.fingerprint = network, vae, schedule, fingerprint
        self.vae_scale_factor = 1 if vae is None else autoencoder.factor(vae.config)
        self.latent_channels = network.config.in_channels if vae is None else autoencoder.channels(vae.config)
        self.sample_size = image_size // self.vae_scale_factor if image_size else self._size()
        self.image_size = self.sample_size * self.vae_scale_factor
        self._unit = self.vae_scale_factor * patch

    def _size(self) -> int:
        """The training's height and width of latents: sample_size of the network, a number or the same one twice."""
        size = self.network.config.get("sample_size")
        if size is None and self.vae is not None:
            size = self.vae.config.get("sample_size")
            size = size // self.vae_scale_factor if isinstance(size, int) else None
        sizes = {SIZE} if size is None else {size} if isinstance(size, int) else {*size}
        if len(sizes) > 1:
            raise ModelError(f"the network's sample_size is {size}, which is no square; use a model of square images")
        return int(sizes.pop())

    @property
    def network(self) -> Any:
        """The network that predicts."""
        return self._network

    @property
    def device(self) -> torch.device:
        """The networks' device."""
        return (self.network if self.vae is None else self.vae).device  # the network may be off the GPU

    @property
    def dtype(self) -> torch.dtype:
        """The network's dtype; the autoencoder's may be wider."""
        return self.network.dtype

    @property
    def sigma_min(self) -> float:
        """The lowest noise level."""
        return self.schedule.sigma_min

    @property
    def sigma_max(self) -> float:
        """The highest noise level."""
        return self.schedule.sigma_max

    def x0(self, net: Callable[[Tensor, Any], Tensor], noisy: Tensor, sigma: Sigma) -> Tensor:
        """x̂0 of net(z, t); a family whose network predicts something else overrides it."""
        if self.prediction_type == "flow":
            self.schedule.t_of_sigma(sigma)  # its range
            return flow_x0(net, noisy, sigma)
        return vp_x0(net, self.schedule, noisy, sigma, self.prediction_type)

    def check_image_size(self, height: int, width: int) -> None:
        """Checks a size of images; the network takes latents of any size.

        Raises:
            ModelError: Height or width is no multiple of the pixels per latent, or per token.
        """
        unit = self._unit
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
        return images.to(self.device) if self.vae is None else autoencoder.encode(self.vae, images)

    @torch.no_grad()
    def decode(self, latents: Tensor, chunk: int | None = None) -> Tensor:
        """Latents [V,c,h,w] → images [V,3,H,W], about [-1,1], at most `chunk` at a time; no gradients."""
        return latents.detach() if self.vae is None else autoencoder.decode(self.vae, latents, chunk)

    def save_memory(
        self,
        enable_attention_slicing: bool = False,
        enable_channels_last_format: bool = False,
        enable_sequential_cpu_offload: bool = False,
        enable_memory_efficient_attention: bool = False,
        enable_vae_tiling: bool = False,
        token_merging: bool = False,
        token_merging_params: dict[str, Any] | None = None,
    ) -> None:
        """Trades speed for memory; the arguments have threestudio's names, but for the autoencoder's tiling.

        PyTorch's memory-efficient attention is always on, so its key has no further effect.

        Raises:
            ModelError: accelerate (for sequential offload) or tomesd (for token merging) is missing.
        """
        if enable_attention_slicing and hasattr(self.network, "set_attention_slice"):
            self.network.set_attention_slice("auto")
        if enable_vae_tiling and hasattr(self.vae, "enable_tiling"):
            self.vae.enable_tiling()  # of pictures above the autoencoder's own size
        if enable_channels_last_format:
            self.network.to(memory_format=torch.channels_last)
        if token_merging:
            try:
                import tomesd  # type: ignore[import-not-found]
            except ImportError as error:
                needs = "needs the package tomesd; install it with `pip install tomesd` or set it to false"
                raise ModelError(needs, "token_merging") from error
            tomesd.apply_patch(self.network, **(token_merging_params or {}))
        if enable_sequential_cpu_offload and self.device.type != "cpu":
            try:
                from accelerate import cpu_offload
            except ImportError as error:
                needs = "needs the package accelerate; install it with `pip install accelerate` or set it to false"
                raise ModelError(needs, "enable_sequential_cpu_offload") from error
            # the VAE stays: its device is the model's, and the decoder runs once a level only
            cpu_offload(self.network, self.device)


def wide(tensor: Tensor) -> torch.dtype:
    """The dtype of arithmetic outside of networks: the tensor's, float32 at least."""
    return torch.promote_types(tensor.dtype, torch.float32)
