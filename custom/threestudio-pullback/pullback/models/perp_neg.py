"""Perp-Neg: guidance by negative prompts that does not weaken the prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Sigma
from ..named import Choice
from .guidance_policy import GuidancePolicy
from .guided import GuidedDenoiser
from .protocol import LatentModel, Prompts, expand, join

PerpNegText = tuple[Prompts, Prompts, Prompts, Tensor]
"""cond, uncond [V,...], negatives [V,N,...] and their weights [V,N], below 0 to steer away."""


class PerpNegDenoiser(GuidedDenoiser):
    """x̂0 = x̂0_uncond + s (Δ + Σ_i w_i Δ_i^⊥), Δ = x̂0_cond − x̂0_uncond, Δ_i = x̂0_neg,i − x̂0_uncond.

    Δ_i^⊥ is the part of Δ_i perpendicular to Δ, per view. With every w 0, or every negative equal to the prompt, this
    is classifier-free guidance. The arguments that are not below are those of `GuidedDenoiser`.
    Source: Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm" (arXiv 2304.04968).

    Args:
        text: Views -> `PerpNegText`.
        negatives: Number of negatives of a view, for `nfe_per_view`.
        policy: As for `GuidedDenoiser`; a view without guidance has no negatives either.
    """

    def __init__(
        self,
        model: LatentModel,
        text: Callable[[Any], PerpNegText],
        guidance_scale: float,
        fit_space: str = "image",
        chunk: int | None = None,
        negatives: int = 2,
        policy: Choice[GuidancePolicy] = "always",
    ):
        super().__init__(model, lambda views: text(views)[:2], guidance_scale, fit_space, chunk, policy)
        self.perp_neg_text, self.negatives = text, negatives

    @property
    def nfe_per_view(self) -> int:
        """The most network evaluations that one view costs; a view without guidance costs one."""
        return 2 + self.negatives

    def _texts(self, views: Any, count: int) -> tuple[Any, ...]:
        cond, uncond, negatives, weights = self.perp_neg_text(views)
        return expand(cond, count), expand(uncond, count), negatives, weights

    def _guide(
        self, noisy: Tensor, sigma: Sigma, cond: Prompts, uncond: Prompts, negatives: Any = None, weights: Any = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        count = 2 + weights.shape[1]
        texts = join(lambda c, u, n: torch.cat([c[:, None], u[:, None], n.to(c)], 1), cond, uncond, negatives)
        levels = sigma.repeat_interleave(count) if isinstance(sigma, Tensor) else sigma
        x0 = self._predict(noisy.repeat_interleave(count, 0), levels, join(lambda t: t.flatten(0, 1), texts))
        x0 = x0.unflatten(0, (-1, count))
        toward = x0[:, 0] - x0[:, 1]
        away = perpendicular(x0[:, 2:] - x0[:, 1:2], toward[:, None])
        steer = (weights.to(x0)[:, :, None, None, None] * away).sum(1)
        return x0[:, 1] + self.guidance_scale * (toward + steer), x0[:, 0], x0[:, 1]


def perpendicular(x: Tensor, y: Tensor) -> Tensor:
    """The part of x perpendicular to y, over the last three axes; x itself where y is 0."""
    axes = (-3, -2, -1)
    length = (y * y).sum(axes, keepdim=True)
    share = (x * y).sum(axes, keepdim=True) / torch.where(length > 0, length, 1)
    return x - share * y
