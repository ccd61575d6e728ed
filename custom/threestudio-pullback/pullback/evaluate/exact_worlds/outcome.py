"""What a method of the worlds returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ...sampling.state import Result


@dataclass(frozen=True)
class Outcome:
    """What a method returns.

    Attributes:
        diffrep: The representation, after sampling.
        nfe: Denoiser calls of a sample; each view counts.
        extra: Further plain values for the result's row, such as the number of restarts. The table shows the means of
            the numbers.
    """

    diffrep: nn.Module
    nfe: float
    extra: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(diffrep: nn.Module, result: Result, samples: int = 1) -> Outcome:
        """The outcome of a sampler's result, of which the diffrep is one of `samples` samples."""
        extra = {"self-consistency": result.consistency, "flagged": result.consistency > result.threshold}
        return Outcome(diffrep, result.nfe / samples, extra)
