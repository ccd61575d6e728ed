"""Decoded targets that encode to their own latents."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UserError
from .guided import GuidedDenoiser
from .wrapped import Wrapped


class RoundTrip(Wrapped):
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

    def __init__(self, denoise: GuidedDenoiser | Wrapped, rounds: int = 4, step: float = 0.5):
        if rounds < 0 or not 0 < step <= 1:
            raise UserError(
                "the number of rounds through the autoencoder must be at least 0 and their step in (0, 1], not "
                f"{rounds} and {step}"
            )
        super().__init__(denoise)
        self.rounds, self.step = rounds, step

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Images [V,3,H,W] whose latents are nearly `latents` [V,c,h,w]."""
        guess, images = latents, self.denoise.decode(latents)
        for _ in range(self.rounds):
            guess = guess + self.step * (latents - self.denoise.encode(images))
            images = self.denoise.decode(guess)
        return images
