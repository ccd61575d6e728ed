"""Noise that is kept at high σ, where it decides, and drawn anew below."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from torch import Tensor

from ..errors import UserError
from .base import Constraint, Visit


@dataclass(frozen=True)
class FreshBelow(Constraint):
    """Runs `constraint`, and draws new noise for every visit after a step to a σ' below `sigma`.

    Noise kept along the path samples: which of the model's images it becomes is decided by one draw. But what all views
    share makes them too alike down to the last detail, so that a cube loses its edges. New noise at every visit follows
    the mean E_ε[x̂0(u + σε, σ)], which seeks modes: wrong while the images that are left differ much, right once they
    are variations of one. So `sigma` belongs where the choices that matter have been made; about half the distance
    between images that differ in them, as vectors. The distribution below it is narrower than the model's: what is
    still open there is averaged, not sampled.

    Args:
        sigma: The level, above 0.
        constraint: The constraint that runs.

    Raises:
        UserError: `sigma` is not above 0.
    """

    sigma: float
    constraint: Constraint = field(default_factory=Constraint)

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise UserError(f"{type(self).__name__} needs sigma above 0, not {self.sigma}")

    @property
    def cycles(self) -> int:  # type: ignore[override]
        """Visits of each level, as `constraint` has them."""
        return self.constraint.cycles

    @property
    def orders(self) -> tuple[int | str, ...]:  # type: ignore[override]
        """The orders that `constraint` allows."""
        return self.constraint.orders

    @property
    def per_view_noise(self) -> bool:  # type: ignore[override]
        """Whether `constraint` moves the noise of each view on its own."""
        return self.constraint.per_view_noise

    def target(self, visit: Visit) -> Tensor:
        """The target of `constraint`."""
        return self.constraint.target(visit)

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        """The source of `constraint` above `sigma`, and a fresh one below."""
        source, memory = self.constraint.renoise(visit)
        return (visit.draw() if visit.sigma_next < self.sigma else source), memory


class Settle(FreshBelow):
    """The name of `FreshBelow` in 0.1; it goes away with the release after the next."""

    def __post_init__(self) -> None:
        warnings.warn("pullback.Settle is now called pullback.FreshBelow", FutureWarning, stacklevel=3)
        super().__post_init__()
