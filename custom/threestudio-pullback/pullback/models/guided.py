"""A text-to-image model with classifier-free guidance, as a latent denoiser of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Sigma, guide
from ..errors import UserError
from .protocol import LatentModel, Prompts, cat, expand

TextOf = Callable[[Any], tuple[Prompts, Prompts]]
"""views -> (cond, uncond): V `Prompts` each, or one for all views alike."""

FIT_SPACES = ("image", "latent")


class GuidedDenoiser:
    """x̂0 = x̂0_uncond + s (x̂0_cond − x̂0_uncond), diffusers' convention of the scale s; s = 1 skips uncond.

    A NaN of the model is not checked here. Source: Ho & Salimans 2022.

    Args:
        model: From `models.load`.
        text: See `TextOf`.
        guidance_scale: s.
        fit_space: "image" (a level's target is decoded once, and the fit calls no network) or "latent" (the fit goes
            backward through the encoder).
        chunk: Number of views that share one network call; by default all.

    Raises:
        UserError: There is no such fit_space, or `chunk` is below 1.
    """

    def __init__(
        self,
        model: LatentModel,
        text: TextOf,
        guidance_scale: float,
        fit_space: str = "image",
        chunk: int | None = None,
    ):
        if fit_space not in FIT_SPACES:
            raise UserError(f"fit_space is {fit_space!r}; use {' or '.join(FIT_SPACES)}")
        if chunk is not None and chunk < 1:
            raise UserError(f"the number of views per network call is {chunk}; use at least 1")
        self.model, self.text, self.chunk = model, text, chunk
        self.guidance_scale, self.fit_space = float(guidance_scale), fit_space

    @property
    def nfe_per_view(self) -> int:
        """Network evaluations that one view costs, 1 or 2."""
        return 1 if self.guidance_scale == 1 else 2

    def __call__(self, noisy: Tensor, sigma: Sigma, views: Any) -> Tensor:
        """Noisy latents [V,c,h,w] = u + σ ε → x̂0 [V,c,h,w] on noisy's device; σ and errors as for `predict_x0`."""
        count = len(noisy)
        cond, uncond = (expand(part, count) for part in self.text(views))
        size = self.chunk or count
        parts = (noisy.split(size), cond.split(size), uncond.split(size), split_levels(sigma, count, size))
        return torch.cat([self._guided(*batch) for batch in zip(*parts, strict=True)]).to(noisy.device)

    def encode(self, images: Tensor) -> Tensor:
        """Images [V,3,H,W] in [-1,1] → latents, with gradients only when the fit runs in latent space."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.fit_space == "latent"):
            return self.model.encode(images).to(images.device)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [V,c,h,w] → images [V,3,H,W], about [-1,1]; no gradients."""
        return self.model.decode(latents, self.chunk).to(latents.device)

    def _guided(self, noisy: Tensor, cond: Prompts, uncond: Prompts, sigma: Sigma) -> Tensor:
        if self.guidance_scale == 1:
            return self.model.predict_x0(noisy, sigma, cond)
        levels = torch.cat([sigma, sigma]) if isinstance(sigma, Tensor) else sigma
        both = self.model.predict_x0(torch.cat([noisy, noisy]), levels, cat(cond, uncond))
        x0_cond, x0_uncond = both.chunk(2)
        return guide(x0_cond, x0_uncond, self.guidance_scale)


def fixed_text(model: LatentModel, prompt: str, negative_prompt: str = "") -> TextOf:
    """The same prompt for every view, as the `text` of a `GuidedDenoiser`."""
    cond, uncond = model.encode_prompt([prompt, negative_prompt]).chunk(2)
    return lambda views: (cond, uncond)


def split_levels(sigma: Sigma, count: int, size: int) -> Sequence[Sigma]:
    """The level of each batch when `count` views are split into batches of `size`."""
    return sigma.split(size) if isinstance(sigma, Tensor) else [sigma] * -(-count // size)
