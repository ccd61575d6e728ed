"""Noise levels of models that are trained with flow matching."""

from __future__ import annotations

from typing import Any

import torch

from ..denoiser import Sigma
from ..levels import NoiseLevels


class FlowSchedule(NoiseLevels):
    """z_t = (1 − t) x0 + k t ε for t in (0, 1), so σ = k t/(1 − t).

    The levels are those of a training that draws t from n/count; t = 1, of infinite σ, is left out. A scheduler's
    `shift` or `mu` says which steps a pipeline takes, not what the network is.

    Args:
        count: Number of steps of the training.
        noise_scale: k, 1 for most.
        lowest: The least t that the network is asked at.

    Attributes:
        count: As the argument; UNets are told count · t.
        sigmas: [count − 1], float64, increasing.
    """

    def __init__(self, count: int = 1000, noise_scale: float = 1.0, lowest: float = 0.0):
        t = torch.arange(1, count, dtype=torch.float64) / count
        t = t[t >= lowest]
        super().__init__(noise_scale * t / (1 - t))
        self.count, self.noise_scale = count, noise_scale

    def t_of_sigma(self, sigma: Sigma) -> Any:
        """T = σ/(k + σ), a number or [V].

        Raises:
            UserError: A level lies outside [sigma_min, sigma_max] by more than a thousandth, which counts as rounding.
        """
        self.check(sigma)
        return sigma / (self.noise_scale + sigma)
