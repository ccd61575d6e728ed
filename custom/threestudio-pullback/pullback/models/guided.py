"""A text-to-image model with classifier-free guidance, as a latent denoiser of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Sigma, guide
from ..errors import UserError
from ..named import Choice
from .controlled import with_picture
from .guidance_policy import POLICIES, GuidancePolicy
from .joint import group_of, with_cameras
from .protocol import LatentModel, Prompts, cat, expand

TextOf = Callable[[Any], tuple[Prompts, Prompts]]
"""views -> (cond, uncond): V `Prompts` each, or one for all views alike."""

FIT_SPACES = ("image", "latent")


class GuidedDenoiser:
    """x̂0 = x̂0_uncond + s (x̂0_cond − x̂0_uncond), diffusers' convention of the scale s; s = 1 skips uncond.

    A NaN of the model is not checked here. Views of a model of several views come group by group, with cameras, see
    `joint.with_cameras`; it is then a `JointDenoiser` of the core. Source: Ho & Salimans 2022.

    Args:
        model: From `models.load`.
        text: See `TextOf`.
        guidance_scale: s.
        fit_space: "image" (a level's target is decoded once, and the fit calls no network) or "latent" (the fit goes
            backward through the encoder).
        chunk: Number of views that share one call of a network, rounded down to whole groups; by default all.
        policy: The calls that are guided, see `guidance_policy`; all by default.

    Attributes:
        group_size: Views that the model takes together, 1 for most.
        nfe: Network evaluations so far; each view of each of them counts.
        memory: The σ at which the two predictions agreed, for a policy that asks for it; None before they do.

    Raises:
        UserError: There is no such fit_space or policy, or `chunk` is below 1.
    """

    def __init__(
        self,
        model: LatentModel,
        text: TextOf,
        guidance_scale: float,
        fit_space: str = "image",
        chunk: int | None = None,
        policy: Choice[GuidancePolicy] = "always",
    ):
        if fit_space not in FIT_SPACES:
            raise UserError(f"fit_space is {fit_space!r}; use {' or '.join(FIT_SPACES)}")
        if chunk is not None and chunk < 1:
            raise UserError(f"the number of views per network call is {chunk}; use at least 1")
        self.model, self.text, self.group_size = model, text, group_of(model)
        self.chunk = chunk and max(self.group_size, chunk - chunk % self.group_size)
        self.guidance_scale, self.fit_space = float(guidance_scale), fit_space
        self.policy: GuidancePolicy = POLICIES.find(policy)
        self.nfe = 0
        self.memory: float | None = None

    @property
    def nfe_per_view(self) -> int:
        """The most network evaluations that one view costs, 1 or 2; a policy may spare some, and `nfe` counts them."""
        return 1 if self.guidance_scale == 1 else 2

    def __call__(self, noisy: Tensor, sigma: Sigma, views: Any) -> Tensor:
        """Noisy latents [V,c,h,w] = u + σ ε → x̂0 [V,c,h,w] on noisy's device; σ and errors as for `predict_x0`."""
        count = len(noisy)
        size, levels = self.chunk or count, _numbers(sigma, count)
        guided = [self.nfe_per_view > 1 and self.policy.guides(level, self.memory or 0.0) for level in levels]
        agree: list[bool] = []
        parts = (noisy.split(size), split_levels(sigma, count, size), torch.tensor(guided).split(size))
        texts = (text.split(size) for text in self._texts(views, count))
        x0 = torch.cat([self._x0(agree, *batch) for batch in zip(*parts, *texts, strict=True)])
        if agree and all(agree):
            self.memory = min(level for level, is_guided in zip(levels, guided, strict=True) if is_guided)
        return x0.to(noisy.device)

    def encode(self, images: Tensor) -> Tensor:
        """Images [V,3,H,W] in [-1,1] → latents, with gradients only when the fit runs in latent space."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.fit_space == "latent"):
            parts = images.split(self.chunk or len(images))
            return torch.cat([self.model.encode(part).to(images.device) for part in parts])

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [V,c,h,w] → images [V,3,H,W], about [-1,1]; no gradients."""
        return self.model.decode(latents, self.chunk).to(latents.device)

    def _texts(self, views: Any, count: int) -> tuple[Any, ...]:
        """The prompt of each view first, then what its guidance needs; all are split by views."""
        texts = (with_cameras(self.model, expand(part, count), views) for part in self.text(views))
        return tuple(with_picture(self.model, text, views) for text in texts)

    def _x0(self, agree: list[bool], noisy: Tensor, sigma: Sigma, guided: Tensor, *texts: Any) -> Tensor:
        """x̂0 of views that share a call; of views with guidance and without it in turn."""
        if bool(guided.all()):
            x0, cond, uncond = self._guide(noisy, sigma, *texts)
            agree.append(self.policy.agrees(cond, uncond))
            return x0
        if not bool(guided.any()):
            return self._predict(noisy, sigma, texts[0])
        parts = []
        for rows in (guided, ~guided):
            levels = sigma[rows.to(sigma.device)] if isinstance(sigma, Tensor) else sigma
            parts.append(self._x0(agree, noisy[rows], levels, guided[rows], *(text[rows] for text in texts)))
        order = torch.cat([guided.nonzero(), (~guided).nonzero()]).flatten().argsort()
        return torch.cat(parts)[order]

    def _guide(self, noisy: Tensor, sigma: Sigma, cond: Prompts, uncond: Prompts) -> tuple[Tensor, Tensor, Tensor]:
        """The guided x̂0, and the conditional and the unconditional one that it was made of."""
        levels = torch.cat([sigma, sigma]) if isinstance(sigma, Tensor) else sigma
        x0_cond, x0_uncond = self._predict(torch.cat([noisy, noisy]), levels, cat(cond, uncond)).chunk(2)
        return guide(x0_cond, x0_uncond, self.guidance_scale), x0_cond, x0_uncond

    def _predict(self, noisy: Tensor, sigma: Sigma, text: Prompts) -> Tensor:
        self.nfe += len(noisy)
        return self.model.predict_x0(noisy, sigma, text)


def fixed_text(model: LatentModel, prompt: str, negative_prompt: str = "") -> TextOf:
    """The same prompt for every view, as the `text` of a `GuidedDenoiser`."""
    if hasattr(model, "encode_negative_prompt"):
        texts = model.encode_prompt([prompt]), model.encode_negative_prompt([negative_prompt])  # type: ignore[attr-defined]
    else:
        texts = tuple(model.encode_prompt([prompt, negative_prompt]).chunk(2))
    return lambda views: texts


def split_levels(sigma: Sigma, count: int, size: int) -> Sequence[Sigma]:
    """The level of each batch when `count` views are split into batches of `size`."""
    return sigma.split(size) if isinstance(sigma, Tensor) else [sigma] * -(-count // size)


def _numbers(sigma: Sigma, count: int) -> list[float]:
    """The level of each view."""
    return [float(level) for level in sigma.unbind()] if isinstance(sigma, Tensor) else [float(sigma)] * count
