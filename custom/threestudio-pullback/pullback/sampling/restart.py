"""Check and start again: a run whose views disagree at its end goes back up and takes another path.

Views whose noises differ decide for themselves which of the model's images they become; where they decide for
different objects the renders end as a blend. That shows without knowing the answer, by self-consistency. Views whose
noises agree never disagree, but cannot differ where they should. So a run begins with noise that leaves far views
free, and each further try ties them closer.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..constraints import Constraint, Wrapping
from ..errors import UserError
from ..noise import Coupling
from ..noise.surface import Surface
from .consistency import check

if TYPE_CHECKING:
    from .sampler import Sampler
    from .state import State

LADDER: tuple[Coupling | str, ...] = (*[Surface()] * 12, *[Surface(share=0.5)] * 3, "shared")
"""Noise on the sphere: what the views share of it besides is none, half of its variance, and all."""


@dataclass(frozen=True)
class Restart(Wrapping):
    """Runs `constraint`; at the end, where `consistency.check` finds a blend, goes back and tries again.

    noises: coupling of each try, in place of the sampler's `noise`; the last one holds for all further tries; empty:
    the sampler's for all. sigma: a new try begins at the first level at or below it (but for the very first), from the
    parameters the first try had there, so that no memory of a failed try stays; it should lie above the σ where scenes
    part, about half the distance between their images as vectors. tries: at most so many, the last one is kept as it
    is. checks: fresh draws of views in a check. limit: of self-consistency, in place of the derived threshold, for a
    model whose right images f reaches less closely than that.

    Samples the tries' own distribution conditioned on consistency: exact if consistent and inconsistent tries differ
    in that alone; what favours agreement, such as a scene alike from all sides, is favoured. Costs the levels from
    `sigma` down for every further try, and two denoiser calls a view for each check. Source: the check and mend of
    this project's measurements, docs/theory.md.
    """

    constraint: Constraint = field(default_factory=Constraint)
    noises: tuple[Coupling | str, ...] = LADDER
    sigma: float = math.inf
    tries: int = len(LADDER)
    checks: int = 2
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.tries < 1 or self.checks < 1 or self.sigma <= 0 or not (self.limit is None or self.limit > 0):
            raise UserError(f"Restart needs sigma and limit above 0 and at least 1 try and check, not {self}.")

    def review(self, sampler: Sampler, state: State) -> State:
        """Keeps the parameters of the first try at `sigma`; sends an inconsistent end back there."""
        if state.anchor is None and state.cycle == 0 and state.sigma <= self.sigma:
            state = replace(state, anchor=_keep(sampler, state.level))
        if state.sigma > 0:
            return state
        judged = check(sampler, self.checks)
        judged = judged if self.limit is None else replace(judged, threshold=self.limit)
        record = {
            **state.record, "attempt": state.attempt, "consistency": judged.consistency, "threshold": judged.threshold,
        }  # fmt: skip
        state = replace(state, nfe=state.nfe + judged.calls, record=record, judged=judged)
        if judged.passed or state.attempt + 1 >= self.tries:
            return state
        assert state.anchor is not None
        level = _put_back(sampler, state.anchor)
        sigma, attempt = sampler.sigmas[level], state.attempt + 1
        return replace(state, level=level, cycle=0, sigma=sigma, noise=None, memory=None, attempt=attempt)


def _keep(sampler: Sampler, level: int) -> dict[str, Any]:
    params = {name: value.detach().clone() for name, value in sampler.diffrep.state_dict().items()}
    return {"level": level, "params": params, "solver": copy.deepcopy(sampler.solver.state_dict())}


def _put_back(sampler: Sampler, anchor: dict[str, Any]) -> int:
    sampler.diffrep.load_state_dict(anchor["params"])
    sampler.solver.load_state_dict(anchor["solver"])
    return anchor["level"]
