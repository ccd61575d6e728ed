"""Noise levels of models that are trained with flow matching."""

from __future__ import annotations

from typing import Any

import torch

from ..denoiser import Sigma
from ..errors import UserError


class FlowSchedule:
    """z_t = (1 − t) x0 + k t ε for t in (0, 1), so σ = k t/(1 − t).

    The levels are those of a training that draws t from n/count; t = 1, of infinite σ, is left out. A scheduler's
    `shift` or `mu` says which steps a pipeline takes, not what the network is.

    Args:
        count: Number of steps of the training.
        noise_scale: k, 1 for most.
        lowest: The least t that the network is asked at.

    Attributes:
        sigmas: [count − 1], float64, increasing.
    """

    def __init__(self, count: int = 1000, noise_scale: float = 1.0, lowest: float = 0.0):
        t = torch.arange(1, count, dtype=torch.float64) / count
        t = t[t >= lowest]
        self.noise_scale = noise_scale
        self.sigmas = noise_scale * t / (1 - t)

    @property
    def sigma_min(self) -> float:
        """The lowest level."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The highest level."""
        return float(self.sigmas[-1])

    def t_of_sigma(self, sigma: Sigma) -> Any:
        """T = σ/(k + σ), a number or [V].

        Raises:
            UserError: A level lies outside [sigma_min, sigma_max] by more than a thousandth, which counts as rounding.
        """
        low, high = self.sigma_min, self.sigma_max
        for level in sigma.unbind() if isinstance(sigma, torch.Tensor) else [sigma]:
            if not low * 0.999 <= level <= high * 1.001:
                raise UserError(
                    f"sigma {float(level):.4g} lies outside the model's range [{low:.4g}, {high:.4g}]; "
                    "choose sigma_min and sigma_max inside it"
                )
        return sigma / (self.noise_scale + sigma)
