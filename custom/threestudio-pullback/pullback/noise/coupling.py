"""Separated noise: the white noise ε_i of each view, and its source, which is kept along the path.

The denoiser sees y_i = f(θ, π_i) + σ ε_i. A coupling turns one *source* of white noise linearly into the ε_i, so that
each of them is unit white. The source alone is kept from visit to visit: refreshing it refreshes every view. A new
coupling is one class with `kept`, `draw` and `at`.
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
"""white(shape): standard normal numbers of the sampler's generator, with the renders' device and dtype."""


class Coupling(Protocol):
    """A joint distribution of the views' noises."""

    @property
    def kept(self) -> bool:
        """Whether the source is kept along the path; otherwise every visit of a level draws a new one."""
        ...

    def draw(self, white: White, shape: tuple[int, ...]) -> Tensor:
        """A new source for renders of shape [V,C,H,W]."""
        ...

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        """The noise of the views.

        Args:
            source: What `draw` gave.
            views: V views, as the representation renders them.
            shape: That of the renders [V,C,H,W].

        Returns:
            Unit white noise [V,C,H,W].

        Raises:
            UserError: The source does not fit the views.
        """
        ...


COUPLINGS: Named[Coupling] = Named("noise")
"""Couplings by their names in a config."""


class OneSource:
    """Base of the couplings: their source has the shape `size`, and `check_size` refuses another shape."""

    def size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the source for renders of shape [V,C,H,W]."""
        raise NotImplementedError

    def draw(self, white: White, shape: tuple[int, ...]) -> Tensor:
        """A new source for renders of shape [V,C,H,W]."""
        return white(self.size(shape))

    def check_size(self, source: Tensor, shape: tuple[int, ...]) -> None:
        """Checks that a kept source belongs to renders of this shape.

        Raises:
            UserError: It was drawn for renders of another shape.
        """
        if tuple(source.shape) != self.size(shape):
            raise UserError(
                f"the renders changed to {list(shape)} along the path, but {type(self).__name__} noise keeps a source "
                f"of {list(source.shape)}; render at one size, and keep their number where every view has its own image"
            )


def refresh(source: Tensor, new: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """ε ← (σ' ε + √(σ² − σ'²) z)/σ: from noise level σ' back up to σ, with fresh z of the same coupling.

    Source: RePaint (Lugmayr et al. 2022) in separated form, Savani et al. 2024.

    Args:
        source: ε, unit white.
        new: z, unit white, independent of ε and of its shape.
        sigma: σ.
        sigma_next: σ'.

    Returns:
        Unit white noise, which correlates σ'/σ with ε.
    """
    return (sigma_next * source + math.sqrt(sigma**2 - sigma_next**2) * new) / sigma


def white(generator: torch.Generator, like: Tensor) -> White:
    """Normal numbers, drawn on the generator's device and then moved: a seed gives the same noise on any device."""

    def draw(shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
        return drawn.to(like.device, non_blocking=True)

    return draw
