"""Every pretrained model as one posterior mean x̂0(y, σ) in variance-exploding coordinates.

With y = x0 + σ ε the probability-flow ODE is dy/dσ = ε̂(y, σ), ε̂ = (y − x̂0)/σ, whatever a network was
trained with (Karras et al. 2022, section 3). The functions here take a bare network call `net(z, t)` in its
own coordinates and return x̂0; bind the network with `functools.partial` or a closure to get a denoiser.

    family                        z               σ               x̂0
    VP, net predicts ε            y √ᾱ            √((1−ᾱ)/ᾱ)      y − σ net
    VP, net predicts v            y √ᾱ            √((1−ᾱ)/ᾱ)      √ᾱ z − √(1−ᾱ) net
    VP, net predicts x0           y √ᾱ            √((1−ᾱ)/ᾱ)      net
    flow matching, net = ε − x0   y (1−t)         t/(1−t)         z − t net
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, overload, runtime_checkable

import torch
from torch import Tensor

from .errors import UserError
from .levels import NoiseLevels

Sigma = float | Tensor
"""A noise level: one number for all views, or [V], one for each."""

Network = Callable[[Tensor, Any], Tensor]
"""net(z, t): the model's own state z [V,C,H,W] and its time t (a real number, or [V]) to a tensor like z."""


class Denoiser(Protocol):
    """The posterior mean of the clean images, in variance-exploding coordinates; any function of this form is one.

    It may have attributes more. `nfe_per_view` is the number of network evaluations that one view costs; it is 1 by
    default. A denoiser whose cost differs from call to call has `nfe`, its evaluations so far. One whose answers depend
    on earlier calls keeps a plain value in `memory`, None at the start, which a sampler saves and restores. `fit_space`
    of a `LatentDenoiser` is the space in which θ is fitted, "image" (the default) or "latent".
    """

    def __call__(self, noisy: Tensor, sigma: float, views: Any, /) -> Tensor:
        """x̂0(y, σ) [V,C,H,W] of noisy y = u + σ ε [V,C,H,W] in these views."""
        ...


@runtime_checkable
class LatentDenoiser(Denoiser, Protocol):
    """A denoiser of latents: the sampler encodes the renders for it."""

    def encode(self, images: Tensor) -> Tensor:
        """Renders [V,3,H,W] in [−1, 1] to latents [V,c,h,w]."""
        ...


@runtime_checkable
class Decoder(Protocol):
    """What a latent denoiser needs too where θ is fitted in image space."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents [V,c,h,w] to images [V,3,H,W], about [−1, 1]."""
        ...


@runtime_checkable
class JointDenoiser(Denoiser, Protocol):
    """A denoiser that sees several views of one object at once; the views come group by group."""

    @property
    def group_size(self) -> int:
        """Views in a group; a call has a multiple of it."""
        ...


PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


def per_view(sigma: Sigma, like: Tensor) -> Any:
    """σ as a factor of images [V,C,H,W]: a number as it is, [V] as [V,1,1,1] with the images' dtype and device."""
    return sigma.to(like).view(-1, 1, 1, 1) if isinstance(sigma, Tensor) else sigma


def root(value: Any) -> Any:
    """√ of a number or a tensor."""
    return value.sqrt() if isinstance(value, Tensor) else math.sqrt(value)


