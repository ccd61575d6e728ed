"""Score Jacobian chaining (Wang et al. 2023): the score of the noised render, chained through J; no metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser, per_view
from ..sampling.state import Result
from .distil import Ask, Record, distil


def gradient(ask: Ask, variance_reduction: bool) -> Tensor:
    """(y − x̂0)/σ [V,C,H,W], which is −σ times the score at y = u + σε; with variance reduction (u − x̂0)/σ.

    The two differ by ε, whose mean is 0.
    """
    level, noise = ask.random_level(), ask.noise()
    sigma = per_view(level, ask.clean)
    x0 = ask.denoise(ask.clean + sigma * noise, level)
    predicted = (ask.clean - x0) / sigma
    return predicted if variance_reduction else predicted + noise


def sample(
    diffrep: nn.Module,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    steps: int = 1000,
    lr: float = 0.01,
    variance_reduction: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
    generator: torch.Generator | None = None,
    callback: Callable[[Record], None] | None = None,
) -> Result:
    """SJC on the diffrep's parameters; seeks modes like SDS, with every level weighted alike.

    variance_reduction: take ε, whose mean is 0, out of the gradient, as the authors' code does; their paper's formula
    leaves it in. The rest is as for `sds.sample`.
    """
    return distil(
        diffrep, views, denoise, sigmas, lambda ask: gradient(ask, variance_reduction), steps, lr, optimizer, generator,
        callback,
    )  # fmt: skip
