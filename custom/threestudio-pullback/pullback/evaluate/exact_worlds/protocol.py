"""What every world offers to the methods, the runner and the report."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn


class World(Protocol):
    """A prior with an exact denoiser, a representation to sample, and the right answer.

    Attributes:
        name: As on the command line.
        samples: Independent samples in one diffrep.
        defaults: Options of `pullback` whose values in this world differ from the usual ones.
        views: The views of the other methods.
    """

    name: str
    samples: int
    defaults: dict[str, Any]
    views: Any

    def diffrep(self) -> nn.Module:
        """A new representation in its start state."""
        ...

    def prepare(self) -> None:
        """Does what is done once in a process, so that no method's time includes it."""
        ...

    def views_of_a_path(self, visits: int) -> Any:
        """The views of a pulled-back path of so many visits."""
        ...

    def sigmas(self, levels: int, sigma_max: float) -> Tensor:
        """A schedule that suits the world, ending in 0."""
        ...

    def denoise(self, noisy: Tensor, sigma: float, views: Any, /) -> Tensor:
        """The exact posterior mean [V,C,H,W]."""
        ...

    def perfect(self, generator: torch.Generator) -> nn.Module:
        """A diffrep that holds a draw of the right answer."""
        ...

    def judge(self, diffrep: Any) -> dict[str, Any]:
        """The verdict on a diffrep, in plain values, for `verdict`, `measures` and `histogram`."""
        ...

    def verdict(self, row: dict[str, Any]) -> str:
        """A verdict of `judge` in a few words."""
        ...

    def measures(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The table's figures for one method, by column."""
        ...

    def histogram(self, rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor] | None:
        """The share of every mode, and its weight; None where there are no modes."""
        ...

    def picture(self, diffrep: Any) -> Tensor | None:
        """A small picture [3,H,W] in [−1, 1] of the sample; None where there is nothing to see."""
        ...
