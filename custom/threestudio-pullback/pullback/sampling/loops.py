"""The sampler as a loop: `steps` yields the state after every visit, `sample` runs to the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..constraints import Constraint
from ..denoiser import Denoiser
from ..fitting import DiffRep, Solver
from ..named import Choice
from ..noise import Coupling
from .restart import Restart
from .sampler import Sampler
from .state import Result, State


def steps(
    diffrep: DiffRep,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    noise: Choice[Coupling] | None = None,
    constraint: Choice[Constraint] | None = None,
    solver: Solver | None = None,
    order: int | str = 1,
    generator: torch.Generator | None = None,
    restart: Restart | None = None,
    resume: Mapping[str, Any] | None = None,
) -> Iterator[State]:
    """Yields the state after each visit.

    The arguments up to `restart` are those of `Sampler`. `resume` is a state's state_dict; the run goes on from it bit
    for bit, with its parameters and generator state.
    """
    sampler = Sampler(diffrep, views, denoise, sigmas, noise, constraint, solver, order, generator, restart)
    state = sampler.initial() if resume is None else sampler.restore(resume)
    while state.sigma > 0:
        state = sampler.visit(state)
        yield state


def sample(
    diffrep: DiffRep,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    noise: Choice[Coupling] | None = None,
    constraint: Choice[Constraint] | None = None,
    solver: Solver | None = None,
    order: int | str = 1,
    generator: torch.Generator | None = None,
    callback: Callable[[State], None] | None = None,
    restart: Restart | None = None,
) -> Result:
    """Samples the diffrep's parameters.

    `callback` is called with the state after every visit; the other arguments are those of `Sampler`.

    Returns:
        The renders, the cost, a record of every visit, and whether the renders are likely a blend.
    """
    sampler = Sampler(diffrep, views, denoise, sigmas, noise, constraint, solver, order, generator, restart)
    state, history = sampler.initial(), list[dict[str, Any]]()
    while state.sigma > 0:
        state = sampler.visit(state)
        history.append(state.record)
        if callback is not None:
            callback(state)
    verdict = state.verdict or sampler.check()
    renders = sampler.space.render(sampler.draw_views())
    return Result(renders, state.nfe, history, verdict.consistency, verdict.threshold, verdict.tells)
