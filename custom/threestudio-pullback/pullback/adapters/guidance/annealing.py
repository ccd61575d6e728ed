"""Noise levels and noise of the drop-in guidance: functions of (seed, step), so that a resumed run goes on exactly."""

from __future__ import annotations

from typing import Any

import torch
from pullback.noise import Coupling, refresh, white
from pullback.seeding import derive_seed
from torch import Tensor


class Annealing:
    """Spreads the visits of all noise levels evenly over a training; several steps may share a visit.

    sigmas: [L+1], decreasing to 0. cycles: visits of a level; between two of them noise is refreshed as RePaint does.
    total: training steps; with fewer steps than visits some are left out, never the last level. settle: σ below which
    every visit has new noise, see pullback.Settle.
    """

    def __init__(
        self, sigmas: Tensor, cycles: int, total: int, coupling: Coupling, seed: int, settle: float = 0.0
    ) -> None:
        self.sigmas, self.cycles, self.total = [float(s) for s in sigmas], cycles, max(1, total)
        self.coupling, self.seed, self.settle = coupling, seed, settle
        self.visits = (len(self.sigmas) - 1) * cycles
        self._kept: tuple[int, tuple[int, ...], Tensor] | None = None

    def level(self, step: int) -> int:
        """The level of a step; that of σ_min from the last visit on."""
        return self._visit(step) // self.cycles

    def noise(self, step: int, like: Tensor, views: Any) -> Tensor:
        """ε of a step for these views, shaped like `like` [V,C,H,W] and on its device."""
        shape = tuple(like.shape)
        if not self.coupling.kept:
            return self.coupling.at(self._draw(("step", step), like), views, shape)
        visit = self._visit(step)
        if self._kept is None or self._kept[0] > visit or self._kept[1] != shape:
            self._kept = 0, shape, self._draw(("visit", 0), like)
        at, _, source = self._kept
        for k in range(at + 1, visit + 1):
            level, cycle = divmod(k, self.cycles)
            if self.sigmas[(k - 1) // self.cycles + 1] < self.settle:
                source = self._draw(("visit", k), like)
            elif cycle:
                source = refresh(source, self._draw(("visit", k), like), *self.sigmas[level : level + 2])
        self._kept = visit, shape, source
        return self.coupling.at(source.to(like), views, shape)

    def _visit(self, step: int) -> int:
        return min(step * self.visits // self.total, self.visits - 1)

    def _draw(self, what: tuple[str, int], like: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, *what, "noise"))
        return self.coupling.draw(white(generator, like), tuple(like.shape))
