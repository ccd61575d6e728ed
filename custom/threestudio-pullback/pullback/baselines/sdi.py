"""Score distillation via inversion (Lukoianov et al. 2024): SDS with σ annealed and ε inferred from u, not drawn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..space import Denoiser
from ..state import Result
from .distil import Ask, Record, distil
from .sds import weight_of


def invert(clean: Tensor, levels: list[float], denoise: Callable[[Tensor, float], Tensor]) -> Tensor:
    """The noise ε [V,C,H,W] with which u, taken as the image at the first level, arrives at the last: (y − u)/σ.

    levels: increasing σ; Euler steps of dy/dσ = ε̂ from each to the next, one denoiser call each: DDIM inversion.
    """
    noisy = clean
    for sigma, higher in pairwise(levels):
        noisy = noisy + (higher - sigma) / sigma * (noisy - denoise(noisy, sigma))
    return (noisy - clean) / levels[-1]


def gradient(ask: Ask, inversion_steps: int, weight: str) -> Tensor:
    """w(σ) (ε̂ − ε) [V,C,H,W] at the level whose turn it is, ε by inversion over the levels below."""
    current = int(ask.done * len(ask.levels))
    below = len(ask.levels) - 1 - current
    count = min(inversion_steps, below)
    path = [ask.levels[-1 - round(below * i / max(count, 1))] for i in range(count + 1)]
    sigma = path[-1]
    noise = invert(ask.clean, path, ask.denoise) if count else ask.noise()
    x0 = ask.denoise(ask.clean + sigma * noise, sigma)
    return weight_of(weight, sigma) * (ask.clean - x0) / sigma


def sample(
    diffrep: nn.Module,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    steps: int = 1000,
    lr: float = 0.01,
    inversion_steps: int = 10,
    weight: str = "sds",
    optimizer: torch.optim.Optimizer | None = None,
    generator: torch.Generator | None = None,
    callback: Callable[[Record], None] | None = None,
) -> Result:
    """SDI on the diffrep's parameters: the levels are gone through from the first to the last, once.

    inversion_steps: denoiser calls a view and step beside the one of SDS, fewer near the last level, where there are
    not so many levels below; at the last one, with nothing to invert, ε is drawn. They should be the model's own levels
    or many. weight: a key of sds.WEIGHTS. The rest is as for `sds.sample`.
    """
    if inversion_steps < 1:
        raise UserError(f"SDI needs at least 1 inversion step, not {inversion_steps}.")
    weight_of(weight, 1.0)
    return distil(
        diffrep, views, denoise, sigmas, lambda ask: gradient(ask, inversion_steps, weight), steps, lr, optimizer,
        generator, callback,
    )  # fmt: skip
