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
from ..studio.ddim import ddim
from .samples import Batch

Made = tuple[Tensor, int, dict[str, Any]]
"""Pictures [N,3,H,W], calls of the network for all of them, and further values for the row."""


@dataclass(frozen=True)
class FixedNoise:
    """A noise coupling with a constant ε [V,C,H,W]."""

    noise: Tensor
    kept: bool = True

    def draw(self, white: White, shape: tuple[int, ...]) -> Tensor:
        """The constant ε."""
        return self.noise

    def at(self, source: Tensor, views: Any, shape: tuple[int, ...]) -> Tensor:
        """The source itself."""
        return source


def reference(batch: Batch) -> Made:
    """The model's own pictures by DDIM, from the same noise and over the same levels."""
    sigmas, count = batch.sigmas.tolist(), len(batch.noise)
    latents = ddim(batch.denoise, sigmas[0] * batch.noise, sigmas, list(range(count)))
    with torch.no_grad():
        return batch.model.decode(latents), batch.settings.levels * batch.denoise.nfe_per_view * count, {}


def pulled_back(batch: Batch, solver: Solver, before: Callable[[float], None] | None = None) -> Made:
    """The exact flow with one view a sample, from the very state y = σ_max ε in which the reference starts.

    The latent of a SIREN's start is not 0: u₀ = E(f(θ₀)). The flow of y does not depend on how y is split into
    u + σ ε', as long as ε' stays the same; so ε' = ε − u₀/σ_max.

    Args:
        batch: The samples.
        solver: The solver of every level.
        before: Called before each level, with the share of the levels that are over.
    """
    sirens, views = batch.sirens, list(range(len(batch.noise)))
    denoise = models.RoundTrip(batch.denoise, batch.settings.rounds)
    with torch.no_grad():
        first = denoise.encode(sirens.render(views))
    noise = FixedNoise(batch.noise - first / float(batch.sigmas[0]))
    record: dict[str, Any] = {}
    if before is not None:
        before(0.0)
    for state in steps(sirens, views, denoise, batch.sigmas, noise, None, solver, 1, batch.generator):
        record = state.record
        if before is not None:
            before(state.level / (len(batch.sigmas) - 1))
    with torch.no_grad():
        pictures = sirens.render(views)
    return pictures, record["nfe"], {"residual": round(record["residual"], 5)}


def ours(batch: Batch) -> Made:
    """(JᵀJ)⁺Jᵀ by the settings' steps of Adam a level, whose rate falls geometrically over the levels."""
    settings = batch.settings
    adam = torch.optim.Adam(batch.sirens.parameters(), lr=settings.lr)

    def slow_down(share: float) -> None:
        adam.param_groups[0]["lr"] = settings.lr * (settings.lr_end / settings.lr) ** share

    return pulled_back(batch, FirstOrder(settings.lr, settings.steps, adam), slow_down)


def gauss_newton(batch: Batch) -> Made:
    """(JᵀJ)⁺Jᵀ by two Gauss–Newton iterations of 20 conjugate gradients a level."""
    return pulled_back(batch, GaussNewton(iterations=2, cg_iterations=20))


def chain_rule(batch: Batch) -> Made:
    """Jᵀ alone: one step a level along the gradient, of the length that is best for the linearised fit.

    This is Gauss–Newton with a single conjugate-gradient iteration. The step is halved where it raises the residual.
    """
    return pulled_back(batch, GaussNewton(iterations=1, cg_iterations=1))


def chain_rule_adam(batch: Batch) -> Made:
    """Jᵀ alone, one step of Adam a level, as the baselines take it."""
    return pulled_back(batch, FirstOrder(batch.settings.distil_lr, 1))


class _Apart(Step):
    """Has a random level for every sample instead of one for all."""

    def random_level(self) -> Sigma:
        at = {"generator": self.generator, "device": self.generator.device}
        index = torch.randint(len(self.levels), (len(self.clean),), **at)
        return torch.tensor(self.levels, dtype=self.clean.dtype)[index.cpu()].to(self.clean.device)


def _distilled(batch: Batch, gradient: Callable[[Step], Tensor]) -> Made:
    model, settings = batch.model, batch.settings
    levels = torch.as_tensor(model.schedule.sigmas).double()
    count = len(levels)
    kept = levels[round(0.02 * count) : round(0.98 * count)].flip(0)  # the share of the model's time that SDS uses
    result = distil(
        batch.sirens, list(range(len(batch.noise))), batch.with_gradients, torch.cat([kept, kept.new_zeros(1)]),
        lambda step: gradient(_Apart(**vars(step))),
        steps=settings.distil_steps, lr=settings.distil_lr, generator=batch.generator,
    )  # fmt: skip
    return result.renders, result.nfe, {}


def by_sds(batch: Batch) -> Made:
    """Score distillation with the weight of DreamFusion; every sample has its own level."""
    return _distilled(batch, lambda step: sds.gradient(step, "sds"))


def by_sjc(batch: Batch) -> Made:
    """Score Jacobian chaining; every sample has its own level."""
    return _distilled(batch, lambda step: sjc.gradient(step, True))


METHODS: dict[str, Callable[[Batch], Made]] = {
    "ours": ours, "gauss-newton": gauss_newton, "chain-rule": chain_rule, "chain-rule-adam": chain_rule_adam,
    "sds": by_sds, "sjc": by_sjc, "reference": reference,
}  # fmt: skip
ABLATION = ("chain-rule-adam", "chain-rule", "gauss-newton")
SINGLE = ("chain-rule", "gauss-newton")
"""These make one image at a time, because their step length and conjugate gradients are of all images together."""
