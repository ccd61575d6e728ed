"""The implicit constraint: renders must lie in the range of θ ↦ (f(θ,π_1), …, f(θ,π_V)).

The unconstrained model's score is not the score of the model conditioned on that. A constraint says what the
renders are asked to become in a visit of level σ → σ', how often a level is visited, and which noise is kept.
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
        sigma, sigma_next: σ of the level and σ' of the next.
        cycle: which visit of the level this is, from 0.
        clean, noise, x0: u, ε and x̂0(u + σε, σ), each [V,C,H,W].
        source: the coupling's source of ε.
        draw: () -> a fresh source of the same coupling.
        memory: what `renoise` left at the visit before; None at the first.
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
    orders: ClassVar[tuple[int, ...]] = (1, 2)
    """The orders of integration (1 Euler, 2 Heun) that make sense with it."""
    per_view_noise: ClassVar[bool] = False
    """Whether `renoise` reads the renders and moves the noise of every view by itself: it takes a noise of one image
    per view, kept by slot, and cannot be replayed from a seed alone."""

    def target(self, visit: Visit) -> Tensor:
        """What the renders should become [V,C,H,W]: (σ'/σ) u + (1 − σ'/σ) x̂0.

        One Euler step of du/dσ = ε̂ − ε = (u − x̂0)/σ. Heun puts its own, second-order target in its place.
        """
        ratio = visit.sigma_next / visit.sigma
        return ratio * visit.clean + (1 - ratio) * visit.x0

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        """The source of noise for the next visit and what the constraint keeps until then.

        Called after the fit. Here the source is the same, for noise fixed along the path, and nothing is kept.
        """
        return visit.source, None


CONSTRAINTS: Named[Constraint] = Named("constraint")
"""Constraints by the name that a config knows them by."""
CONSTRAINTS.register("none")(Constraint)
