"""Score distillation sampling (Poole et al. 2023, "DreamFusion"): w(σ) Jᵀ(ε̂ − ε) with random σ and fresh ε."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser, per_view
from ..errors import UserError
from ..sampling.state import Result
from .distil import Ask, Record, distil

WEIGHTS: dict[str, Callable[[Any], Any]] = {
    "sds": lambda sigma: sigma**2 / (1 + sigma**2),
    "uniform": lambda sigma: 1.0,
    "fantasia3d": lambda sigma: sigma**2 / (1 + sigma**2) ** 1.5,
    "x0": lambda sigma: sigma,
}
"""w(σ) by name. With ᾱ = 1/(1 + σ²): 1 − ᾱ (DreamFusion), 1, √ᾱ (1 − ᾱ) (Chen et al. 2023, "Fantasia3D"), and σ, by
which u is to descend u − x̂0 (Lukoianov et al. 2024)."""


def weight_of(name: str, sigma: Any) -> Any:
    """w(σ), of a number or a tensor; UserError for a name that is not in WEIGHTS."""
    if name not in WEIGHTS:
        raise UserError(f"weight {name!r} is not known; use one of {', '.join(WEIGHTS)}.")
    return WEIGHTS[name](sigma)


def gradient(ask: Ask, weight: str) -> Tensor:
    """w(σ) (ε̂ − ε) = w(σ) (u − x̂0)/σ [V,C,H,W] at a random level."""
    level = ask.random_level()
    sigma = per_view(level, ask.clean)
    x0 = ask.denoise(ask.clean + sigma * ask.noise(), level)
    return weight_of(weight, sigma) * (ask.clean - x0) / sigma


def sample(
    diffrep: nn.Module,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    steps: int = 1000,
    lr: float = 0.01,
    weight: str = "sds",
    optimizer: torch.optim.Optimizer | None = None,
    generator: torch.Generator | None = None,
    callback: Callable[[Record], None] | None = None,
) -> Result:
    """SDS on the diffrep's parameters. It seeks a mode of the smoothed model, whatever the noise, and does not sample.

    diffrep, views, denoise, generator: as for pullback.Sampler; guidance (100 in DreamFusion) is the denoiser's.
    sigmas: 1-D, decreasing, ending in 0; each positive one is equally likely in every step. steps: one denoiser call a
    view each. lr: of Adam, unless an `optimizer` over the diffrep's parameters is given. weight: a key of WEIGHTS.
    callback: called with the record of every step, a dict of plain values. Raises UserError for bad arguments,
    NonFiniteError where a NaN turns up.
    """
    weight_of(weight, 1.0)
    return distil(
        diffrep, views, denoise, sigmas, lambda ask: gradient(ask, weight), steps, lr, optimizer, generator, callback
    )
