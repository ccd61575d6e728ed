"""Separated noise: which white noise ε_i does each view see, and what of it is kept along the path?

The denoiser sees y_i = f(θ, π_i) + σ ε_i. A coupling turns one *source* of white noise into the ε_i, linearly
and so that every single view is unit white. All that is kept from visit to visit is the source; so refreshing
the source refreshes every view alike, and a new coupling is one class with `kept`, `draw` and `at`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import UserError
from ..named import Named

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


COUPLINGS: Named[Coupling] = Named("noise")
"""Couplings by the name that a config knows them by."""


class OneSource:
    """What couplings share: `draw` gives a source of the shape `size`, and `at` refuses one of another shape."""

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the source for renders of shape [V,C,H,W]."""
        raise NotImplementedError

    def draw(self, white: White, shape: tuple[int, ...]) -> Tensor:
        """A new source for renders of shape [V,C,H,W]."""
        return white(self.size(shape))

    def check_size(self, source: Tensor, shape: tuple[int, ...]) -> None:
        """UserError where a kept source was drawn for renders of another shape."""
        if tuple(source.shape) != self.size(shape):
            raise UserError(
                f"the renders changed to {list(shape)} along the path, but {type(self).__name__} noise keeps a source "
                f"of {list(source.shape)}; render at one size, and keep their number where every view has its own image"
            )


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
