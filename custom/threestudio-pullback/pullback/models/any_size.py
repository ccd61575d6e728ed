"""A latent denoiser for renders of any size."""

from __future__ import annotations

from typing import Any

import torch

from .guided import GuidedDenoiser


class AnySize:
    """A latent denoiser for renders of any size: resized to the model's on the way in, and back on the way out."""

    def __init__(self, denoise: GuidedDenoiser) -> None:
        self.denoise = denoise
        self.fit_space, self.nfe_per_view = denoise.fit_space, denoise.nfe_per_view
        self.model_size = (denoise.model.image_size, denoise.model.image_size)
        self.render_size = self.model_size

    def __call__(self, noisy: torch.Tensor, sigma: float, views: Any) -> torch.Tensor:
        return self.denoise(noisy, sigma, views)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        # a visit encodes its renders before it decodes its targets, so the size to go back to is known
        self.render_size = (images.shape[-2], images.shape[-1])
        return self.denoise.encode(_resize(images, self.model_size))

    def fit_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of any size, resized to the model's."""
        size = self.denoise.model.sample_size
        return _resize(latents, (size, size))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return _resize(self.denoise.decode(latents), self.render_size)


def _resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if images.shape[-2:] == size:
        return images
    return torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
