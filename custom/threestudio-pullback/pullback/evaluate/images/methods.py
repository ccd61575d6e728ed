"""What makes the pictures of `pullback evaluate images` from a `Batch`: ours, its ablations, SDS, SJC, the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ... import models
from ...baselines import sds, sjc
from ...baselines.distil import Step, distil
from ...denoiser import Sigma
from ...fitting.solvers import FirstOrder, GaussNewton, Solver
from ...noise import White
from ...sampling.loops import steps
from ..studio.model import ddim
from .samples import Batch

Made = tuple[Tensor, int, dict[str, Any]]
"""Pictures [N,3,H,W], calls of the network by all of them, and what else is to be kept."""


@dataclass(frozen=True)
class Given:
    """The noise coupling whose ε is given [V,C,H,W], and kept."""

    noise: Tensor
    kept: bool = True

    def draw(self, white: White, shape: tuple[int, ...]) -> Tensor:
        return self.noise

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        return source


def reference(given: Batch) -> Made:
    """The model's own pictures by DDIM, from the same noise and over the same levels."""
    sigmas, count = given.sigmas.tolist(), len(given.noise)
    latents = ddim(given.denoise, sigmas[0] * given.noise, sigmas, list(range(count)))
    with torch.no_grad():
        return given.model.decode(latents), given.settings.levels * given.denoise.nfe_per_view * count, {}


def pulled_back(given: Batch, solver: Solver, before: Callable[[float], None] | None = None) -> Made:
    """The exact flow with one view a sample, from the very state y = σ_max ε in which the reference starts.

    A SIREN at its start is no black latent: u₀ = E(f(θ₀)) ≠ 0. The flow of y does not depend on how y is split into
    u + σ ε' as long as ε' stays fixed, so ε' = ε − u₀/σ_max. before: told the share of the levels done before each.
    """
    sirens, views = given.sirens, list(range(len(given.noise)))
    denoise = models.RoundTrip(given.denoise, given.settings.rounds)
    with torch.no_grad():
        first = denoise.encode(sirens.render(views))
    noise = Given(given.noise - first / float(given.sigmas[0]))
    record: dict[str, Any] = {}
    if before is not None:
        before(0.0)
    for state in steps(sirens, views, denoise, given.sigmas, noise, None, solver, 1, given.generator):
        record = state.record
        if before is not None:
            before(state.level / (len(given.sigmas) - 1))
    with torch.no_grad():
        pictures = sirens.render(views)
    return pictures, record["nfe"], {"residual": round(record["residual"], 5)}


def ours(given: Batch) -> Made:
    """(JᵀJ)⁺Jᵀ by the settings' steps of Adam a level, whose rate falls geometrically over the levels."""
    settings = given.settings
    adam = torch.optim.Adam(given.sirens.parameters(), lr=settings.lr)

    def slow_down(done: float) -> None:
        adam.param_groups[0]["lr"] = settings.lr * (settings.lr_end / settings.lr) ** done

    return pulled_back(given, FirstOrder(settings.lr, settings.steps, adam), slow_down)


def gauss_newton(given: Batch) -> Made:
    """(JᵀJ)⁺Jᵀ by two Gauss–Newton iterations of 20 conjugate gradients a level."""
    return pulled_back(given, GaussNewton(iterations=2, cg_iterations=20))


def chain_rule(given: Batch) -> Made:
    """Jᵀ alone: one step a level along the gradient, of the length that the linearised fit likes best.

    That is Gauss–Newton with a single conjugate gradient; where it would raise the residual, it is halved.
    """
    return pulled_back(given, GaussNewton(iterations=1, cg_iterations=1))


def chain_rule_adam(given: Batch) -> Made:
    """Jᵀ alone, one step of Adam a level, as the baselines take it."""
    return pulled_back(given, FirstOrder(given.settings.distil_lr, 1))


class _Apart(Step):
    """One level for every sample instead of one for all."""

    def random_level(self) -> Sigma:
        at = {"generator": self.generator, "device": self.generator.device}
        index = torch.randint(len(self.levels), (len(self.clean),), **at)
        return torch.tensor(self.levels, dtype=self.clean.dtype)[index.cpu()].to(self.clean.device)


def _distilled(given: Batch, gradient: Callable[[Step], Tensor]) -> Made:
    model, settings = given.model, given.settings
    levels = torch.as_tensor(model.schedule.sigmas).double()
    count = len(levels)
    kept = levels[round(0.02 * count) : round(0.98 * count)].flip(0)  # the share of the model's time that SDS uses
    result = distil(
        given.sirens, list(range(len(given.noise))), given.with_gradients, torch.cat([kept, kept.new_zeros(1)]),
        lambda step: gradient(_Apart(**vars(step))),
        steps=settings.distil_steps, lr=settings.distil_lr, generator=given.generator,
    )  # fmt: skip
    return result.renders, result.nfe, {}


def by_sds(given: Batch) -> Made:
    """Score distillation with the weight of DreamFusion, every sample at a level of its own."""
    return _distilled(given, lambda step: sds.gradient(step, "sds"))


def by_sjc(given: Batch) -> Made:
    """Score Jacobian chaining, every sample at a level of its own."""
    return _distilled(given, lambda step: sjc.gradient(step, True))


METHODS: dict[str, Callable[[Batch], Made]] = {
    "ours": ours, "gauss-newton": gauss_newton, "chain-rule": chain_rule, "chain-rule-adam": chain_rule_adam,
    "sds": by_sds, "sjc": by_sjc, "reference": reference,
}  # fmt: skip
ABLATION = ("chain-rule-adam", "chain-rule", "gauss-newton")
SINGLE = ("chain-rule", "gauss-newton")
"""Their step length and conjugate gradients are of all images together, so these make one at a time."""
