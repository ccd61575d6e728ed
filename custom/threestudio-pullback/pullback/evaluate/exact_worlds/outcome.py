"""What a method of the worlds comparison hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Outcome:
    """diffrep: holds what was sampled. nfe: denoiser calls per sample, each view counted singly.

    extra: further plain values for the result's row, such as the number of restarts; numbers are averaged in
    the table.
    """

    diffrep: nn.Module
    nfe: float
    extra: dict[str, Any] = field(default_factory=dict)
