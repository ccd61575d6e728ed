"""Adam whose learning rate falls towards the end of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from ..errors import UserError
from .diffrep import DiffRep
from .problem import Fit, Solution
from .solvers import FirstOrder


@dataclass
class Decaying(FirstOrder):
    """`FirstOrder` at `lr` for the first half of a run's visits, then at a rate that falls geometrically to `last`.

    Early targets change from level to level and ask for long steps; late ones stand still, and a fit that is to come
    close to them must not jump about them.

    Args:
        visits: Of the run, at least 1.
        last: Learning rate of the last visit, above 0.

    Raises:
        UserError: A value is out of range.
    """

    visits: int = 1
    last: float = 0.01
    _visit: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.visits < 1 or not 0 < self.last < math.inf:
            raise UserError(f"FirstOrder, decaying, needs visits >= 1 and last > 0, not {self.visits} and {self.last}")

    def start(self, diffrep: DiffRep) -> None:
        """Begins with new moments and the first learning rate."""
        super().start(diffrep)
        self._visit = 0

    def solve(self, fit: Fit) -> Solution:
        """Takes the steps at this visit's learning rate; see `FirstOrder.solve`."""
        if self._kept is None:
            self.start(fit.diffrep)
        for group in cast(torch.optim.Optimizer, self._kept).param_groups:
            group["lr"] = self.rate(self._visit)
        self._visit += 1
        return super().solve(fit)

    def rate(self, visit: int) -> float:
        """The learning rate of a visit, counted from 0."""
        share = min(1.0, visit / max(1, self.visits - 1))
        return self.lr * (self.last / self.lr) ** max(0.0, 2 * share - 1)

    def state_dict(self) -> dict[str, Any]:
        """The optimiser's, and how many visits there were."""
        return {"optimizer": super().state_dict(), "visit": self._visit}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Sets the memory to what `state_dict` returned."""
        if saved:
            super().load_state_dict(saved["optimizer"])
            self._visit = saved["visit"]
