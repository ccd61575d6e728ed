"""The implicit constraint: renders must lie in the range of θ ↦ (f(θ,π_1), …, f(θ,π_V)).

The unconstrained model's score is not the score of the model conditioned on that. A constraint defines the target of
the renders in a visit of level σ → σ', the number of visits of a level, and the noise of the next visit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..named import Named


@dataclass(frozen=True)
class Visit:
    """One visit of a level, once the denoiser has answered.

    Attributes:
        sigma: σ of the level.
        sigma_next: σ' of the next level.
        cycle: Number of the visit within the level, from 0.
        clean: u [V,C,H,W].
        noise: ε [V,C,H,W].
        x0: x̂0(u + σε, σ) [V,C,H,W].
        source: The coupling's source of ε.
        draw: () -> a fresh source of the same coupling.
        memory: What `renoise` kept at the visit before; None at the first.
        project: (images, iterations) -> their projection onto what θ can change; see Space.project.
    """

    sigma: float
    sigma_next: float
    cycle: int
    clean: Tensor
    noise: Tensor
    x0: Tensor
    source: Tensor
    draw: Callable[[], Tensor]
    memory: Tensor | None
    project: Callable[[Tensor, int], Tensor]


class Constraint:
    """The plain pulled-back flow with separated noise (Savani et al. 2024); other constraints override it.

    Samples the model's own law where every image is in the range of f. Where the range is narrower it converges to
    another law than the conditioned one: for linear f and a Gaussian prior too wide a one, whose variances are up to
    5 times the right ones and whose covariance is off by 1.0 in the tall case of docs/results/gauss.md, at any number
    of levels. One call per view and level.
    """

    cycles: int = 1
    """Visits of each level."""
    orders: ClassVar[tuple[int | str, ...]] = (1, 2, "multistep")
    """The orders of integration (1 Euler, 2 Heun, "multistep") that it allows."""
    per_view_noise: ClassVar[bool] = False
    """Whether `renoise` reads the renders and moves the noise of each view on its own. The noise must then have one
    image per view, kept by slot, and a seed alone cannot replay it."""

    def __repr__(self) -> str:
        """For errors; the dataclasses of other constraints have their own."""
        return "the plain flow"

    def target(self, visit: Visit) -> Tensor:
        """The target of the renders [V,C,H,W]: (σ'/σ) u + (1 − σ'/σ) x̂0.

        One Euler step of du/dσ = ε̂ − ε = (u − x̂0)/σ. Heun has a second-order target of its own instead.
        """
        ratio = visit.sigma_next / visit.sigma
        return ratio * visit.clean + (1 - ratio) * visit.x0

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        """Called after the fit. Here the noise is fixed along the path, and nothing is kept.

        Returns:
            The source of noise for the next visit, and what the constraint keeps until then.
        """
        return visit.source, None


CONSTRAINTS: Named[Constraint] = Named("constraint")
"""Constraints by their names in a config."""
CONSTRAINTS.register("none")(Constraint)
