"""The implicit constraint: renders must lie in the range of θ ↦ (f(θ,π_1), …, f(θ,π_V)).

The unconstrained model's score is not the score of the model conditioned on that. A constraint says what the
renders are asked to become in a visit of level σ → σ', how often a level is visited, and which noise is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from .errors import UserError
from .noise import Coupling, refresh

if TYPE_CHECKING:
    from .sampler import Sampler
    from .state import State


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


@dataclass(frozen=True)
class Repaint(Constraint):
    """After each step σ → σ' go back up to σ with refreshed noise and repeat, `cycles` steps a level in all.

    Where the range of f is narrower than the images, comes nearer than the plain flow to the model's law conditioned on
    it, for linear f and a Gaussian prior, but slowly: in the tall case of docs/results/gauss.md the covariance is off
    by 0.064 after 1,600 calls (16 cycles) and by 0.066 after 25,600 (64 cycles), where `Langevin` is off by 0.021 after
    100. Nothing that was tried there went below 0.058. More cycles alone help up to a point only, since each step down
    is an Euler step and loses some spread again; that more levels with them lead to that law has not been seen. For
    other priors and f nothing is proven. Costs `cycles` calls per view and level.

    cycles: at least 1 (1 is the plain flow). Each further step lets the views agree before σ falls.
    Source: RePaint (Lugmayr et al. 2022) in the separated form of Savani et al. 2024.
    """

    cycles: int = 3

    def __post_init__(self) -> None:
        if self.cycles < 1:
            raise UserError(f"Repaint needs at least 1 cycle per level, not {self.cycles}.")

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        if visit.cycle == self.cycles - 1:
            return visit.source, None
        return refresh(visit.source, visit.draw(), visit.sigma, visit.sigma_next), None


@dataclass(frozen=True)
class Projection(Constraint):
    """Project x̂0 of all views onto the range of f, then noise the projection again at σ'.

    The renders are asked for x̂0 in full, and the next visit sees u' + σ' (√(1 − η²) ε̂ + η z): the predicted
    noise ε̂ = (y − x̂0)/σ and fresh z of the coupling. This is DDIM (Song et al. 2021) with its x̂0
    projected; for the identity and η = 0 it is DDIM itself.

    Converges for η = 0, with more levels and an error of 1/levels, to the model's law conditioned on the range of f,
    for linear f and a Gaussian prior: the noise outside the range is pushed, visit by visit, to where x̂0 lies in the
    range, and there x̂0 is the mean of the conditioned law. That noise is no longer white, which a network may not
    forgive; η > 0 keeps it whiter. Since x̂0 is a mean, fresh noise loses variance, the more the more levels there
    are, and at every level (η = 1) seeks modes. In the tall case of docs/results/gauss.md the covariance is off by
    0.033 after 400 calls and 0.008 after 1,600; with η = 1 by 0.49. One call per view and level.

    fresh: η in [0, 1]. Below 1 every view's own ε̂ is kept, which takes a noise of one image per view, kept
    by slot: noise='independent', or a single view; other couplings raise UserError. Euler only.
    """

    fresh: float = 0.0
    orders: ClassVar[tuple[int, ...]] = (1,)

    def __post_init__(self) -> None:
        if not 0 <= self.fresh <= 1:
            raise UserError(f"Projection's share of fresh noise must lie in [0, 1], not {self.fresh}.")

    def target(self, visit: Visit) -> Tensor:
        return visit.x0

    def renoise(self, visit: Visit) -> tuple[Tensor, Tensor | None]:
        new = visit.draw()
        if self.fresh == 1:
            return new, None
        predicted = visit.noise + (visit.clean - visit.x0) / visit.sigma
        if predicted.shape != visit.source.shape:
            raise UserError(
                "Projection with fresh < 1 keeps the predicted noise of every view; "
                "use noise='independent', or fresh=1."
            )
        return math.sqrt(1 - self.fresh**2) * predicted + self.fresh * new, None
