"""Noise levels: decreasing standard deviations σ in variance-exploding coordinates, ending in 0."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ..errors import UserError


def karras_sigmas(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """σ_i = (σ_max^(1/ρ) + i/(n−1) (σ_min^(1/ρ) − σ_max^(1/ρ)))^ρ for i = 0..n−1, then 0.

    Source: Karras et al. 2022, eq. 5.

    Args:
        n: Levels above 0, at least 1; 1 gives sigma_max, 0.
        sigma_min: The last level above 0.
        sigma_max: The first level.
        rho: At least 1; a larger one puts more levels near sigma_min.

    Returns:
        [n+1] values, float64.

    Raises:
        UserError: A value is out of range.
    """
    _check_range(n, sigma_min, sigma_max)
    if not 1 <= rho < math.inf:
        raise UserError(f"rho of the noise schedule must be at least 1, not {rho}")
    ramp = torch.linspace(0, 1, n, dtype=torch.float64)
    sigmas = (sigma_max ** (1 / rho) + ramp * (sigma_min ** (1 / rho) - sigma_max ** (1 / rho))) ** rho
    sigmas[0] = sigma_max
    if n > 1:
        sigmas[-1] = sigma_min
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def highest_sigma(sigma_min: float, sigma_max: float, rho: float = 7.0, usual: float = 14.6) -> float:
    """A first level of `karras_sigmas` for a model whose own range ends far above the usual one.

    Flow matching and zero terminal SNR end near infinity, and a schedule up to there has most of its levels where
    nothing of the image is seen yet. With this one 15 % of the levels lie above `usual`, the highest σ of Stable
    Diffusion 1.5.

    Args:
        sigma_min: The last level above 0.
        sigma_max: The model's highest σ, which is not exceeded.
        rho: At least 1.
        usual: Above sigma_min.
    """
    share = 0.15
    top = (usual ** (1 / rho) - share * sigma_min ** (1 / rho)) / (1 - share)
    return min(sigma_max, max(top, 0.0) ** rho) if sigma_min < usual else sigma_max


def settling_sigmas(n: int, sigma_min: float, sigma_max: float, power: float = 2.0) -> Tensor:
    """σ_i = σ_min (σ_max/σ_min)^((1 − i/(n−1))^power) for i = 0..n−1, then 0.

    Args:
        n: Levels above 0, at least 1; 1 gives sigma_max, 0.
        sigma_min: The last level above 0.
        sigma_max: The first level.
        power: At least 1. 1 is geometric; a larger one slows down towards sigma_min, where `Langevin` settles.

    Returns:
        [n+1] values, float64.

    Raises:
        UserError: A value is out of range.
    """
    _check_range(n, sigma_min, sigma_max)
    if not 1 <= power < math.inf:
        raise UserError(f"power of the noise schedule must be at least 1, not {power}")
    ramp = 1 - torch.linspace(0, 1, n, dtype=torch.float64)
    sigmas = sigma_min * (sigma_max / sigma_min) ** ramp**power
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _check_range(n: int, sigma_min: float, sigma_max: float) -> None:
    if n < 1:
        raise UserError(f"the number of noise levels must be at least 1, not {n}")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise UserError(f"noise levels need 0 < sigma_min < sigma_max, not {sigma_min} and {sigma_max}")


def check_sigmas(sigmas: Tensor) -> list[float]:
    """The levels as plain numbers.

    Raises:
        UserError: They are not 1-D, finite and strictly decreasing to 0.
    """
    sigmas = torch.as_tensor(sigmas).detach().to("cpu", torch.float64)
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise UserError("sigmas must be a 1-D tensor of at least two levels, the last one 0; see karras_sigmas")
    levels = [float(sigma) for sigma in sigmas.unbind()]
    if levels[-1] != 0 or levels[0] == math.inf or not all(a > b for a, b in itertools.pairwise(levels)):
        raise UserError("sigmas must be finite, strictly decreasing and end in 0; see karras_sigmas")
    return levels
