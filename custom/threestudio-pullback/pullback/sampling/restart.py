"""Check and start again: a run whose views disagree at its end goes back up and takes another path.

Views with different noises may become different objects of the model; the renders then end as a blend, which a check of
self-consistency detects. Views with the same noise never disagree, but they cannot differ where they should. So a run
begins with noise that leaves far views independent. Where a part of the object disagrees, that part alone gets new
noise, as in partial rejection sampling (Guo, Jerrum & Liu 2017): what agrees has not failed. Where all of it disagrees,
all noise is new, and after some such tries the views' noises agree more.

A try that fails is seen early, at no call. Views decide where what the model makes of them is about 2σ from the render,
as vectors; from there on an exact step multiplies that distance by σ'/σ where the views agree. Where they disagree no
field follows them all, and the distance stays while σ falls.
"""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from torch import Tensor

from ..constraints import CONSTRAINTS, Constraint, Visit
from ..errors import UserError
from ..fitting import DiffRep, Solver
from ..named import Choice
from ..noise import Coupling, Surface
from .consistency import Verdict
from .space import Space
from .state import State


def ladder(noise: Surface) -> tuple[Coupling | str, ...]:
    """Noise on the sphere; after each failure all over the next: views also share none of its variance, half, all."""
    return (*[noise] * 3, *[replace(noise, share=0.5)] * 3, "shared")


LADDER = ladder(Surface())
TRIES = 24
"""Attempts with noise on the sphere."""
ALL_OVER = 0.9
"""Where more of the surface disagrees than this share, no part of it can be kept."""
CLEARLY = 1.5
"""Thresholds of self-consistency, 2σ each, beyond which a try is taken again at its end: 3σ. In between, a view
that shows a sliver of what tells two images apart may fail by the noise of the check alone."""


class Run(Protocol):
    """A run that a restart can control, such as a `Sampler`."""

    diffrep: DiffRep
    solver: Solver
    space: Space
    sigmas: list[float]

    def check(self, draws: int = 1) -> Verdict:
        """Whether the present renders are a blend."""
        ...

    def coupling(self, state: State) -> Coupling:
        """What makes the views' noises of the state's source."""
        ...


