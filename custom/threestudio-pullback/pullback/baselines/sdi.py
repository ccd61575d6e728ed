"""Score distillation via inversion (Lukoianov et al. 2024): SDS with σ annealed and ε inferred from u, not drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..denoiser import Denoiser
from ..errors import UserError
from ..fitting import DiffRep
from ..sampling.state import Result
from .distil import Descent, Predict, Step, distil
from .sds import weight_of

if TYPE_CHECKING:
    from typing_extensions import Unpack


def invert(
    clean: Tensor,
    levels: list[float],
    denoise: Predict,
    eta: float = 0.0,
    white: Callable[[], Tensor] | None = None,
    preserving: bool = False,
) -> Tensor:
    """The noise ε with which u, taken as the image at the first level, arrives at the last: (y − u)/σ.

    DDIM inversion: Euler steps of dy/dσ = ε̂ from each level to the next, one denoiser call each.

    Args:
        clean: u [V,C,H,W].
        levels: Increasing σ.
        denoise: (noisy, σ) -> x̂0.
        eta: Noise of `eta` times DDIM's standard deviation (Song et al. 2021, eq. 16) is added after each step, in the
            variance-preserving coordinates of z = y/√(1 + σ²).
        white: Draws that noise, [V,C,H,W]; without it there is none.
        preserving: Whether u is the z of the first level, not its y.

    Returns:
        ε [V,C,H,W].
    """
    noisy = clean * math.sqrt(1 + levels[0] ** 2) if preserving else clean
    for sigma, higher in pairwise(levels):
        noisy = noisy + (higher - sigma) / sigma * (noisy - denoise(noisy, sigma))
        if eta > 0 and white is not None:
            deviation = sigma / higher * math.sqrt((higher**2 - sigma**2) * (1 + higher**2) / (1 + sigma**2))
            noisy = noisy + eta * deviation * white()
    return (noisy - clean) / levels[-1]


def gradient(
    step: Step, path: list[float], sigma: float, weight: str, eta: float = 0.0, remap: bool = True, **start: Any
) -> Tensor:
    """w(σ) (ε̂ − ε) [V,C,H,W] at σ.

    Args:
        step: Its `other` denoiser inverts, or its first one where it has no other.
        path: Increasing σ over which ε is inverted; it may end above `sigma`, which varies ε. With one level ε is
            drawn instead.
        sigma: σ of the gradient.
        weight: A key of sds.WEIGHTS.
        eta: See `invert`.
        remap: Whether that ε makes up y at σ, as in the paper; otherwise the denoiser sees the end of the inversion
            itself, as a variance-preserving state, as if its level were σ.
        **start: For `invert`.
    """
    if len(path) < 2:
        noisy = step.clean + sigma * step.noise()
    else:
        noise = invert(step.clean, path, step.other or step.denoise, eta, step.noise, **start)
        if remap:
            noisy = step.clean + sigma * noise
        else:
            noisy = (step.clean + path[-1] * noise) * math.sqrt((1 + sigma**2) / (1 + path[-1] ** 2))
    x0 = step.denoise(noisy, sigma)
    return weight_of(weight, sigma) * (step.clean - x0) / sigma


def annealed(step: Step, inversion_steps: int, overshoot: bool) -> tuple[list[float], float]:
    """The path of a step of the descent.

    Args:
        step: Its share of the steps taken chooses the level.
        inversion_steps: Steps of the path; fewer where there are not so many levels below.
        overshoot: Whether the path ends up to one of its steps higher, at random.

    Returns:
        Increasing levels, and σ of the chosen level.
    """
    current = int(step.done * len(step.levels))
    below = len(step.levels) - 1 - current
    count = min(inversion_steps, below)
    path = [step.levels[-1 - round(below * i / max(count, 1))] for i in range(count + 1)]
    sigma = path[-1]
    if overshoot and count:
        reach = min(below // count, current)
        higher = torch.randint(reach + 1, (), generator=step.generator, device=step.generator.device)
        path[-1] = step.levels[current - int(higher)]
    return path, sigma


def sample(
    diffrep: DiffRep,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    inversion_steps: int = 10,
    weight: str = "sds",
    eta: float = 0.0,
    overshoot: bool = False,
    invert_denoise: Denoiser | None = None,
    **descent: Unpack[Descent],
) -> Result:
    """SDI on the diffrep's parameters: the levels are gone through from the first to the last, once.

    Args:
        diffrep: As for `sds.sample`.
        views: As for `sds.sample`.
        denoise: As for `sds.sample`.
        sigmas: As for `sds.sample`; the model's own levels, or many.
        inversion_steps: Denoiser calls per view and step beside the one of SDS. There are fewer near the last level,
            which has not so many levels below it; at the last level there is nothing to invert, and ε is drawn.
        weight: As for `sds.sample`.
        eta: Randomness of the inversion, see `invert`; 0.3 in the paper.
        overshoot: Randomness of its end, see `annealed`; True in the paper.
        invert_denoise: Denoiser of the inversion; in the paper the same model with a guidance scale of −7.5.
        **descent: See `Descent`.

    Raises:
        UserError: An argument is out of range.
    """
    if inversion_steps < 1:
        raise UserError(f"SDI needs at least 1 inversion step, not {inversion_steps}")
    if not eta >= 0:
        raise UserError(f"eta of SDI must be at least 0, not {eta}")
    weight_of(weight, 1.0)

    def annealed_gradient(step: Step) -> Tensor:
        return gradient(step, *annealed(step, inversion_steps, overshoot), weight, eta)

    return distil(diffrep, views, denoise, sigmas, annealed_gradient, invert_denoise, **descent)
