"""The base of denoisers that change what another one encodes and decodes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..denoiser import Sigma
from .guided import GuidedDenoiser
from .protocol import LatentModel


class Wrapped:
    """A latent denoiser that answers as `denoise`; a subclass overrides `encode` or `decode`.

    Args:
        denoise: The other denoiser.
    """

    def __init__(self, denoise: GuidedDenoiser | Wrapped) -> None:
        self.denoise, self.fit_space = denoise, denoise.fit_space

    @property
    def model(self) -> LatentModel:
        """The model."""
        return self.denoise.model

    @property
    def group_size(self) -> int:
        """Views that one call takes together."""
        return self.denoise.group_size

    @property
    def nfe(self) -> int:
        """Network evaluations so far."""
        return self.denoise.nfe

    @property
    def nfe_per_view(self) -> int:
        """The most network evaluations that one view costs."""
        return self.denoise.nfe_per_view

    @property
    def memory(self) -> float | None:
        """What `denoise` keeps between calls."""
        return self.denoise.memory

    @memory.setter
    def memory(self, memory: float | None) -> None:
        self.denoise.memory = memory

    def __call__(self, noisy: Tensor, sigma: Sigma, views: Any) -> Tensor:
        """x̂0 of `denoise`."""
        return self.denoise(noisy, sigma, views)

    def encode(self, images: Tensor) -> Tensor:
        """Images [V,3,H,W] → latents [V,c,h,w]."""
        return self.denoise.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [V,c,h,w] → images [V,3,H,W]."""
        return self.denoise.decode(latents)
