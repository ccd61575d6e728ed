"""Separated noise: which white noise ε_i does each view see, and what of it is kept along the path?

The denoiser sees y_i = f(θ, π_i) + σ ε_i. A coupling turns one *source* of white noise into the ε_i, linearly
and so that every single view is unit white. All that is kept from visit to visit is the source; so refreshing
the source refreshes every view alike, and a new coupling is one class with `kept`, `draw` and `at`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from .errors import UserError
from .smooth import Smooth
from .spherical import Spherical
from .surface import Surface

White = Callable[[tuple[int, ...]], Tensor]
"""white(shape): standard normal numbers of the sampler's generator, like the renders in device and dtype."""


class Coupling(Protocol):
    """How the noises of the views hang together."""

    @property
    def kept(self) -> bool:
        """Whether the source lives on along the path, or is drawn anew at every level visit."""
        ...

    def draw(self, white: White, shape: tuple[int, ...]) -> Tensor:
        """A new source for renders of shape [V,C,H,W]."""
        ...

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        """The noise [V,C,H,W] of these views; raises UserError where the source doesn't fit them."""
        ...


@dataclass(frozen=True)
class Shared:
    """One noise image for all views, now and later: every view votes with the same ε. Source [1,C,H,W]."""

    kept: bool = True

    def draw(self, white: White, shape: tuple[int, ...]) -> Tensor:
        return white((1, *shape[1:]))

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        if tuple(source.shape[1:]) != tuple(shape[1:]):
            raise UserError(
                f"The renders changed from {list(source.shape[1:])} to {list(shape[1:])} along the path, "
                "but noise='shared' keeps one noise image; render at one size."
            )
        return source.expand(shape)


@dataclass(frozen=True)
class Independent:
    """One noise image per view. Source [V,C,H,W], by slot: the i-th view of every visit has the i-th noise.

    With views drawn afresh at every visit, slot i is another camera each time and its noise travels along;
    the number of views must then stay the same. `kept=False` draws all of it anew at every visit ("fresh"): u
    then follows the mean field E_ε[x̂0(u + σε, σ)], which seeks modes instead of sampling.
    """

    kept: bool = True

    def draw(self, white: White, shape: tuple[int, ...]) -> Tensor:
        return white(shape)

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        if tuple(source.shape) != tuple(shape):
            raise UserError(
                f"The renders changed from {list(source.shape)} to {list(shape)} along the path, but "
                "noise='independent' keeps one image per view; keep their number and size or use 'shared'."
            )
        return source


COUPLINGS: dict[str, Coupling] = {
    "shared": Shared(),
    "independent": Independent(),
    "fresh": Independent(kept=False),
    "smooth": Smooth(),
    "surface": Surface(),
    "spherical": Spherical(),
}


def find(noise: str | Coupling) -> Coupling:
    """The coupling of that name (a key of COUPLINGS), or the object itself; UserError if there is none."""
    if isinstance(noise, str):
        if noise not in COUPLINGS:
            raise UserError(f"noise {noise!r} is not known; use one of {', '.join(COUPLINGS)}.")
        return COUPLINGS[noise]
    return noise


def refresh(source: Tensor, new: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """ε ← (σ' ε + √(σ² − σ'²) z)/σ: from noise level σ' back up to σ, with fresh z of the same coupling.

    source, new: ε and z, independent and unit white, of one shape. The result is unit white and correlates
    σ'/σ with ε. Source: RePaint (Lugmayr et al. 2022) in separated form, Savani et al. 2024.
    """
    return (sigma_next * source + math.sqrt(sigma**2 - sigma_next**2) * new) / sigma


def white(generator: torch.Generator, like: Tensor) -> White:
    """Normal numbers drawn on the generator's device, then moved: one seed, one noise, on any device."""

    def draw(shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
        return drawn.to(like.device)

    return draw