class VPSchedule(NoiseLevels):
    """The noise levels of a discrete-time variance-preserving model (DDPM, Stable Diffusion).

    Args:
        alphas_cumprod: ᾱ_t [T], strictly decreasing, inside (0, 1).

    Attributes:
        sigmas: √((1−ᾱ)/ᾱ) [T], float64, increasing with t.

    Raises:
        UserError: Other values.
    """

    def __init__(self, alphas_cumprod: Tensor):
        alphas = torch.as_tensor(alphas_cumprod).detach().to("cpu", torch.float64)
        if alphas.ndim != 1 or len(alphas) < 2 or not bool((alphas[1:] < alphas[:-1]).all()):
            raise UserError("alphas_cumprod must be a strictly decreasing 1-D tensor; give the scheduler's own")
        if not bool(((alphas > 0) & (alphas < 1)).all()):
            raise UserError(
                "alphas_cumprod must lie inside (0, 1); a schedule rescaled to zero terminal SNR has an "
                "infinite sigma, so load the model's scheduler with rescale_betas_zero_snr=False"
            )
        super().__init__(((1 - alphas) / alphas).sqrt())
        self._log_sigmas = self.sigmas.log()

    @overload
    def t_of_sigma(self, sigma: float) -> float: ...

    @overload
    def t_of_sigma(self, sigma: Tensor) -> Tensor: ...

    def t_of_sigma(self, sigma: Sigma) -> Sigma:
        """The real-valued time of a noise level, interpolated in log σ between the model's own levels.

        Args:
            sigma: A level, or levels [V].

        Returns:
            t in [0, T−1], a number or [V] of float64; an integer at the model's own levels.

        Raises:
            UserError: A level lies outside [sigma_min, sigma_max] by more than a thousandth, which counts as rounding.
        """
        if isinstance(sigma, Tensor):
            times = [self.t_of_sigma(float(level)) for level in sigma.unbind()]
            return torch.tensor(times, dtype=torch.float64, device=sigma.device)
        self.check(sigma)
        log_sigma = min(max(math.log(sigma), float(self._log_sigmas[0])), float(self._log_sigmas[-1]))
        upper = int(torch.searchsorted(self._log_sigmas, log_sigma).clamp(1, len(self.sigmas) - 1))
        left, right = float(self._log_sigmas[upper - 1]), float(self._log_sigmas[upper])
        return upper - 1 + (log_sigma - left) / (right - left)


def vp_x0(net: Network, schedule: VPSchedule, noisy: Tensor, sigma: Sigma, prediction_type: str = "epsilon") -> Tensor:
    """x̂0 of a variance-preserving model.

    Source: Karras et al. 2022, table 1; v-prediction: Salimans & Ho 2022.

    Args:
        net: The network.
        schedule: Its noise levels.
        noisy: y = x0 + σ ε [V,C,H,W].
        sigma: A number or [V], inside the schedule's range.
        prediction_type: Diffusers' name of what the network returns, one of PREDICTION_TYPES.

    Raises:
        UserError: Another prediction_type, or sigma out of range.
    """
    t = schedule.t_of_sigma(sigma)
    sigma = per_view(sigma, noisy)
    scale = 1 / root(1 + sigma**2)  # √ᾱ; √(1−ᾱ) = σ √ᾱ
    z = scale * noisy
    if prediction_type == "epsilon":
        return noisy - sigma * net(z, t)
    if prediction_type == "v_prediction":
        return scale * z - sigma * scale * net(z, t)
    if prediction_type == "sample":
        return net(z, t)
    raise UserError(f"prediction_type {prediction_type!r} is not known; use one of {', '.join(PREDICTION_TYPES)}")


def flow_x0(net: Network, noisy: Tensor, sigma: Sigma) -> Tensor:
    """x̂0 of a flow-matching model z_t = (1−t) x0 + t ε whose network returns ε − x0, with t in [0, 1).

    `noisy` is y = x0 + σ ε [V,C,H,W], `sigma` a number or [V]. Source: Lipman et al. 2023; Esser et al. 2024 (Stable
    Diffusion 3), whose networks take 1000 t.
    """
    t = sigma / (1 + sigma)
    share = per_view(t, noisy)
    z = (1 - share) * noisy
    return z - share * net(z, t)


def guide(x0_cond: Tensor, x0_uncond: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance x̂0_uncond + s (x̂0_cond − x̂0_uncond), diffusers' s (Ho & Salimans 2022's w + 1)."""
    return x0_uncond + scale * (x0_cond - x0_uncond)
