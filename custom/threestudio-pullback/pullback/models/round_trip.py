"""Decoded targets that the encoder takes back to the latents they were made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..denoiser import Sigma
from ..errors import UserError
from .guided import GuidedDenoiser


class RoundTrip:
    """A latent denoiser whose decode(z) is D(w) with E(D(w)) nearer to z: w ← w + (z − E(D(w))), `rounds` times.

    An autoencoder is no projection, E(D(z)) ≠ z. A fit in image space takes every level's target through both, so that
    what the two of them change adds up along the path; a few rounds take most of it out, at the price of a decoder and
    an encoder call each and of no gradient. With rounds=0 it is the denoiser itself. Raises UserError for rounds
    below 0.
    """

    def __init__(self, denoise: GuidedDenoiser, rounds: int = 2):
        if rounds < 0:
            raise UserError(f"The number of rounds through the autoencoder must be at least 0, not {rounds}.")
        self.denoise, self.rounds = denoise, rounds
        self.model, self.fit_space, self.nfe_per_view = denoise.model, denoise.fit_space, denoise.nfe_per_view

    def __call__(self, noisy: Tensor, sigma: Sigma, views: Any) -> Tensor:
        return self.denoise(noisy, sigma, views)

    def encode(self, images: Tensor) -> Tensor:
        return self.denoise.encode(images)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images [V,3,H,W] whose latents are nearly `latents` [V,c,h,w]."""
        asked, images = latents, self.denoise.decode(latents)
        for _ in range(self.rounds):
            asked = asked + latents - self.denoise.encode(images)
            images = self.denoise.decode(asked)
        return images
