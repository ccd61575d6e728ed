"""The sampler: θ moves so that its renders follow the reverse diffusion of a pretrained model.

At level σ the denoiser sees y_i = u_i + σ ε_i, with u_i = f(θ, π_i) the renders and ε_i noise kept apart from
θ. One visit of the level asks the renders for target_i = (σ'/σ) u_i + (1 − σ'/σ) x̂0(y_i, σ) and fits θ to
that by least squares: the probability-flow ODE, pulled back through the metric JᵀJ. Source: Savani, Finzi &
Kolter, "Diffusing Differentiable Representations", NeurIPS 2024.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .. import noise as couplings
from ..constraints import Constraint, Visit
from ..errors import NonFiniteError, UserError
from ..fitting.linearise import trainable
from ..fitting.solvers import FirstOrder, Solver
from .consistency import check
from .schedule import check_sigmas
from .space import Denoiser, Space
from .state import Result, State

_log = logging.getLogger(__name__)


class Sampler:
    """The pulled-back sampler, one visit of a noise level at a time; `steps` and `sample` are loops over it.

    diffrep: nn.Module with render(views) -> [V,C,H,W] in [−1,1], and optionally residual(views, target,
    generator), an unbiased random subset of render(views) − target. views: what render takes, or a callable
    (generator) -> views that is asked afresh at every visit. denoise: (noisy, sigma, views) -> x̂0; may bring
    `encode`, `decode` and `fit_space` (see space.Space) and `nfe_per_view`. sigmas: 1-D, decreasing, ending
    in 0. noise: a name in noise.COUPLINGS or a coupling. order: 1 Euler, which for the identity is DDIM; 2
    Heun, of second order where the fits reach their targets or f is linear. generator: draws views and noise;
    seeded from torch's global one if None. Raises UserError for bad arguments.
    """

    def __init__(
        self,
        diffrep: nn.Module,
        views: Any,
        denoise: Denoiser,
        sigmas: Tensor,
        noise: str | couplings.Coupling = "shared",
        constraint: Constraint | None = None,
        solver: Solver | None = None,
        order: int = 1,
        generator: torch.Generator | None = None,
    ):
        self.diffrep, self.views = diffrep, views
        self.space = Space(diffrep, denoise)
        self.sigmas = check_sigmas(sigmas)
        self.constraint = constraint or Constraint()
        self.couplings = [couplings.find(name) for name in self.constraint.noises or (noise,)]
        self.solver = solver or FirstOrder()
        self.solver.start(diffrep)
        if order not in self.constraint.orders:
            allowed = " or ".join(map(str, self.constraint.orders))
            raise UserError(f"order must be {allowed} with {self.constraint}, not {order}.")
        self.order = order
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self.generator = generator

    def remaining(self, state: State) -> int:
        """Visits from this state to the end of its try."""
        return (len(self.sigmas) - 1 - state.level) * self.constraint.cycles - state.cycle

    def initial(self) -> State:
        """The state before the first visit; nothing is rendered or drawn yet."""
        return State(self, 0, 0, self.sigmas[0], None, None, math.nan, 0, {}, self.generator.get_state())

    def restore(self, saved: dict[str, Any]) -> State:
        """The state of a state_dict; sets the diffrep's parameters and the solver's memory too.

        Raises UserError if it was made with other sigmas or cycles.
        """
        if saved["sigmas"] != self.sigmas or saved["cycles"] != self.constraint.cycles:
            raise UserError("The saved state was made with other sigmas or cycles; resume with the same ones.")
        if "params" in saved:
            self.diffrep.load_state_dict(saved["params"])
            self.solver.load_state_dict(saved["solver"])
        keys = ("level", "cycle", "noise", "memory", "residual", "nfe", "rng", "attempt", "anchor")
        kept = {key: saved[key] for key in keys}
        return replace(self.initial(), sigma=self.sigmas[saved["level"]], **kept)

    def visit(self, state: State) -> State:
        """One visit of the state's level; a function of state, θ and the solver's memory, which it changes.

        Raises NonFiniteError, naming level, σ and view, if a NaN turns up; θ is then as it was before.
        """
        before = {name: p.detach().clone() for name, p in trainable(self.diffrep).items()}
        self.generator.set_state(state.rng.cpu())
        try:
            state = self.constraint.review(self, self._visit(state))
            return replace(state, rng=self.generator.get_state())
        except NonFiniteError as error:
            with torch.no_grad():
                for name, parameter in trainable(self.diffrep).items():
                    parameter.copy_(before[name])
            where = f"at level {state.level}, cycle {state.cycle}, sigma {state.sigma:.4g}"
            raise NonFiniteError(f"Stopped {where}: {error}.") from error

    def _visit(self, state: State) -> State:
        space, sigma, sigma_next = self.space, *self.sigmas[state.level : state.level + 2]
        views = self.draw_views()
        clean = space.clean(views)
        coupling = self.couplings[min(state.attempt, len(self.couplings) - 1)]
        draw = self._source_of(clean, coupling)
        source = draw() if state.noise is None or not coupling.kept else state.noise.to(clean)
        eps = coupling.at(source, views, tuple(clean.shape))
        x0 = space.denoise(clean + sigma * eps, sigma, views)
        memory = None if state.memory is None else state.memory.to(clean)
        project = partial(space.project, views)
        visit = Visit(sigma, sigma_next, state.cycle, clean, eps, x0, source, draw, memory, project)
        solution = space.fit(self.solver, views, self.constraint.target(visit), self.generator)
        nfe = state.nfe + space.calls(len(clean))
        if self.order == 2 and sigma_next > 0:
            # The corrector goes on from the predictor's θ, which is nearer to the same minimum.
            ahead = space.clean(views)
            x0_ahead = space.denoise(ahead + sigma_next * eps, sigma_next, views)
            slope = ((clean - x0) / sigma + (ahead - x0_ahead) / sigma_next) / 2
            solution = space.fit(self.solver, views, clean + (sigma_next - sigma) * slope, self.generator)
            nfe += space.calls(len(clean))
        record = {
            "level": state.level, "cycle": state.cycle, "sigma": sigma, "sigma_next": sigma_next,
            "residual": solution.residual, "residual_before": solution.start, "fit_steps": solution.steps,
            "outcome": solution.outcome.name, "nfe": nfe,
        }  # fmt: skip
        _log.debug("%s: %s", record, solution.outcome.value)
        source, memory = self.constraint.renoise(visit)
        further, cycle = divmod(state.cycle + 1, self.constraint.cycles)
        level = state.level + further
        return replace(
            state, level=level, cycle=cycle, sigma=self.sigmas[level], noise=source, memory=memory,
            residual=solution.residual, nfe=nfe, record=record,
        )  # fmt: skip

    def draw_views(self) -> Any:
        """The fixed views, or a fresh draw."""
        return self.views(self.generator) if callable(self.views) else self.views

    def _source_of(self, clean: Tensor, coupling: couplings.Coupling) -> Callable[[], Tensor]:
        white = couplings.white(self.generator, clean)
        return lambda: coupling.draw(white, tuple(clean.shape))


def steps(*arguments: Any, resume: dict[str, Any] | None = None, **named: Any) -> Iterator[State]:
    """The states after each visit; arguments as for Sampler.

    resume: a state's state_dict; goes on after it bit for bit, with its parameters and generator state.
    """
    sampler = Sampler(*arguments, **named)
    state = sampler.initial() if resume is None else sampler.restore(resume)
    while state.sigma > 0:
        state = sampler.visit(state)
        yield state


def sample(
    diffrep: nn.Module,
    views: Any,
    denoise: Denoiser,
    sigmas: Tensor,
    noise: str | couplings.Coupling = "shared",
    constraint: Constraint | None = None,
    solver: Solver | None = None,
    order: int = 1,
    generator: torch.Generator | None = None,
    callback: Callable[[State], None] | None = None,
) -> Result:
    """Sample the diffrep's parameters; arguments as for Sampler. callback: called after every visit."""
    sampler = Sampler(diffrep, views, denoise, sigmas, noise, constraint, solver, order, generator)
    state, history = sampler.initial(), []
    while state.sigma > 0:
        state = sampler.visit(state)
        history.append(state.record)
        if callback is not None:
            callback(state)
    judged = state.judged or check(sampler)
    return Result(sampler.space.render(sampler.draw_views()), state.nfe, history, judged.consistency, judged.threshold)
