"""Score distillation via inversion (Lukoianov et al. 2024): SDS with σ annealed and ε inferred from u, not drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..denoiser import Denoiser
from ..errors import UserError
from ..sampling.state import Result
from .distil import Ask, Predict, Record, distil
from .sds import weight_of


def invert(
    clean: Tensor,
    levels: list[float],
    denoise: Predict,
    eta: float = 0.0,
    white: Callable[[], Tensor] | None = None,
    preserving: bool = False,
) -> Tensor:
    """The noise ε [V,C,H,W] with which u, taken as the image at the first level, arrives at the last: (y − u)/σ.

    levels: increasing σ; Euler steps of dy/dσ = ε̂ from each to the next, one denoiser call each: DDIM inversion.
    eta, white: noise of η times DDIM's standard deviation (Song et al. 2021, eq. 16) is added after each step, in the
    variance-preserving coordinates of z = y/√(1 + σ²). preserving: take u as the z of the first level, not as its y.
    """
    noisy = clean * math.sqrt(1 + levels[0] ** 2) if preserving else clean
    for sigma, higher in pairwise(levels):
        noisy = noisy + (higher - sigma) / sigma * (noisy - denoise(noisy, sigma))
        if eta > 0 and white is not None:
            deviation = sigma / higher * math.sqrt((higher**2 - sigma**2) * (1 + higher**2) / (1 + sigma**2))
            noisy = noisy + eta * deviation * white()
    return (noisy - clean) / levels[-1]


def gradient(
    ask: Ask, path: list[float], sigma: float, weight: str, eta: float = 0.0, remap: bool = True, **start: Any
) -> Tensor:
    """w(σ) (ε̂ − ε) [V,C,H,W] at σ, ε by inversion over the path with `ask.other`, or drawn where it has one level.

    path: increasing σ; it may end above σ, which varies the ε found. remap: that ε then makes up y at σ, as the paper
    has it; without, the denoiser sees the end of the inversion itself, as a variance-preserving state, as if its level
    were σ. start: for `invert`.
    """
    if len(path) < 2:
        noisy = ask.clean + sigma * ask.noise()
    else:
        noise = invert(ask.clean, path, ask.other or ask.denoise, eta, ask.noise, **start)
        if remap:
            noisy = ask.clean + sigma * noise
        else:
            noisy = (ask.clean + path[-1] * noise) * math.sqrt((1 + sigma**2) / (1 + path[-1] ** 2))
    x0 = ask.denoise(noisy, sigma)
    return weight_of(weight, sigma) * (ask.clean - x0) / sigma


def annealed(ask: Ask, inversion_steps: int, overshoot: bool) -> tuple[list[float], float]:
    """The path over the levels and its σ, that of the level whose turn it is.

    overshoot: the path ends as much as one of its steps above, at random.
    """
    current = int(ask.done * len(ask.levels))
    below = len(ask.levels) - 1 - current
    count = min(inversion_steps, below)
    path = [ask.levels[-1 - round(below * i / max(count, 1))] for i in range(count + 1)]
    sigma = path[-1]
    if overshoot and count:
        reach = min(below // count, current)
        step = torch.randint(reach + 1, (), generator=ask.generator, device=ask.generator.device)
        path[-1] = ask.levels[current - int(step)]
    return path, sigma


def sample(
    diffrep: nn.Module,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    steps: int = 1000,
    lr: float = 0.01,
    inversion_steps: int = 10,
    weight: str = "sds",
    eta: float = 0.0,
    overshoot: bool = False,
    invert_denoise: Denoiser | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    generator: torch.Generator | None = None,
    callback: Callable[[Record], None] | None = None,
) -> Result:
    """SDI on the diffrep's parameters: the levels are gone through from the first to the last, once.

    inversion_steps: denoiser calls a view and step beside the one of SDS, fewer near the last level, where there are
    not so many levels below; at the last one, with nothing to invert, ε is drawn. They should be the model's own levels
    or many. eta, overshoot: randomness of the inversion, see `invert` and `annealed`; the paper has 0.3 and True.
    invert_denoise: the denoiser of the inversion, in the paper the same model with a guidance scale of −7.5. weight: a
    key of sds.WEIGHTS. The rest is as for `sds.sample`.
    """
    if inversion_steps < 1:
        raise UserError(f"SDI needs at least 1 inversion step, not {inversion_steps}.")
    if not eta >= 0:
        raise UserError(f"eta of SDI must be at least 0, not {eta}.")
    weight_of(weight, 1.0)
    return distil(
        diffrep, views, denoise, sigmas,
        lambda ask: gradient(ask, *annealed(ask, inversion_steps, overshoot), weight, eta),
        steps, lr, optimizer, generator, callback, invert_denoise,
    )  # fmt: skip
