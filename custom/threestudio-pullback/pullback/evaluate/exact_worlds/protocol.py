"""What every world offers to the methods, the runner and the report."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn


class World(Protocol):
    """A prior with an exact denoiser, something to sample, and the right answer.

    name: as on the command line. samples: independent samples in one diffrep. defaults: options of `pullback`
    that this world needs other than usual. views: what pullback.sample takes.
    """

    name: str
    samples: int
    defaults: dict[str, Any]
    views: Any

    def diffrep(self) -> nn.Module:
        """A fresh one, in its start state."""

    def prepare(self) -> None:
        """Make what is made once in a process, so that it counts for no method."""

    def sigmas(self, levels: int, sigma_max: float) -> Tensor:
        """A schedule that suits the world, ending in 0."""

    def denoise(self, noisy: Tensor, sigma: float, views: Any) -> Tensor:
        """The exact posterior mean [V,C,H,W]."""

    def perfect(self, generator: torch.Generator) -> nn.Module:
        """A diffrep that holds a draw of the right answer."""

    def judge(self, diffrep: Any) -> dict[str, Any]:
        """What the diffrep holds, in plain values: what `verdict`, `measures` and `histogram` take."""

    def verdict(self, row: dict[str, Any]) -> str:
        """A sample as `judge` gave it, in a few words."""

    def measures(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The table's figures for one method, by column."""

    def histogram(self, rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor] | None:
        """Shares found and wanted of every mode; None where there are no modes."""

    def picture(self, diffrep: Any) -> Tensor | None:
        """A small picture [3,H,W] in [−1, 1] of what was sampled; None where there is nothing to see."""
