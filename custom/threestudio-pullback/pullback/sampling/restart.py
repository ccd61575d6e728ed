"""Check and start again: a run whose views disagree at its end goes back up and takes another path.

Views whose noises differ decide for themselves which of the model's images they become; where they decide for
different objects the renders end as a blend. That shows without knowing the answer, by self-consistency. Views whose
noises agree never disagree, but cannot differ where they should. So a run begins with noise that leaves far views
free, and each further try ties them closer.
"""

from __future__ import annotations

import copy
import math
import warnings
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..constraints import CONSTRAINTS, Constraint
from ..errors import UserError
from ..fitting import DiffRep, Solver
from ..named import Choice
from ..noise import Coupling, Surface
from .consistency import Verdict
from .state import State


def ladder(noise: Surface) -> tuple[Coupling | str, ...]:
    """Noise on the sphere for 16 tries: what the views share of it besides is none, half of its variance, and all."""
    return (*[noise] * 12, *[replace(noise, share=0.5)] * 3, "shared")


LADDER = ladder(Surface())


class Run(Protocol):
    """What a restart needs of the run that it controls; a `Sampler` is one."""

    diffrep: DiffRep
    solver: Solver
    sigmas: list[float]

    def check(self, draws: int = 1) -> Verdict:
        """Whether the present renders are a blend."""
        ...


@dataclass(frozen=True)
class Restart:
    """At the end of a run, where `consistency.check` finds a blend, goes back and tries again.

    Samples the tries' own distribution conditioned on consistency: exact if consistent and inconsistent tries differ
    in that alone; what favours agreement, such as a scene alike from all sides, is favoured. Costs the levels from
    `sigma` down for every further try, and two denoiser calls a view for each check. Source: the check and mend of
    this project's measurements, docs/theory.md.

    Args:
        constraint: not to be given; `constraint=Restart(constraint)` is the way of 0.1.
        noises: coupling of each try, in place of the sampler's `noise`; the last one holds for all further tries;
            empty: the sampler's for all.
        sigma: a new try begins at the first level at or below it (but for the very first), from the parameters the
            first try had there, so that no memory of a failed try stays; it should lie above the σ where scenes part,
            about half the distance between their images as vectors.
        tries: maximum number of attempts, including the first; the last one is kept as it is.
        checks: fresh draws of views in a check.
        limit: of self-consistency, in place of the derived threshold, for a model whose right images f reaches less
            closely than that.

    Raises:
        UserError: sigma or limit not above 0, tries or checks below 1.
    """

    constraint: Constraint | None = None
    noises: tuple[Coupling | str, ...] = LADDER
    sigma: float = math.inf
    tries: int = len(LADDER)
    checks: int = 2
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.tries < 1 or self.checks < 1 or self.sigma <= 0 or not (self.limit is None or self.limit > 0):
            raise UserError(f"Restart needs sigma and limit above 0 and at least 1 try and check, not {self}")

    def review(self, run: Run, state: State) -> State:
        """The state to go on from after a visit.

        Keeps the parameters of the first try at `sigma`; sends an inconsistent end back there.
        """
        if state.anchor is None and state.cycle == 0 and state.sigma <= self.sigma:
            state = replace(state, anchor=_keep(run, state.level))
        if state.sigma > 0:
            return state
        verdict = run.check(self.checks)
        verdict = verdict if self.limit is None else replace(verdict, threshold=self.limit)
        record = {
            **state.record, "attempt": state.attempt,
            "consistency": verdict.consistency, "threshold": verdict.threshold,
        }  # fmt: skip
        state = replace(state, nfe=state.nfe + verdict.calls, record=record, verdict=verdict)
        if verdict.passed or state.attempt + 1 >= self.tries:
            return state
        assert state.anchor is not None
        level = _put_back(run, state.anchor)
        return replace(
            state, level=level, cycle=0, sigma=run.sigmas[level], noise=None, memory=None, attempt=state.attempt + 1
        )


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


def _put_back(run: Run, anchor: dict[str, Any]) -> int:
    run.diffrep.load_state_dict(anchor["params"])
    run.solver.load_state_dict(anchor["solver"])
    return anchor["level"]
