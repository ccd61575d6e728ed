"""The sampler: θ moves so that its renders follow the reverse diffusion of a pretrained model.

At level σ the denoiser sees y_i = u_i + σ ε_i, with u_i = f(θ, π_i) the renders and ε_i noise kept apart from
θ. One visit of the level fits θ by least squares to the targets (σ'/σ) u_i + (1 − σ'/σ) x̂0(y_i, σ) of the renders, σ'
the next level: the probability-flow ODE, pulled back through the metric JᵀJ. Source: Savani, Finzi & Kolter, "Diffusing
Differentiable Representations", NeurIPS 2024.

The noises of all views come from one source of white noise, by a coupling. A constraint may have another target,
another source for the next visit, and several visits (cycles) of a level; between two of them the source is mixed with
fresh noise, so that the renders, already at σ', are denoised from σ again. docs/notation.md has all words.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import noise as couplings
from ..constraints import Constraint, Visit
from ..denoiser import Denoiser
from ..errors import NonFiniteError, UserError
from ..fitting import DiffRep, FirstOrder, Solution, Solver, trainable
from ..named import Choice
from ..noise import Coupling
from .consistency import Verdict, check
from .integrators import INTEGRATORS, Past, set_parameters
from .restart import Restart, separate
from .schedule import check_sigmas
from .space import Space
from .state import SAVED, State

_log = logging.getLogger(__name__)


class Sampler:
    """The pulled-back sampler, one visit of a noise level at a time; `steps` and `sample` are loops over it.

    Args:
        diffrep: nn.Module with render(views) -> [V,C,H,W] in [−1,1], and optionally residual(views, target, generator),
            an unbiased random part of render(views) − target; see `DiffRep`.
        views: The argument of render, or a callable (generator) -> views, which draws views at every visit.
        denoise: (noisy, sigma, views) -> x̂0; it may have `encode`, `decode`, `fit_space` and `nfe_per_view`, see
            `Denoiser`.
        sigmas: 1-D, decreasing, ending in 0.
        noise: A name in noise.COUPLINGS, `{"type": name, option: value}`, or a coupling; if None, "slot" for a joint
            denoiser, one image per place in a group, and "shared" for any other.
        constraint: Keeps the renders in the range of f: a name in CONSTRAINTS, with options as for noise, or a
            constraint; the plain flow if None.
        solver: Of a level's fit; FirstOrder() if None.
        order: 1 Euler, which for f the identity is DDIM; 2 Heun, of second order where the fits reach their targets or
            f is linear, for two calls a visit; "multistep", of second order too, for one call, see `integrators`. It
            extrapolates along noise that is kept, and takes Euler's step where noise is new.
        generator: Draws views and noise; its seed comes from torch's global generator if None.
        restart: Whether and where a run whose views disagree at its end begins again; never if None.

    Raises:
        UserError: An argument is out of range.
    """

    def __init__(
        self,
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
    ):
        self.diffrep, self.views = diffrep, views
        self.space = Space(diffrep, denoise)
        self.sigmas = check_sigmas(sigmas)
        self.constraint, self.restart = separate(constraint, restart)
        tries = () if self.restart is None else self.restart.noises
        self.couplings = [couplings.find(name) for name in tries or (noise or self.space.noise,)]
        self.solver = solver or FirstOrder()
        self.solver.start(diffrep)
        if order not in self.constraint.orders:
            allowed = " or ".join(map(repr, self.constraint.orders))
            raise UserError(f"order must be {allowed} with {self.constraint}, not {order!r}")
        if order == "multistep" and not any(coupling.kept for coupling in self.couplings):
            raise UserError(f"order multistep follows noise that is kept, and noise={noise!r} is new at every visit")
        self.order, self.integrate = order, INTEGRATORS[order]
        if generator is None:
            generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self.generator = generator

    def visit(self, state: State, views: Any = None) -> State:
        """One visit of the state's level; moves θ and the solver's moments. A NonFiniteError leaves θ as it was."""
        with self._undo_where_not_finite(state):
            sigma, sigma_next = self.sigmas[state.level], self.sigmas[state.level + 1]
            views = self.draw_views() if views is None else views  # a framework hands its own in
            clean = self.space.clean(views)  # the renders u, in the denoiser's space
            source, noise, draw = self._noise(state, views, clean)
            x0 = self.space.denoise(clean + sigma * noise, sigma, views)
            memory = None if state.memory is None else state.memory.to(clean)
            project = partial(self.space.project, views)
            visit = Visit(sigma, sigma_next, state.cycle, clean, noise, x0, source, draw, memory, project)
            target = self.constraint.target(visit)  # plain: (σ'/σ) u + (1 − σ'/σ) x̂0
            fit = partial(self.space.fit, self.solver, views, generator=self.generator)
            solution, past = self.integrate(self.space, fit, visit, views, target, state.past)
            source, memory = self.constraint.renoise(visit)  # what the next visit's noise is made of
            state = self._next(state, visit, solution, source, memory, past)
            return self._with_run(state if self.restart is None else self.restart.review(self, state, visit, views))

    def _noise(self, state: State, views: Any, clean: Tensor) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
        """The coupling's source, the noise [V,C,H,W] of the views, and a function that draws another source."""
        coupling, shape = self.coupling(state), tuple(clean.shape)
        draw = partial(coupling.draw, couplings.white(self.generator, clean), shape)
        source = draw() if state.noise is None or not coupling.kept else state.noise.to(clean)
        return source, self.space.finite(coupling.at(source, views, shape), "the noise"), draw

    def coupling(self, state: State) -> Coupling:
        """What makes the views' noises of the state's source."""
        return self.couplings[min(state.coupling, len(self.couplings) - 1)]

    def _next(
        self, state: State, visit: Visit, solution: Solution, source: Tensor, memory: Tensor | None, past: Past
    ) -> State:
        """The state after a visit."""
        nfe = state.nfe + self.space.nfe
        kept = self.coupling(state).kept and source is visit.source  # the past of other noise leads elsewhere
        record = {
            "level": state.level, "cycle": state.cycle, "sigma": visit.sigma, "sigma_next": visit.sigma_next,
            "residual": solution.residual, "residual_before": solution.start, "fit_steps": solution.steps,
            "outcome": solution.outcome.name, "nfe": nfe,
        }  # fmt: skip
        _log.debug("%s: %s", record, solution.outcome.value)
        levels_done, cycle = divmod(state.cycle + 1, self.constraint.cycles)
        level = state.level + levels_done
        return replace(
            state, level=level, cycle=cycle, sigma=self.sigmas[level], noise=source, memory=memory,
            residual=solution.residual, nfe=nfe, record=record, denoiser=self.space.memory, past=past if kept else (),
        )  # fmt: skip

    def _with_run(self, state: State) -> State:
        """The state with what the run holds outside of it; θ and the solver's moments are shared, not copied."""
        params, solver = self.diffrep.state_dict(), self.solver.state_dict()
        return replace(state, rng=self.generator.get_state(), params=params, solver=solver)

    @contextlib.contextmanager
    def _undo_where_not_finite(self, state: State) -> Generator[None, None, None]:
        """Sets generator and denoiser to the state's; a NonFiniteError puts θ and moments back and gets level and σ."""
        before = {name: p.detach().clone() for name, p in trainable(self.diffrep).items()}
        moments = copy.deepcopy(self.solver.state_dict())
        self.generator.set_state(state.rng.cpu())
        self.space.begin(state.denoiser)
        try:
            with self.space.checked_together():
                yield
        except NonFiniteError as error:
            set_parameters(self.diffrep, before)
            self.solver.load_state_dict(moments)
            where = f"at level {state.level}, cycle {state.cycle}, sigma {state.sigma:.4g}"
            raise NonFiniteError(f"stopped {where}: {error}") from error

    def draw_views(self) -> Any:
        """The fixed views, or a fresh draw."""
        return self.views(self.generator) if callable(self.views) else self.views

    def check(self, draws: int = 1) -> Verdict:
        """Whether the present renders are a blend; see `consistency.check`."""
        return check(self.space, self.draw_views, self.sigmas, self.generator, draws)

    def remaining(self, state: State) -> int:
        """Visits from this state to the end of its try."""
        return (len(self.sigmas) - 1 - state.level) * self.constraint.cycles - state.cycle

    def initial(self) -> State:
        """The state before the first visit; nothing is rendered or drawn yet."""
        rng, cycles = self.generator.get_state(), self.constraint.cycles
        start = State(0, 0, self.sigmas[0], None, None, math.nan, 0, {}, rng, sigmas=self.sigmas, cycles=cycles)
        return self._with_run(start)

    def restore(self, saved: Mapping[str, Any]) -> State:
        """The state of a state_dict; it also sets the diffrep's parameters and the solver's memory.

        Raises:
            UserError: The saved run had other sigmas or cycles.
        """
        if saved["sigmas"] != self.sigmas or saved["cycles"] != self.constraint.cycles:
            raise UserError("the saved state was made with other sigmas or cycles; resume with the same ones")
        if "params" in saved:
            self.diffrep.load_state_dict(saved["params"])
            self.solver.load_state_dict(saved["solver"])
        values = {name: saved[name] for name in SAVED if name in saved}  # older states have fewer
        return replace(self.initial(), sigma=self.sigmas[saved["level"]], **values)
