"""A latent denoiser for renders of any size."""

from __future__ import annotations

import torch

from .guided import GuidedDenoiser
from .wrapped import Wrapped


class AnySize(Wrapped):
    """A latent denoiser for renders of any size: it resizes them to the model's size and the answers back.

    Args:
        denoise: The denoiser, for images of the model's size.
    """

    def __init__(self, denoise: GuidedDenoiser | Wrapped) -> None:
        super().__init__(denoise)
        self.model_size = (denoise.model.image_size, denoise.model.image_size)
        self.render_size = self.model_size

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Images [V,3,H,W] of any size → latents [V,c,h,w] of the model's size."""
        # a visit encodes its renders before it decodes its targets, which get the same size
        self.render_size = (images.shape[-2], images.shape[-1])
        return self.denoise.encode(_resize(images, self.model_size))

    def fit_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of any size, resized to the model's."""
        size = self.denoise.model.sample_size
        return _resize(latents, (size, size))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [V,c,h,w] → images of the size that `encode` had last."""
        return _resize(self.denoise.decode(latents), self.render_size)


def _resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if images.shape[-2:] == size:
        return images
    return torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
