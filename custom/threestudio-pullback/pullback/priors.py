"""Exact denoisers: priors whose posterior mean x̂0(y, σ) = E[x | x + σ ε = y] has a closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from .errors import UserError


class GaussianPrior:
    """Every view is x ~ N(mean, cov).

    Args:
        mean: [C,H,W].
        cov: [d,d] with d = C·H·W, symmetric positive semi-definite.

    Raises:
        UserError: `cov` has another shape or a negative eigenvalue.
    """

    def __init__(self, mean: Tensor, cov: Tensor):
        if cov.shape != (mean.numel(), mean.numel()):
            raise UserError(f"cov must be {mean.numel()} by {mean.numel()} for this mean, not {list(cov.shape)}")
        self.mean = mean
        variances, self.directions = cast(tuple[Tensor, Tensor], cast(Any, torch.linalg).eigh(cov))
        if variances[0] < -1e-6 * variances[-1].abs():
            raise UserError("cov has a negative eigenvalue; give a positive semi-definite matrix")
        self.variances = variances.clamp(min=0)  # rounding may leave zeros just below

    def _scaled(self, images: Tensor, factors: Tensor) -> Tensor:
        """The images mean + Σ_k factor_k ⟨image − mean, e_k⟩ e_k for every image of [V,C,H,W]."""
        parts = (images - self.mean).flatten(1) @ self.directions
        return self.mean + ((parts * factors) @ self.directions.T).view_as(images)

    def denoise(self, noisy: Tensor, sigma: float, views: Any = None) -> Tensor:
        """x̂0 = μ + Σ(Σ + σ²I)⁻¹(y − μ) [V,C,H,W]."""
        return self._scaled(noisy, self.variances / (self.variances + sigma**2))

    def flow(self, noisy: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """The exact map y(σ) ↦ y(σ') of the flow [V,C,H,W]: a factor √((λ_k+σ'²)/(λ_k+σ²)) along e_k."""
        return self._scaled(noisy, ((self.variances + sigma_next**2) / (self.variances + sigma**2)).sqrt())


class SceneMixture:
    """M scenes from any view: x ~ Σ_k w_k N(x_k(π), s²I), for each view on its own or for each group of views.

    Args:
        render_fn: Views -> x_k(π) [M,V,C,H,W].
        smoothing: s >= 0, in the images' units.
        weights: w [M], positive; they are scaled to sum to 1. All are equal if None.
        group: Views that show one scene; they come group by group, and are denoised together.

    Raises:
        UserError: Other values.
    """

    def __init__(
        self, render_fn: Callable[[Any], Tensor], smoothing: float, weights: Tensor | None = None, group: int = 1
    ):
        if not 0 <= smoothing < math.inf:
            raise UserError(f"smoothing of a mixture must be at least 0, not {smoothing}")
        if weights is not None and (weights.ndim != 1 or not bool((weights > 0).all())):
            raise UserError("weights of a mixture must be a 1-D tensor of positive numbers")
        if group < 1:
            raise UserError(f"a group of a mixture must have at least 1 view, not {group}")
        self.render_fn, self.smoothing, self.group = render_fn, smoothing, group
        self.weights = None if weights is None else weights / weights.sum()

    def responsibilities(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        """P(scene k | noisy view) [M,V], proportional to w_k exp(−‖y − x_k‖²/(2(σ² + s²))), y all views of a group."""
        return self._responsibilities(noisy, sigma, self._scenes(views, noisy))

    def _scenes(self, views: Any, like: Tensor) -> Tensor:
        scenes = self.render_fn(views)
        if self.weights is not None and len(self.weights) != len(scenes):
            raise UserError(f"a mixture of {len(scenes)} scenes needs as many weights, not {len(self.weights)}")
        return scenes.to(like)

    def _responsibilities(self, noisy: Tensor, sigma: float, scenes: Tensor) -> Tensor:
        square = (noisy - scenes).flatten(2).square().sum(2)
        square = square.view(len(square), -1, self.group).sum(2)
        log_odds = -square / (2 * (sigma**2 + self.smoothing**2))
        if self.weights is not None:
            log_odds = log_odds + self.weights.to(noisy).log()[:, None]
        return log_odds.softmax(0).repeat_interleave(self.group, 1)

    def denoise(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        """x̂0 = m + s²/(s² + σ²) (y − m) [V,C,H,W], m the scenes' mean under their responsibilities."""
        scenes = self._scenes(views, noisy)
        mean = torch.einsum("mv,mvchw->vchw", self._responsibilities(noisy, sigma, scenes), scenes)
        keep = self.smoothing**2 / (self.smoothing**2 + sigma**2)
        return mean + keep * (noisy - mean)

    def nearest(self, images: Tensor, views: Any) -> tuple[int, float]:
        """Index and rms distance of the scene nearest to the images [V,C,H,W], all views together."""
        rms = (images - self._scenes(views, images)).square().mean((1, 2, 3, 4)).sqrt()
        index = int(rms.argmin())
        return index, float(rms[index])


class MixturePrior(SceneMixture):
    """Every view is x ~ Σ_k w_k N(mean_k, s²I): a scene mixture that looks alike from all views.

    Args:
        means: [M,C,H,W].
        smoothing: As for SceneMixture.
        weights: As for SceneMixture.
    """

    def __init__(self, means: Tensor, smoothing: float, weights: Tensor | None = None):
        super().__init__(lambda views: means[:, None], smoothing, weights)
        self.means = means
