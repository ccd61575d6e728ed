"""Decoded targets that encode to their own latents."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..denoiser import Sigma
from ..errors import UserError
from .guided import GuidedDenoiser


class RoundTrip:
    """A latent denoiser with decode(z) = D(w): from w = z, `rounds` times w ← w + step (z − E(D(w))).

    An autoencoder is no projection, E(D(z)) ≠ z, least of all for the blurred means of high noise levels. A fit in
    image space decodes and encodes every level's target, and the errors add up along the path. A few rounds remove most
    of the error; each costs a decoder and an encoder call, and no gradient.

    Args:
        denoise: A `GuidedDenoiser`.
        rounds: At least 0, which is the denoiser itself.
        step: In (0, 1]. With 1 the rounds may lead away from z where D and E are far from inverse, as the shipped
            model's are at σ > 3; with 1/2 less than half of its error remains after four rounds.

    Raises:
        UserError: `rounds` or `step` is out of range.
    """

    def __init__(self, denoise: GuidedDenoiser, rounds: int = 4, step: float = 0.5):
        if rounds < 0 or not 0 < step <= 1:
            raise UserError(
                "the number of rounds through the autoencoder must be at least 0 and their step in (0, 1], not "
                f"{rounds} and {step}"
            )
        self.step = step
        self.denoise, self.rounds = denoise, rounds
        self.model, self.fit_space, self.nfe_per_view = denoise.model, denoise.fit_space, denoise.nfe_per_view

    def __call__(self, noisy: Tensor, sigma: Sigma, views: Any) -> Tensor:
        """x̂0 of `denoise`."""
        return self.denoise(noisy, sigma, views)

    def encode(self, images: Tensor) -> Tensor:
        """Images [V,3,H,W] → latents [V,c,h,w]."""
        return self.denoise.encode(images)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images [V,3,H,W] whose latents are nearly `latents` [V,c,h,w]."""
        guess, images = latents, self.denoise.decode(latents)
        for _ in range(self.rounds):
            guess = guess + self.step * (latents - self.denoise.encode(images))
            images = self.denoise.decode(guess)
        return images
