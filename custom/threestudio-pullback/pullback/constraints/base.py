"""The implicit constraint: renders must lie in the range of θ ↦ (f(θ,π_1), …, f(θ,π_V)).

The unconstrained model's score is not the score of the model conditioned on that. A constraint says what the
renders are asked to become in a visit of level σ → σ', how often a level is visited, and which noise is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from ..noise import Coupling

if TYPE_CHECKING:
    from ..sampling.sampler import Sampler
    from ..sampling.state import State


@dataclass(frozen=True)
class Visit:
    """What is known in one visit of a level, once the denoiser has spoken.

    clean, noise, x0: u, ε and x̂0(u + σε, σ), each [V,C,H,W]. source: the coupling's source of ε.
    draw: a fresh source of the same coupling. cycle counts from 0. memory: what `renoise` left at the visit
    before, None at the first. project(images, iterations): Space.project on the visit's views.
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
    noises: tuple[Coupling | str, ...] = ()
    """Couplings of successive tries in place of the sampler's own, where a run may be tried again."""

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

    def review(self, sampler: Sampler, state: State) -> State:
        """The state to go on from after a visit: the one reached, where nothing is judged."""
        return state


class Wrapping(Constraint):
    """A constraint that is another one, `constraint`, but for what a subclass overrides."""

    constraint: Constraint

    @property
    def cycles(self) -> int:  # type: ignore[override]
        return self.constraint.cycles

    @property
    def orders(self) -> tuple[int, ...]:  # type: ignore[override]
        return self.constraint.orders

    @property
    def noises(self) -> tuple[Any, ...]:  # type: ignore[override]
        return self.constraint.noises

    def target(self, visit: Visit) -> Tensor:
        return self.constraint.target(visit)

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        return self.constraint.renoise(visit)

    def review(self, sampler: Sampler, state: State) -> State:
        return self.constraint.review(sampler, state)
