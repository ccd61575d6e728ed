"""What a method of the worlds comparison hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ...sampling.state import Result


@dataclass(frozen=True)
class Outcome:
    """diffrep: holds what was sampled. nfe: denoiser calls per sample, each view counted singly.

    extra: further plain values for the result's row, such as the number of restarts; numbers are averaged in
    the table.
    """

    diffrep: nn.Module
    nfe: float
    extra: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(diffrep: nn.Module, result: Result, samples: int = 1) -> Outcome:
        """What a sampler's result says of a diffrep, one of so many samples."""
        extra = {"self-consistency": result.consistency, "flagged": result.consistency > result.threshold}
        return Outcome(diffrep, result.nfe / samples, extra)
