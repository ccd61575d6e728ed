"""When guidance is worth its second call: always, between two noise levels, or until both predictions agree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cosine_similarity

from ..errors import UserError
from ..named import Named

POLICIES: Named[GuidancePolicy] = Named("guidance_policy")
"""Policies by their names in a config."""


@POLICIES.register("always")
@dataclass(frozen=True)
class GuidancePolicy:
    """Guidance at every noise level; other policies override it."""

    remembers: ClassVar[bool] = False
    """Whether the answer depends on earlier calls, by the σ at which the predictions agreed."""

    def guides(self, sigma: float, agreed: float) -> bool:
        """Whether a view at this σ is guided; without guidance the conditional prediction stands alone.

        Args:
            sigma: σ of the view.
            agreed: The highest σ at which `agrees` was true; 0 if it never was.
        """
        return True

    def agrees(self, cond: Tensor, uncond: Tensor) -> bool:
        """Whether the guidance of these views has no further use; both are x̂0 [V,c,h,w]."""
        return False


@POLICIES.register("interval")
@dataclass(frozen=True)
class Interval(GuidancePolicy):
    """Guidance for sigma_low < σ <= sigma_high alone.

    At high σ guidance costs diversity, at low σ it changes little. The best interval is the model's own.
    Source: Kynkäänniemi et al. 2024, "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality
    in Diffusion Models" (arXiv 2404.07724).

    Args:
        sigma_low: At least 0.
        sigma_high: Above sigma_low.

    Raises:
        UserError: The interval is empty.
    """

    sigma_low: float = 0.0
    sigma_high: float = math.inf

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_low < self.sigma_high:
            raise UserError(
                f"guidance needs 0 <= sigma_low < sigma_high, not sigma_low {self.sigma_low:g} and sigma_high "
                f"{self.sigma_high:g}"
            )

    def guides(self, sigma: float, agreed: float) -> bool:
        """Whether σ lies in the interval."""
        return self.sigma_low < sigma <= self.sigma_high


@POLICIES.register("adaptive")
@dataclass(frozen=True)
class Adaptive(GuidancePolicy):
    """Guidance until the two predictions agree, and the conditional one alone from the next call on.

    They agree where the cosine of x̂0_cond and x̂0_uncond is at least `threshold` in every view of a call. The σ at which
    that happened first decides about all later calls: those at or below it have no guidance. It is the only memory; a
    sampler saves it with its state. The cosine is that of x̂0, not of ε̂ = (y − x̂0)/σ: both ε̂ are mostly the noise in y,
    and with the shipped model their cosine is above 0.997 already at the highest σ, where the two x̂0 differ most.
    Source: Castillo et al. 2023, "Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models"
    (arXiv 2312.12487), who compare the network's outputs for one picture.

    Args:
        threshold: In (0, 1]; with 1 guidance hardly ever ends.

    Raises:
        UserError: `threshold` is out of range.
    """

    threshold: float = 0.95
    remembers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise UserError(f"adaptive guidance needs a threshold in (0, 1], not {self.threshold:g}")

    def guides(self, sigma: float, agreed: float) -> bool:
        """Whether σ lies above that of the agreement."""
        return sigma > agreed

    def agrees(self, cond: Tensor, uncond: Tensor) -> bool:
        """Whether the cosine of every view reaches the threshold; a NaN does not."""
        return bool((cosine_similarity(cond.flatten(1), uncond.flatten(1)) >= self.threshold).all())
