"""Noise levels and noise of the drop-in guidance: functions of (seed, step), so that a resumed run goes on exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from pullback.constraints import Constraint, Visit
from pullback.noise import Coupling, white
from pullback.seeding import derive_seed
from torch import Tensor


class Annealing:
    """Spreads the visits of all noise levels evenly over a training; several steps may share a visit.

    Between two visits the constraint renews the noise, as in the sampler. It must not read renders (`per_view_noise`),
    which a resumed run no longer has.

    Args:
        sigmas: [L+1], decreasing to 0.
        constraint: Defines the visits of a level and the noise of the next visit.
        total: Training steps; with fewer steps than visits some visits are left out, never the last level.
        coupling: Of the noise.
        seed: Of the run.
    """

    def __init__(self, sigmas: Tensor, constraint: Constraint, total: int, coupling: Coupling, seed: int) -> None:
        self.sigmas, self.constraint, self.total = [float(s) for s in sigmas], constraint, max(1, total)
        self.coupling, self.seed = coupling, seed
        self.visits = (len(self.sigmas) - 1) * constraint.cycles
        self._kept: tuple[int, tuple[int, ...], Tensor, Tensor | None] | None = None

    def level(self, step: int) -> int:
        """The level of a step; that of σ_min from the last visit on."""
        return self._index(step) // self.constraint.cycles

    def noise(self, step: int, like: Tensor, views: Any) -> Tensor:
        """ε of a step for these views, shaped like `like` [V,C,H,W] and on its device."""
        shape = tuple(like.shape)
        if not self.coupling.kept:
            return self.coupling.at(self._draw("step", step, like)(), views, shape)
        index = self._index(step)
        if self._kept is None or self._kept[0] > index or self._kept[1] != shape:
            self._kept = 0, shape, self._draw("visit", 0, like)(), None
        at, _, source, memory = self._kept
        for k in range(at, index):
            level, cycle = divmod(k, self.constraint.cycles)
            none, draw = source[:0], self._draw("visit", k + 1, like)
            sigmas = self.sigmas[level], self.sigmas[level + 1]
            visit = Visit(*sigmas, cycle, none, none, none, source, draw, memory, _no_renders)
            source, memory = self.constraint.renoise(visit)
        self._kept = index, shape, source, memory
        return self.coupling.at(source.to(like), views, shape)

    def target(self, step: int, clean: Tensor, noise: Tensor, x0: Tensor) -> Tensor:
        """The constraint's target for σ' = 0, since a loss has no step size."""
        level, cycle = divmod(self._index(step), self.constraint.cycles)
        draw = self._draw("target", step, clean)
        visit = Visit(self.sigmas[level], 0.0, cycle, clean, noise, x0, noise, draw, None, _no_renders)
        return self.constraint.target(visit)

    def _index(self, step: int) -> int:
        return min(step * self.visits // self.total, self.visits - 1)

    def _draw(self, what: str, number: int, like: Tensor) -> Callable[[], Tensor]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, what, number, "noise"))
        return lambda: self.coupling.draw(white(generator, like), tuple(like.shape))


def _no_renders(images: Tensor, iterations: int) -> NoReturn:
    raise NotImplementedError("a loss cannot project onto what the representation can render")