@dataclass(frozen=True)
class Restart:
    """Goes back and tries again where `consistency.check` finds a blend at the end, or the renders stay behind before.

    It samples the distribution of the tries, conditioned on consistency. That is exact if consistent and inconsistent
    tries differ in nothing else; scenes that make agreement easy, such as one alike from all sides, come up more often.
    Every further try costs the levels from `sigma` down to where it fails, and each check two denoiser calls per view.
    A model that moves its own answers by more than the check resolves cannot tell a blend: its first try is kept.
    Source: the measurements of this project, docs/theory.md.

    Args:
        constraint: Deprecated: `constraint=Restart(constraint)` was the way of 0.1.
        noises: Couplings, in place of the sampler's `noise`: of the first try, and then one further after each try
            that fails at its end or all over; the last one is for all further tries. Where a part of a `Surface` fails,
            that part is drawn again, of the same coupling. If empty, all tries have the sampler's.
        sigma: A new try begins at the first level at or below it, except for the very first level, with the parameters
            that the first try had there, so that a failed try leaves no trace. It should lie above the σ where scenes
            part, which is about half the distance between their images as vectors; 0.4 √d if None, which is that of
            images 0.8 apart in the root mean square over their d entries.
        tries: Maximum number of attempts, including the first; the last one is kept in any case. A try fails at its end
            where self-consistency is above 1.5 times the threshold, 3σ.
        checks: Fresh draws of views in a check.
        limit: Bound of self-consistency, in place of the derived one, for a representation that reaches the model's
            images less closely. A try is then looked at only at its end.
        apart: A try fails where, at a σ of 1 or more, its renders are farther than this many σ from x̂0, as vectors, in
            the root mean square over the views. At 2 votes are cast; the rest is for the lag of fits and for views that
            vote late, without which scenes that are decided late are given up. inf: it is looked at only at its end.

    Raises:
        UserError: `sigma`, `limit` or `apart` is not above 0, or `tries` or `checks` is below 1.
    """

    constraint: Constraint | None = None
    noises: tuple[Coupling | str, ...] = LADDER
    sigma: float | None = None
    tries: int = TRIES
    checks: int = 2
    limit: float | None = None
    apart: float = 4.0

    def __post_init__(self) -> None:
        above = [self.apart, *(x for x in (self.sigma, self.limit) if x is not None)]
        if self.tries < 1 or self.checks < 1 or not all(x > 0 for x in above):
            raise UserError(f"Restart needs sigma, limit and apart above 0 and at least 1 try and check, not {self}")

    def review(self, run: Run, state: State, visit: Visit, views: Any) -> State:
        """Keeps the parameters of the first try at `sigma`, and sends a try whose views disagree back there.

        Args:
            run: The run.
            state: Its state after a visit.
            visit: The visit.
            views: Its views.

        Returns:
            The state from which the run goes on.
        """
        sigma = 0.4 * math.sqrt(visit.clean[0].numel()) if self.sigma is None else self.sigma
        if state.anchor is None and state.cycle == 0 and state.sigma <= sigma:
            state = replace(state, anchor=_keep(run, state.level))
        last = state.attempt + 1 >= self.tries
        if state.sigma > 0:
            early = not last and state.anchor is not None and self.limit is None
            return self._on_the_way(run, state, visit, views) if early else state
        verdict = run.check(self.checks)
        verdict = verdict if self.limit is None else replace(verdict, threshold=self.limit, floor=0.0)
        record = {
            **state.record, "attempt": state.attempt,
            "consistency": verdict.consistency, "threshold": verdict.threshold,
        }  # fmt: skip
        state = replace(state, nfe=state.nfe + verdict.calls, record=record, verdict=verdict)
        bound = verdict.threshold * (CLEARLY if self.limit is None else 1)
        if verdict.consistency <= bound or last or not verdict.tells:
            return state
        off = (visit.x0 - visit.clean).square()
        return _again(run, state, _renewed(run, state, visit, views, off.sum(1), bound**2 * off[0].numel()))

    def _on_the_way(self, run: Run, state: State, visit: Visit, views: Any) -> State:
        """Goes back where the renders stay behind; the first time, a check says whether the model can tell."""
        if visit.sigma < 1:  # what a good fit leaves is no longer small against σ
            return state
        off = (visit.x0 - visit.clean).square().sum(1) / visit.sigma**2  # [V,H,W]
        (behind,) = run.space.read(off.flatten(1).sum(1).mean().sqrt())
        state = replace(state, record={**state.record, "apart": behind})
        if behind <= self.apart:
            return state
        anchor = cast(dict[str, Any], state.anchor)
        if "tells" not in anchor:
            verdict = run.check()
            anchor = {**anchor, "tells": verdict.tells}
            state = replace(state, nfe=state.nfe + verdict.calls, anchor=anchor)
        if not anchor["tells"]:
            return state
        return _again(run, state, _renewed(run, state, visit, views, off, self.apart**2))


def separate(
    constraint: Choice[Constraint] | Restart | None, restart: Restart | None
) -> tuple[Constraint, Restart | None]:
    """Constraint and run control; `constraint=Restart(…)`, the way of 0.1, still works, with a warning."""
    if isinstance(constraint, Restart):
        warnings.warn("constraint=Restart(…) is now restart=Restart(…)", FutureWarning, stacklevel=4)
        restart, constraint = constraint, constraint.constraint
    return CONSTRAINTS.find("none" if constraint is None else constraint), restart


def _keep(run: Run, level: int) -> dict[str, Any]:
    params = {name: value.detach().clone() for name, value in run.diffrep.state_dict().items()}
    return {"level": level, "params": params, "solver": copy.deepcopy(run.solver.state_dict())}


def _renewed(run: Run, state: State, visit: Visit, views: Any, off: Tensor, bound: float) -> Tensor | None:
    """The source with new noise where the surface is worse than its mean; None if it disagrees all over.

    That is judged by the squares `off` [V,H,W] of how far renders are from x̂0, whose sum over a view `bound` is for.
    """
    coupling = run.coupling(state)
    if not isinstance(coupling, Surface):
        return None
    wrong, seen = coupling.average(off, views)  # as if all of an image were like the point's neighbourhood
    fails, mean = run.space.read((wrong[seen] * off[0].numel() > bound).float().mean(), wrong[seen].mean())
    return None if fails >= ALL_OVER else coupling.renew(visit.source, visit.draw(), seen & (wrong > mean))


def _again(run: Run, state: State, noise: Tensor | None = None) -> State:
    """The state at the anchor, with the next try's source, or with one of the next coupling still to be drawn."""
    anchor = cast(dict[str, Any], state.anchor)
    run.diffrep.load_state_dict(anchor["params"])
    run.solver.load_state_dict(anchor["solver"])
    return replace(
        state, level=anchor["level"], cycle=0, sigma=run.sigmas[anchor["level"]], noise=noise, memory=None,
        denoiser=None, past=(), attempt=state.attempt + 1, coupling=state.coupling + (noise is None),
    )  # fmt: skip
