"""Check and start again: a run whose views disagree at its end goes back up and takes another path.

Views with different noises may become different objects of the model; the renders then end as a blend, which a check of
self-consistency detects. Views with the same noise never disagree, but they cannot differ where they should. So a run
begins with noise that leaves far views independent, and the noises agree more with each further try.
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
    """Noise on the sphere for 16 tries: the views also share none, then half, then all of its variance."""
    return (*[noise] * 12, *[replace(noise, share=0.5)] * 3, "shared")


LADDER = ladder(Surface())


class Run(Protocol):
    """A run that a restart can control, such as a `Sampler`."""

    diffrep: DiffRep
    solver: Solver
    sigmas: list[float]

    def check(self, draws: int = 1) -> Verdict:
        """Whether the present renders are a blend."""
        ...


@dataclass(frozen=True)
class Restart:
    """At the end of a run where `consistency.check` finds a blend, goes back and tries again.

    It samples the distribution of the tries, conditioned on consistency. That is exact if consistent and inconsistent
    tries differ in nothing else; scenes that make agreement easy, such as one alike from all sides, come up more often.
    Every further try costs the levels from `sigma` down, and each check two denoiser calls per view. Source: the
    measurements of this project, docs/theory.md.

    Args:
        constraint: Deprecated: `constraint=Restart(constraint)` was the way of 0.1.
        noises: Coupling of each try, in place of the sampler's `noise`; the last one is for all further tries. If
            empty, all tries have the sampler's.
        sigma: A new try begins at the first level at or below it, except for the very first level, with the parameters
            that the first try had there, so that a failed try leaves no trace. It should lie above the σ where scenes
            part, which is about half the distance between their images as vectors.
        tries: Maximum number of attempts, including the first; the last one is kept in any case.
        checks: Fresh draws of views in a check.
        limit: Threshold of self-consistency, in place of the derived one, for a representation that reaches the model's
            images less closely.

    Raises:
        UserError: `sigma` or `limit` is not above 0, or `tries` or `checks` is below 1.
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
        """Keeps the parameters of the first try at `sigma`, and sends an inconsistent end back there.

        Args:
            run: The run.
            state: Its state after a visit.

        Returns:
            The state from which the run goes on.
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
            state, level=level, cycle=0, sigma=run.sigmas[level], noise=None, memory=None, denoiser=None, past=(),
            attempt=state.attempt + 1,
        )  # fmt: skip


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
