"""Projection of the denoised images onto the range of the representation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..errors import UserError
from .base import CONSTRAINTS, Constraint, Visit


@CONSTRAINTS.register("projection")
@dataclass(frozen=True)
class Projection(Constraint):
    """Project x̂0 of all views onto the range of f, then noise the projection again at σ'.

    The target of the renders is x̂0, and the next visit sees u' + σ' (√(1 − η²) ε̂ + η z): the predicted noise
    ε̂ = (y − x̂0)/σ and fresh z of the coupling. This is DDIM (Song et al. 2021) with its x̂0 projected; for the identity
    and η = 0 it is DDIM itself. Euler only.

    Converges for η = 0, with more levels and an error of 1/levels, to the model's law conditioned on the range of f,
    for linear f and a Gaussian prior: the noise outside the range is pushed, visit by visit, to where x̂0 lies in the
    range, and there x̂0 is the mean of the conditioned law. That noise is no longer white, which a network may not
    forgive; η > 0 keeps it whiter. Since x̂0 is a mean, fresh noise loses variance, the more the more levels there
    are, and at every level (η = 1) seeks modes. In the tall case of docs/results/gauss.md the covariance is off by
    0.033 after 400 calls and 0.008 after 1,600; with η = 1 by 0.49. One call per view and level.

    Args:
        fresh: η in [0, 1].

    Raises:
        UserError: η is out of range; in a run with η below 1, which keeps each view's own ε̂, the noise has not one
            image per view, kept by slot, as noise='independent' has, or any noise of a single view.
    """

    fresh: float = 0.0
    orders: ClassVar[tuple[int | str, ...]] = (1,)
    per_view_noise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.fresh <= 1:
            raise UserError(f"Projection's share of fresh noise must lie in [0, 1], not {self.fresh}")

    def target(self, visit: Visit) -> Tensor:
        """x̂0."""
        return visit.x0

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        """The predicted noise, mixed with fresh noise."""
        new = visit.draw()
        if self.fresh == 1:
            return new, None
        predicted = visit.noise + (visit.clean - visit.x0) / visit.sigma
        if predicted.shape != visit.source.shape:
            raise UserError(
                "Projection with fresh < 1 keeps the predicted noise of every view; use noise='independent', or fresh=1"
            )
        return math.sqrt(1 - self.fresh**2) * predicted + self.fresh * new, None
